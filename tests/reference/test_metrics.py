"""All metrics at all layers against the reference: in memory to the last digits, then the study's files.

The workflow's passes are in single precision. A map is then known to ROUNDING of its length, and of each metric no more
can be asked than follows from that.
"""

import math

import numpy as np
import pytest
import torch

from perturbflow.measuring.metrics import ALL_METRICS
from perturbflow.measuring.propagation import layer_distances
from tests.reference import metrics
from tests.reference.comparison import (
    LOGIT_ROUNDING,
    NORMALIZATION,
    as_reference,
    classifier_of_the_package,
    images_in_memory,
    read_csv,
)
from tests.reference.interventions import margin
from tests.reference.metrics import OF_ONE_MAP, gains, linear_cka, mean_and_interval, relative_error
from tests.reference.networks import Classifier, read_classifier, read_column, read_images
from tests.reference.small_networks import BRANCHING_MAPS, Branching
from tests.workflow.study import Study

ROUNDING = 5e-5
"""To what share of its length a map is known from a pass in single precision; 2e-5 was seen, at small logits."""

CANCELLATION = 1e-6
"""What the reference's HSIC, a small difference of large sums, loses at layers whose maps have a large mean."""


def of_all_layers(clean: list[torch.Tensor], other: list[torch.Tensor], pixels: float) -> list[dict[str, float]]:
    """The metrics of an image at each layer, from its clean and its other maps."""
    of_layers = [
        {name: function(c, o) for name, function in OF_ONE_MAP.items()} for c, o in zip(clean, other, strict=True)
    ]
    for values, gain in zip(of_layers, gains([values["relative_error"] for values in of_layers], pixels), strict=True):
        values["gain"] = gain
    return of_layers


@pytest.mark.parametrize("input_size", [16, 12], ids=["as large", "smaller"])
def test_every_metric_at_every_layer_is_the_reference_s(input_size: int) -> None:
    """Of 40 images in two blocks, one of them black, one not changed; with maps in tuples, and before an activation."""
    clean, conditions = images_in_memory(40, 16)
    reference = Classifier(Branching(seed=0), BRANCHING_MAPS, input_size, **NORMALIZATION)
    found = layer_distances(
        classifier_of_the_package(reference),
        clean,
        conditions,
        np.zeros(40, np.int64),
        ALL_METRICS,
        batch_size=8,
        device=torch.device("cpu"),
    )
    assert {*found.per_image} == {*OF_ONE_MAP, "gain"} and {*found.whole_set} == {"linear_cka"}
    clean_maps = [reference.maps(image) for image in as_reference(clean)]
    n_undefined = 0
    for condition, images in enumerate(conditions.values()):
        other_maps = [reference.maps(image) for image in as_reference(images)]
        for number, (image, other) in enumerate(zip(as_reference(clean), as_reference(images), strict=True)):
            pixels = relative_error(image.flatten(), other.flatten())
            for layer, expected in enumerate(of_all_layers(clean_maps[number], other_maps[number], pixels)):
                for name, value in expected.items():
                    of_package = found.per_image[name][condition, layer, number]
                    # The reference's plain equations lose digits where little has changed: angles by arccos.
                    rounding = 1e-5 if name == "angle" else 1e-12
                    assert of_package == pytest.approx(value, rel=1e-9, abs=rounding, nan_ok=True), (name, layer)
                    n_undefined += math.isnan(value)
        for layer in range(len(BRANCHING_MAPS)):
            expected = linear_cka([maps[layer] for maps in clean_maps], [maps[layer] for maps in other_maps])
            assert found.whole_set["linear_cka"][condition, layer] == pytest.approx(expected, abs=CANCELLATION)
    # The share of no change at each layer, the gain over it, and the gain over that of a black image's pixels.
    assert n_undefined == 2 * len(BRANCHING_MAPS) + len(conditions)


def test_a_small_last_block_does_not_weigh_as_a_whole_one() -> None:
    """Of 68 images, four more than two blocks: three of 23, 23 and 22 images, in the reference as in the package."""
    clean, conditions = images_in_memory(68, 8)
    reference = Classifier(Branching(seed=0), BRANCHING_MAPS, 8, **NORMALIZATION)
    found = layer_distances(
        classifier_of_the_package(reference),
        clean,
        conditions,
        np.zeros(68, np.int64),
        ["linear_cka"],
        64,
        torch.device("cpu"),
    )
    maps = [[reference.maps(image) for image in as_reference(images)] for images in (clean, conditions["none"])]
    for layer in range(len(BRANCHING_MAPS)):
        expected = linear_cka(*([maps_of_image[layer] for maps_of_image in of_images] for of_images in maps))
        assert found.whole_set["linear_cka"][0, layer] == pytest.approx(expected, abs=CANCELLATION)
        assert expected[1] < expected[0] < expected[2]


