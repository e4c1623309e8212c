"""Metrics at every tap against separate forward passes with stored maps; the numbers that go into the tables."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from perturbflow.classifiers.accuracy import top1_of_array
from perturbflow.classifiers.building import build_classifier
from perturbflow.measuring import propagation
from perturbflow.measuring.metrics import ALL_METRICS, METRICS
from perturbflow.measuring.propagation import (
    LayerDistances,
    distance_frames,
    layer_distances,
    prediction_frame,
)
from perturbflow.measuring.sampling import sample_rows

CPU = torch.device("cpu")
OF_IMAGES = [*METRICS, "gain"]
N_IMAGES = 5
LABELS = np.array([3, 1, 4, 1, 5])

CLASSIFIERS = {
    "resnet18": {"width": 0.125},
    "resnetv2_50": {"blocks": [1, 1, 1, 1], "width": 0.25},
    "vgg19": {"width": 0.125},
    "densenet201": {"blocks": [1, 1, 1, 1], "width": 0.25},
}


def small_classifier(architecture):
    """In double precision, so that maps do not depend on the batch and distances can be compared closely."""
    torch.manual_seed(0)
    classifier = build_classifier(architecture, 10, input_size=32, options=CLASSIFIERS[architecture])
    for module in classifier.modules():
        if isinstance(module, nn.BatchNorm2d):
            # As after training: a norm that does nothing hides maps that are taken too early.
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
    classifier.register_forward_pre_hook(lambda module, inputs: (inputs[0].double(),))
    return classifier.double().eval().requires_grad_(False)


@pytest.fixture(scope="module", params=CLASSIFIERS)
def classifier(request):
    return small_classifier(request.param)


@pytest.fixture(scope="module")
def clean():
    return np.random.default_rng(0).integers(0, 256, (N_IMAGES, 32, 32, 3), np.uint8)


@pytest.fixture(scope="module")
def conditions(clean):
    generator = np.random.default_rng(1)
    noise = generator.choice([-1.0, 1.0], (3, *clean.shape)).cumsum(0)
    names = ["none", "fusionnet", "unet"]
    return {name: (clean + noise[i]).clip(0, 255).astype(np.float32) for i, name in enumerate(names)}


def stored_maps(classifier, images):
    """The map of each tap of one image after another, (n,) each, cloned as they go by, and the logits."""
    maps = [[] for _ in classifier.taps]
    hooks = []
    for tap, of_tap in zip(classifier.taps, maps, strict=True):

        def keep(module, inputs, output, tap=tap, of_tap=of_tap):
            of_tap.append((output.relu() if tap.rectify else output).clone().numpy().ravel())

        hooks.append(classifier.network.get_submodule(tap.module).register_forward_hook(keep))
    with torch.no_grad():
        pixels = [torch.from_numpy(image.astype(np.float32)).permute(2, 0, 1)[None] for image in images]
        logits = [classifier(image).numpy().ravel() for image in pixels]
    for hook in hooks:
        hook.remove()
    return maps, np.array(logits)


def naive_distances(a, b):
    aa, bb, ab = (a**2).sum(), (b**2).sum(), (a * b).sum()
    distance = np.sqrt(((a - b) ** 2).sum())
    relative_error, along = distance / np.sqrt(aa), ab / aa - 1
    return {
        "normalized_euclidean": distance / a.size,
        "cosine": 1 - ab / np.sqrt(aa * bb),
        "relative_error": relative_error,
        "along": along,
        "across": np.sqrt((((b - a) - along * a) ** 2).sum() / aa),
        "along_share": (along / relative_error) ** 2,
        "norm_change": np.sqrt(bb / aa) - 1,
        "angle": np.degrees(np.arccos(np.clip(ab / np.sqrt(aa * bb), -1, 1))),
    }


# Where the naive formula is itself the small rest of large numbers: rounding of its result.
ROUNDING = {"cosine": 1e-15, "along": 1e-15, "along_share": 1e-12, "norm_change": 1e-15, "angle": 1e-6}


def test_equals_separate_passes_with_stored_maps(classifier, clean, conditions):
    result = layer_distances(classifier, clean, conditions, LABELS, OF_IMAGES, 8, CPU)
    clean_maps, clean_logits = stored_maps(classifier, clean)
    assert result.n_elements.tolist() == [of_tap[0].size for of_tap in clean_maps]
    assert result.n_elements[-1] == 10
    assert list(result.per_image) == OF_IMAGES and not result.whole_set
    for values in result.per_image.values():
        assert values.shape == (3, len(classifier.taps), N_IMAGES) and values.dtype == np.float64

    logits = [clean_logits]
    for v, images in enumerate(conditions.values()):
        maps, of_version = stored_maps(classifier, images)
        logits.append(of_version)
        for i in range(N_IMAGES):
            before = np.linalg.norm(images[i] - clean[i].astype(float)) / np.linalg.norm(clean[i].astype(float))
            for position, of_tap in enumerate(maps):
                naive = naive_distances(clean_maps[position][i], of_tap[i])
                for metric, expected in {**naive, "gain": naive["relative_error"] / before}.items():
                    measured = result.per_image[metric][v, position, i]
                    assert measured == pytest.approx(expected, rel=1e-8, abs=ROUNDING.get(metric, 0)), metric
                before = naive["relative_error"]

    for of_images, predicted, margin in zip(logits, result.predicted, result.margin, strict=True):
        for i, of_image in enumerate(of_images):
            others = [logit for label, logit in enumerate(of_image) if label != LABELS[i]]
            assert predicted[i] == of_image.argmax()
            assert margin[i] == pytest.approx(of_image[LABELS[i]] - max(others), rel=1e-9)
    centred = [of_images - of_images.mean(axis=1, keepdims=True) for of_images in logits]
    for v, of_version in enumerate(centred[1:]):
        for i in range(N_IMAGES):
            naive = naive_distances(centred[0][i], of_version[i])
            for name, values in result.logits_change.items():
                assert values[v, i] == pytest.approx(naive[name.removeprefix("logits_")], rel=1e-8), name
    assert list(result.logits_change) == ["logits_along_share", "logits_norm_change", "logits_angle"]
    assert result.predicted.dtype == np.int64 and result.margin.dtype == np.float64


def test_gains_multiply_to_the_amplification_of_the_whole_network(classifier, clean, conditions):
    result = layer_distances(classifier, clean, conditions, LABELS, ["gain", "relative_error"], 64, CPU)
    for v, images in enumerate(conditions.values()):
        difference = np.linalg.norm((images - clean.astype(float)).reshape(N_IMAGES, -1), axis=1)
        of_pixels = difference / np.linalg.norm(clean.astype(float).reshape(N_IMAGES, -1), axis=1)
        amplification = result.per_image["relative_error"][v, -1] / of_pixels
        assert result.per_image["gain"][v].prod(0) == pytest.approx(amplification, rel=1e-12)


@pytest.mark.parametrize("metric", ALL_METRICS)
def test_each_metric_alone_is_what_it_is_among_all(metric, clean, conditions):
    classifier = small_classifier("resnet18")
    together = layer_distances(classifier, clean, conditions, LABELS, ALL_METRICS, 64, CPU)
    alone = layer_distances(classifier, clean, conditions, LABELS, [metric], 64, CPU)
    assert [*alone.per_image, *alone.whole_set] == [metric]
    for kind in ("per_image", "whole_set"):
        for name, values in getattr(alone, kind).items():
            np.testing.assert_allclose(values, getattr(together, kind)[name], rtol=1e-9)


def passes_of(classifier):
    """Numbers of images of the passes to come."""
    sizes = []
    classifier.register_forward_pre_hook(lambda module, inputs: sizes.append(len(inputs[0])))
    return sizes


@pytest.mark.parametrize("elements_at_once", [1, 3 * 8 * 32 * 32, 10**9])
def test_batches_and_parts_of_them_change_nothing(elements_at_once, clean, conditions, monkeypatch):
    classifier = small_classifier("vgg19")
    expected = layer_distances(classifier, clean, conditions, LABELS, OF_IMAGES, 1, CPU)
    assert expected.n_elements[0] == 8 * 32 * 32
    monkeypatch.setattr(propagation, "ELEMENTS_AT_ONCE", elements_at_once)
    sizes = passes_of(classifier)
    for batch_size, expected_sizes in ((1, [4] * 5), (9, [8, 8, 4]), (64, [20])):
        sizes.clear()
        result = layer_distances(classifier, clean, conditions, LABELS, OF_IMAGES, batch_size, CPU)
        assert sizes == expected_sizes
        assert result.n_elements.tolist() == expected.n_elements.tolist()
        assert result.predicted.tolist() == expected.predicted.tolist()
        np.testing.assert_allclose(result.margin, expected.margin, rtol=1e-9)
        for name, values in expected.logits_change.items():
            np.testing.assert_allclose(result.logits_change[name], values, rtol=1e-9)
        for metric in OF_IMAGES:
            np.testing.assert_allclose(result.per_image[metric], expected.per_image[metric], rtol=1e-9, atol=1e-15)


def centred_cka(clean, other):
    """CKA of maps (n, n_elements) from Song et al.'s formula of HSIC, with each sum written out."""

    def hsic(k, other):
        n, ones = len(k), np.ones(len(k))
        k, other = k - np.diag(np.diag(k)), other - np.diag(np.diag(other))
        sums = (ones @ k @ ones) * (ones @ other @ ones) / (n - 1) / (n - 2) - 2 / (n - 2) * ones @ k @ other @ ones
        return (np.trace(k @ other) + sums) / n / (n - 3)

    k, other = clean @ clean.T, other @ other.T
    return hsic(k, other) / np.sqrt(hsic(k, k) * hsic(other, other))


