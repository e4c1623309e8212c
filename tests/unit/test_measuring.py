"""Distances at every tap against separate forward passes with stored maps; the numbers that go into the tables."""

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import torch
from torch import nn

from perturbflow import measuring
from perturbflow.classifiers import build_classifier
from perturbflow.errors import mean_squared_error
from perturbflow.evaluation import denoise, pixels_of, top1, top1_of_array
from perturbflow.measuring import distance_frames, layer_distances, sample_rows, summary

CPU = torch.device("cpu")
METRICS = ["normalized_euclidean", "cosine"]
N_IMAGES = 5

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
def versions(clean):
    generator = np.random.default_rng(1)
    noise = generator.choice([-1.0, 1.0], (3, *clean.shape)).cumsum(0)
    names = ["none", "fusionnet", "unet"]
    return {name: (clean + noise[i]).clip(0, 255).astype(np.float32) for i, name in enumerate(names)}


def stored_maps(classifier, images):
    """The map of each tap of one image after another, (n,) each, cloned as they go by."""
    maps = [[] for _ in classifier.taps]
    hooks = []
    for tap, of_tap in zip(classifier.taps, maps, strict=True):

        def keep(module, inputs, output, tap=tap, of_tap=of_tap):
            of_tap.append((output.relu() if tap.rectify else output).clone().numpy().ravel())

        hooks.append(classifier.network.get_submodule(tap.module).register_forward_hook(keep))
    with torch.no_grad():
        for image in images:
            classifier(torch.from_numpy(image.astype(np.float32)).permute(2, 0, 1)[None])
    for hook in hooks:
        hook.remove()
    return maps


def naive_distances(a, b):
    return {
        "normalized_euclidean": np.sqrt(((a - b) ** 2).sum()) / a.size,
        "cosine": 1 - (a * b).sum() / np.sqrt((a**2).sum() * (b**2).sum()),
    }


def test_equals_separate_passes_with_stored_maps(classifier, clean, versions):
    result = layer_distances(classifier, clean, versions, METRICS, 8, CPU)
    clean_maps = stored_maps(classifier, clean)
    assert result["n_elements"].tolist() == [of_tap[0].size for of_tap in clean_maps]
    assert result["n_elements"][-1] == 10
    for v, images in enumerate(versions.values()):
        for position, of_tap in enumerate(stored_maps(classifier, images)):
            for i in range(N_IMAGES):
                for metric, expected in naive_distances(clean_maps[position][i], of_tap[i]).items():
                    # The reference's 1 - cos is itself known to 1e-16 only.
                    assert result[metric][v, position, i] == pytest.approx(expected, rel=1e-8, abs=1e-15), metric
    for metric in METRICS:
        assert result[metric].shape == (3, len(classifier.taps), N_IMAGES)
        assert result[metric].dtype == np.float64 and (result[metric] > 0).all()


@pytest.mark.parametrize("elements_at_once", [1, 3 * 8 * 32 * 32, 10**9])
def test_batches_and_parts_of_them_change_nothing(elements_at_once, clean, versions, monkeypatch):
    classifier = small_classifier("vgg19")
    expected = layer_distances(classifier, clean, versions, METRICS, 1, CPU)
    assert expected["n_elements"][0] == 8 * 32 * 32
    monkeypatch.setattr(measuring, "ELEMENTS_AT_ONCE", elements_at_once)
    for batch_size in (1, 9, 64):
        result = layer_distances(classifier, clean, versions, METRICS, batch_size, CPU)
        assert result["n_elements"].tolist() == expected["n_elements"].tolist()
        for metric in METRICS:
            np.testing.assert_allclose(result[metric], expected[metric], rtol=1e-9)


def test_the_clean_images_themselves_are_at_distance_zero(clean):
    classifier = build_classifier("resnet18", 10, input_size=32, options={"width": 0.125}).eval()
    result = layer_distances(classifier, clean, {"none": clean.astype(np.float32)}, METRICS, 64, CPU)
    # In single precision an image's maps may depend on its place in the batch, by rounding alone.
    assert result["normalized_euclidean"].max() < 1e-6
    assert result["cosine"].max() < 1e-10


def test_reads_read_only_arrays_without_a_word(clean, recwarn):
    classifier = build_classifier("resnet18", 10, input_size=32, options={"width": 0.125}).eval()
    images = clean.astype(np.float32)
    images.flags.writeable = False
    layer_distances(classifier, clean, {"none": images}, ["cosine"], 4, CPU)
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


@pytest.mark.parametrize("n", [2, 5, 1000])
def test_the_interval_is_student_s(n):
    values = np.random.default_rng(n).lognormal(size=n)
    low, high = scipy.stats.t.interval(0.95, n - 1, loc=values.mean(), scale=scipy.stats.sem(values))
    assert summary(values) == pytest.approx(
        {"mean": values.mean(), "std": values.std(ddof=1), "ci_low": low, "ci_high": high}
    )
    wider = summary(values, confidence=0.99)
    assert wider["ci_low"] < low and wider["ci_high"] > high