def rounding_of(name: str, c: torch.Tensor, values: dict[str, float], before: float) -> float:
    """How far a metric may be off, as maps are known to ROUNDING. before: the relative error at the layer before."""
    error = values["relative_error"]
    if name == "normalized_euclidean":
        return ROUNDING * (1 + error) * metrics.length(c) / len(c)
    if name == "cosine":
        # t^2 / 2 of the angle t, which is known to ROUNDING.
        return ROUNDING * math.sqrt(2 * max(0, values["cosine"])) + ROUNDING**2
    if name == "angle":
        return math.degrees(ROUNDING)
    if name == "along_share":
        return 2 * ROUNDING / error
    if name == "gain":
        return values["gain"] * (ROUNDING / error + ROUNDING / before)
    return ROUNDING * (1 + error)


CONDITIONS = [(name, denoiser) for name in ("fgsm", "ifgsm", "noise") for denoiser in ("none", "unet")]


@pytest.mark.workflow
@pytest.mark.parametrize(("name", "denoiser"), CONDITIONS)
def test_the_study_s_distances_are_the_reference_s(finished_study: Study, name: str, denoiser: str) -> None:
    results = finished_study.folder / "results/tiny"
    classifier = read_classifier(results / "classifiers/resnetv2_50/checkpoint.pt")
    place = f"adversarial/{name}" if denoiser == "none" else f"denoised/{denoiser}/{name}"
    clean, labels = read_images(results / "data/train.h5"), read_column(results / "data/train.h5", "label")
    others = read_images(results / f"{place}/train.h5")
    frames = {
        kind: read_csv(results / path)
        for kind, path in {
            "images": f"distances/resnetv2_50/{name}_images.csv.gz",
            "means": f"distances/resnetv2_50/{name}.csv",
            "predictions": f"predictions/resnetv2_50/{name}.csv.gz",
        }.items()
    }
    frames = {kind: frame[frame["denoiser"] == denoiser] for kind, frame in frames.items()}
    measured = frames["predictions"]["index"].tolist()
    assert len({*measured}) == 16 and measured == sorted(measured) and {*measured} <= {*range(48)}

    clean_maps = {image: classifier.maps(clean[image]) for image in measured}
    other_maps = {image: classifier.maps(others[image]) for image in measured}
    of_file = frames["images"].set_index(["position", "index"])
    means = frames["means"].set_index("position")
    n_layers = len(classifier.feature_maps)
    assert len(of_file) == n_layers * len(measured) and len(means) == n_layers
    metrics_of_study = [column for column in of_file if column not in ("denoiser", "label")]
    assert {*metrics_of_study} == {
        "normalized_euclidean", "cosine", "relative_error", "gain", "along_share", "norm_change", "angle",
    }  # fmt: skip

    values_of_layers = []
    for image in measured:
        pixels = relative_error(clean[image].flatten(), others[image].flatten())
        of_layers = of_all_layers(clean_maps[image], other_maps[image], pixels)
        values_of_layers.append(of_layers)
        before = pixels
        for layer, values in enumerate(of_layers):
            row = of_file.loc[(layer + 1, image)]
            assert row["label"] == labels[image]
            for metric in metrics_of_study:
                if values["relative_error"] == 0 and metric in ("along_share", "gain"):
                    continue  # of an image that has not changed rounding alone decides whether there is a ratio
                rounding = rounding_of(metric, clean_maps[image][layer], values, before)
                assert row[metric] == pytest.approx(values[metric], rel=0, abs=rounding), (metric, layer)
            before = values["relative_error"]

    for layer in range(n_layers):
        row = means.loc[layer + 1]
        assert row["n_elements"] == len(clean_maps[measured[0]][layer]) and row["n_images"] == len(measured)
        for metric in metrics_of_study:
            # Means and intervals of the file's own numbers: these have been compared.
            expected = mean_and_interval(of_file.loc[layer + 1][metric].tolist())
            for statistic, value in zip(("mean", "std", "ci_low", "ci_high"), expected, strict=True):
                assert row[f"{metric}_{statistic}"] == pytest.approx(value, rel=1e-9, abs=1e-12), (metric, layer)
        value, low, high = linear_cka(
            *([maps[image][layer] for image in measured] for maps in (clean_maps, other_maps))
        )
        assert row["linear_cka_mean"] == pytest.approx(value, abs=ROUNDING)
        assert math.isnan(low) and math.isnan(high)
        assert math.isnan(row["linear_cka_ci_low"]) and math.isnan(row["linear_cka_ci_high"])

    for of_prediction in frames["predictions"].to_dict("records"):
        image = of_prediction["index"]
        for images, column in ((clean, "_clean"), (others, "")):
            logits = classifier(images[image])
            expected = margin(logits, labels[image])
            assert of_prediction[f"margin{column}"] == pytest.approx(expected, abs=LOGIT_ROUNDING)
            if abs(expected) > LOGIT_ROUNDING:
                assert of_prediction[f"predicted{column}"] == int(logits.argmax())