def test_cka_sees_the_same_blocks_whatever_the_batch(classifier, clean, conditions):
    clean_maps, _ = stored_maps(classifier, clean)
    sizes = passes_of(classifier)
    for batch_size in (1, 64):
        result = layer_distances(classifier, clean, conditions, LABELS, ["linear_cka"], batch_size, CPU)
        assert result.whole_set["linear_cka"].shape == (3, len(classifier.taps), 3)
        for v, images in enumerate(conditions.values()):
            maps, _ = stored_maps(classifier, images)
            expected = [centred_cka(np.array(a), np.array(b)) for a, b in zip(clean_maps, maps, strict=True)]
            assert result.whole_set["linear_cka"][v, :, 0] == pytest.approx(expected, rel=1e-7)
        assert np.isnan(result.whole_set["linear_cka"][..., 1:]).all()
    assert sizes[0] == 20


def test_cka_of_several_blocks_has_an_interval():
    classifier = small_classifier("vgg19")
    generator = np.random.default_rng(0)
    clean = generator.integers(0, 256, (70, 8, 8, 3), np.uint8)
    conditions = {"none": (clean + generator.normal(0, 60, clean.shape)).astype(np.float32)}
    sizes = passes_of(classifier)
    result = layer_distances(classifier, clean, conditions, np.zeros(70, np.int64), ["cosine", "linear_cka"], 8, CPU)
    assert sizes == [48, 46, 46]
    value, low, high = np.moveaxis(result.whole_set["linear_cka"], -1, 0)
    assert (low < value).all() and (value < high).all()
    assert (value < 1).all() and (value > 0.2).all()
    same = layer_distances(
        classifier, clean, {"none": clean.astype(np.float32)}, LABELS[:1].repeat(70), ["linear_cka"], 8, CPU
    )
    np.testing.assert_allclose(same.whole_set["linear_cka"], 1, rtol=1e-9)