def test_one_image_has_no_interval():
    row = summary(np.array([0.25]))
    assert row["mean"] == 0.25
    assert np.isnan([row["std"], row["ci_low"], row["ci_high"]]).all()


def test_frames_hold_what_the_files_promise():
    classifier = small_classifier("vgg19")
    names, n_taps = ["none", "unet"], len(classifier.taps)
    generator = np.random.default_rng(0)
    values = {metric: generator.random((2, n_taps, N_IMAGES)) for metric in METRICS}
    index, labels = np.array([3, 4, 8, 15, 16]), np.array([0, 1, 2, 3, 4])
    distances = {**values, "n_elements": np.arange(n_taps) + 100}
    summaries, per_image = distance_frames(distances, classifier, names, index, labels)

    statistics = [f"{metric}_{name}" for metric in METRICS for name in ("mean", "std", "ci_low", "ci_high")]
    places = ["denoiser", "position", "layer", "module", "n_elements", "n_images"]
    assert summaries.columns.tolist() == [*places, *statistics]
    assert summaries["denoiser"].tolist() == ["none"] * n_taps + ["unet"] * n_taps
    assert summaries["position"].tolist() == 2 * list(range(1, n_taps + 1))
    assert summaries["layer"].tolist() == 2 * [tap.layer for tap in classifier.taps]
    assert summaries["module"].tolist() == 2 * [tap.module for tap in classifier.taps]
    assert summaries["n_elements"].tolist() == 2 * list(range(100, 100 + n_taps))
    assert (summaries["n_images"] == N_IMAGES).all()

    assert per_image.columns.tolist() == ["denoiser", "position", "index", "label", *METRICS]
    assert len(per_image) == 2 * n_taps * N_IMAGES
    third = per_image.query("denoiser == 'unet' and position == 3")
    assert third["index"].tolist() == index.tolist() and third["label"].tolist() == labels.tolist()
    assert third["cosine"].tolist() == values["cosine"][1, 2].tolist()

    means = per_image.groupby(["denoiser", "position"], sort=False)[METRICS].mean().reset_index(drop=True)
    expected = summaries[[f"{metric}_mean" for metric in METRICS]].set_axis(METRICS, axis=1)
    pd.testing.assert_frame_equal(means, expected)


@pytest.mark.parametrize("batch_size", [1, 3, 256])
def test_mean_squared_error_keeps_small_errors_of_large_values(batch_size):
    clean = np.full((7, 8, 8, 3), 250, np.uint8)
    # 2^-10 is exact beside 250 in single precision; its square would not be.
    images = clean.astype(np.float32) + np.float32(2**-10)
    assert mean_squared_error(images, clean, batch_size) == 2.0**-20

    generator = np.random.default_rng(0)
    clean = generator.integers(0, 256, (7, 8, 8, 3), np.uint8)
    images = (clean + generator.normal(0, 0.3, clean.shape)).astype(np.float32)
    expected = np.mean((images.astype(np.float64) - clean.astype(np.float64)) ** 2)
    assert mean_squared_error(images, clean, batch_size) == pytest.approx(expected, rel=1e-12)
    assert mean_squared_error(clean.astype(np.float32), clean, batch_size) == 0


class Brightness(nn.Module):
    """A classifier with two classes, dark and bright; a denoiser that stretches the range."""

    def forward(self, pixels):
        mean = pixels.mean((1, 2, 3))
        return torch.stack([127.5 - mean, mean - 127.5], 1)


@pytest.mark.parametrize("batch_size", [1, 3, 25, 100])
def test_top1_is_an_exact_fraction(batch_size):
    images = np.zeros((25, 4, 4, 3), np.uint8)
    images[:7] = 200
    labels = np.ones(25, np.int64)
    assert top1_of_array(Brightness(), images, labels, batch_size, CPU) == 7 / 25
    assert top1_of_array(Brightness(), images.astype(np.float32), labels, batch_size, CPU) == 7 / 25
    tensor = torch.from_numpy(images).permute(0, 3, 1, 2)
    assert top1(Brightness(), tensor, torch.from_numpy(labels), batch_size) == 7 / 25


def test_denoised_images_are_clipped_and_complete():
    images = np.random.default_rng(0).uniform(-100, 400, (7, 4, 6, 3)).astype(np.float32)
    before = images.copy()
    batches = list(denoise(nn.Identity(), images, 3, CPU))
    assert [start for start, _ in batches] == [0, 3, 6]
    result = np.concatenate([batch for _, batch in batches])
    assert result.dtype == np.float32
    assert np.array_equal(result, before.clip(0, 255))
    assert np.array_equal(images, before)


def test_pixels_keep_their_values_and_lie_channels_last():
    images = np.random.default_rng(0).integers(0, 256, (4, 5, 6, 3), np.uint8)
    for given in (images, images.astype(np.float32), images[::2], images[:, ::-1]):
        pixels = pixels_of(given, CPU)
        assert pixels.dtype == torch.float32
        assert pixels.is_contiguous(memory_format=torch.channels_last)
        assert np.array_equal(pixels.numpy(), given.transpose(0, 3, 1, 2))
