"""Passes that go on from changed maps against the reference: in memory to the last digits, then the study's files."""

import numpy as np
import pytest
import torch

from perturbflow.measuring.interventions import intervene
from tests.reference.comparison import (
    LOGIT_ROUNDING,
    NORMALIZATION,
    as_reference,
    classifier_of_the_package,
    images_in_memory,
    read_csv,
)
from tests.reference.interventions import logits_of_parts, margin, share_with_interval
from tests.reference.metrics import mean_and_interval
from tests.reference.networks import Classifier, read_classifier, read_column, read_images
from tests.reference.small_networks import BRANCHING_CUTS, BRANCHING_MAPS, Branching
from tests.workflow.study import Study

FRACTIONS = [0.0, 0.3, 1.0]
PLACE = ["position", "part", "fraction"]


def test_every_part_at_every_layer_gives_the_reference_s_logits() -> None:
    """At maps in tuples, before an activation, where layers further on read what comes before, and at no cuts."""
    clean, conditions = images_in_memory(6, 16)
    labels = np.arange(6) % 5
    reference = Classifier(Branching(seed=0), BRANCHING_MAPS, 12, **NORMALIZATION)
    found = intervene(
        classifier_of_the_package(reference), clean, conditions, labels, FRACTIONS, 16, torch.device("cpu")
    )
    assert [*found.is_cut] == BRANCHING_CUTS
    distinct = set()
    for condition, images in enumerate(conditions.values()):
        for number, (image, other) in enumerate(zip(as_reference(clean), as_reference(images), strict=True)):
            for layer, feature_map in enumerate(BRANCHING_MAPS):
                of_parts = logits_of_parts(reference, feature_map, image, other, FRACTIONS)
                assert [*of_parts] == [*found.parts]
                for part, logits in enumerate(of_parts.values()):
                    place = (condition, layer, part, number)
                    expected = margin(logits, labels[number])
                    assert found.margin[place] == pytest.approx(expected, abs=1e-10), place
                    assert found.predicted[place] == int(logits.argmax())
                    distinct.add(round(expected, 8))
    # But for what is equal by arithmetic: fraction 0, fraction 1 at cuts, the image that has not changed.
    assert len(distinct) > 150


@pytest.mark.workflow
@pytest.mark.parametrize("denoiser", ["none", "unet"])
def test_the_study_s_interventions_are_the_reference_s(finished_study: Study, denoiser: str) -> None:
    results = finished_study.folder / "results/tiny"
    classifier = read_classifier(results / "classifiers/resnetv2_50/checkpoint.pt")
    place = "adversarial/fgsm" if denoiser == "none" else f"denoised/{denoiser}/fgsm"
    clean, labels = read_images(results / "data/train.h5"), read_column(results / "data/train.h5", "label")
    others = read_images(results / f"{place}/train.h5")
    of_images, summaries = (
        read_csv(results / f"interventions/resnetv2_50/fgsm{suffix}") for suffix in ("_images.csv.gz", ".csv")
    )
    of_images = of_images[of_images["denoiser"] == denoiser].set_index([*PLACE, "index"]).sort_index()
    summaries = summaries[summaries["denoiser"] == denoiser].set_index(PLACE)
    measured = sorted({*of_images.index.get_level_values("index")})
    assert len(measured) == 8 and summaries["is_cut"].all()

    expected = {}
    for image in measured:
        for fraction, undisturbed in ((0.0, clean), (1.0, others)):
            expected[0, "whole", fraction, image] = classifier(undisturbed[image])
        for layer, feature_map in enumerate(classifier.feature_maps):
            for part, logits in logits_of_parts(classifier, feature_map, clean[image], others[image], [1.0]).items():
                expected[layer + 1, *part, image] = logits
    assert {*expected} == {*of_images.index}

    for place_of_image, logits in expected.items():
        row, label = of_images.loc[place_of_image], labels[place_of_image[-1]]
        assert row["label"] == label
        assert row["margin"] == pytest.approx(margin(logits, label), abs=LOGIT_ROUNDING), place_of_image
        if abs(margin(logits, label)) > LOGIT_ROUNDING:
            assert row["predicted"] == int(logits.argmax()), place_of_image

    assert len(summaries) == 2 + 3 * len(classifier.feature_maps)
    for place_of_part, row in summaries.iterrows():
        rows = of_images.loc[place_of_part]
        share, *interval = share_with_interval((rows["predicted"] == rows["label"]).tolist())
        assert row["n_images"] == len(rows) == 8
        found = [row[name] for name in ("top1", "top1_ci_low", "top1_ci_high")]
        assert found == pytest.approx([share, *interval], abs=1e-12)
        found = [row[f"margin_{name}"] for name in ("mean", "std", "ci_low", "ci_high")]
        assert found == pytest.approx(mean_and_interval(rows["margin"].tolist()), rel=1e-9)