def test_cka_is_of_the_whole_set_where_images_are_ordered_by_class():
    """Images of a class are alike: among those of one class alone, noise is what differs."""
    classifier = small_classifier("vgg19")
    generator = np.random.default_rng(0)
    classes = generator.integers(40, 216, (3, 8, 8, 3)).repeat(32, axis=0)
    clean = (classes + generator.normal(0, 12, classes.shape)).clip(0, 255).astype(np.uint8)
    conditions = {"none": (classes + generator.normal(0, 12, classes.shape)).clip(0, 255).astype(np.float32)}
    (a, *_), _ = stored_maps(classifier, clean)
    (b, *_), _ = stored_maps(classifier, conditions["none"])
    a, b = np.array(a), np.array(b)
    assert centred_cka(a[:32], b[:32]) < 0.5
    result = layer_distances(classifier, clean, conditions, np.zeros(96, np.int64), ["linear_cka"], 64, CPU)
    value, low, high = result.whole_set["linear_cka"][0, 0]
    assert low < centred_cka(a, b) < high
    assert value == pytest.approx(centred_cka(a, b), abs=0.02)
    assert value > 0.8


def test_the_clean_images_themselves_are_at_distance_zero(clean):
    classifier = build_classifier("resnet18", 10, input_size=32, options={"width": 0.125}).eval()
    result = layer_distances(classifier, clean, {"none": clean.astype(np.float32)}, LABELS, OF_IMAGES, 64, CPU)
    # In single precision an image's maps may depend on its place in the batch, by rounding alone.
    assert result.per_image["normalized_euclidean"].max() < 1e-6
    assert result.per_image["cosine"].max() < 1e-10
    assert np.isnan(result.per_image["gain"][:, 0]).all()
    assert result.predicted[0].tolist() == result.predicted[1].tolist()
    assert result.margin[0] == pytest.approx(result.margin[1], abs=1e-5)


def test_unknown_metrics_are_refused_by_name(clean, conditions):
    with pytest.raises(ValueError, match=r"unknown metric cosines; known: .*cosine, .*gain, linear_cka"):
        layer_distances(small_classifier("vgg19"), clean, conditions, LABELS, ["cosines"], 64, CPU)


def test_images_that_break_the_classifier_are_named(clean, conditions):
    broken = {**conditions, "unet": conditions["unet"].copy()}
    broken["unet"][[1, 3], 0, 0, 0] = np.nan
    with pytest.raises(ValueError, match=r"not finite for 2 of 5 images \(unet\)"):
        layer_distances(small_classifier("vgg19"), clean, broken, LABELS, ["cosine"], 64, CPU)


def test_reads_read_only_arrays_without_a_word(clean, recwarn):
    classifier = build_classifier("resnet18", 10, input_size=32, options={"width": 0.125}).eval()
    images = clean.astype(np.float32)
    images.flags.writeable = False
    layer_distances(classifier, clean, {"none": images}, LABELS, ["cosine"], 4, CPU)
    top1_of_array(classifier, images, np.zeros(N_IMAGES, np.int64), 4, CPU)
    assert not [warning for warning in recwarn if "writable" in str(warning.message)]


def test_samples_are_seeded_sorted_and_without_replacement():
    rows = sample_rows(10_000, 1000, seed=3)
    assert len(rows) == 1000 and (np.diff(rows) > 0).all()
    assert rows.min() >= 0 and rows.max() < 10_000
    assert rows.tolist() == sample_rows(10_000, 1000, seed=3).tolist()
    assert rows.tolist() != sample_rows(10_000, 1000, seed=4).tolist()
    # Not the first thousand, nor any other corner of the data.
    assert np.histogram(rows, 10, (0, 10_000))[0].min() > 60
    assert sample_rows(7, 1000, seed=0).tolist() == list(range(7))


@pytest.fixture(scope="module")
def measured():
    """Random values in the place of measured ones, of two conditions and two metrics beside CKA."""
    generator = np.random.default_rng(0)
    n_taps = len(small_classifier("vgg19").taps)
    return LayerDistances(
        {metric: generator.random((2, n_taps, N_IMAGES)) for metric in ("normalized_euclidean", "cosine")},
        {"linear_cka": generator.random((2, n_taps, 3))},
        np.arange(n_taps) + 100,
        generator.integers(0, 10, (3, N_IMAGES)),
        generator.random((3, N_IMAGES)),
        {"logits_along_share": generator.random((2, N_IMAGES)), "logits_angle": generator.random((2, N_IMAGES))},
    )


INDEX = np.array([3, 4, 8, 15, 16])


def test_frames_hold_what_the_files_promise(measured):
    classifier = small_classifier("vgg19")
    names, n_taps, metrics = ["none", "unet"], len(classifier.taps), list(measured.per_image)
    summaries, per_image = distance_frames(measured, classifier, names, INDEX, LABELS)

    columns = [*metrics, "linear_cka"]
    statistics = [f"{metric}_{name}" for metric in columns for name in ("mean", "std", "ci_low", "ci_high")]
    places = ["denoiser", "position", "layer", "module", "kind", "n_elements", "n_images", "interval_covers"]
    assert summaries.columns.tolist() == [*places, *statistics]
    assert summaries["denoiser"].tolist() == ["none"] * n_taps + ["unet"] * n_taps
    assert summaries["position"].tolist() == 2 * list(range(1, n_taps + 1))
    assert summaries["layer"].tolist() == 2 * [tap.layer for tap in classifier.taps]
    assert summaries["module"].tolist() == 2 * [tap.module for tap in classifier.taps]
    assert summaries["kind"].tolist() == 2 * [*["spatial"] * 5, *["fully connected"] * 2, "logits"]
    assert summaries["n_elements"].tolist() == 2 * list(range(100, 100 + n_taps))
    assert (summaries["n_images"] == N_IMAGES).all()
    of_the_set = summaries[["linear_cka_mean", "linear_cka_ci_low", "linear_cka_ci_high"]].to_numpy()
    assert np.array_equal(of_the_set, measured.whole_set["linear_cka"].reshape(-1, 3))
    assert summaries["linear_cka_std"].isna().all()

    assert per_image.columns.tolist() == ["denoiser", "position", "index", "label", *metrics]
    assert len(per_image) == 2 * n_taps * N_IMAGES
    third = per_image.query("denoiser == 'unet' and position == 3")
    assert third["index"].tolist() == INDEX.tolist() and third["label"].tolist() == LABELS.tolist()
    assert third["cosine"].tolist() == measured.per_image["cosine"][1, 2].tolist()

    means = per_image.groupby(["denoiser", "position"], sort=False)[metrics].mean().reset_index(drop=True)
    expected = summaries[[f"{metric}_mean" for metric in metrics]].set_axis(metrics, axis=1)
    pd.testing.assert_frame_equal(means, expected)


def test_predictions_stand_beside_those_of_the_clean_images(measured):
    frame = prediction_frame(measured, ["none", "unet"], INDEX, LABELS)
    both = {"index": INDEX, "label": LABELS, "predicted_clean": measured.predicted[0]}
    for condition, denoiser in enumerate(["none", "unet"], start=1):
        rows = frame.query("denoiser == @denoiser").reset_index(drop=True)
        columns = {**both, "predicted": measured.predicted[condition], "margin_clean": measured.margin[0]}
        columns["margin"] = measured.margin[condition]
        columns |= {name: values[condition - 1] for name, values in measured.logits_change.items()}
        expected = pd.DataFrame({"denoiser": denoiser, **columns})
        pd.testing.assert_frame_equal(rows, expected)
    assert len(frame) == 2 * N_IMAGES
