"""Passes that go on from changed maps, against networks split by hand, and what must hold by arithmetic alone."""

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import torch
from torch import nn

from perturbflow.classifiers.architectures import ARCHITECTURES
from perturbflow.classifiers.building import build_classifier
from perturbflow.classifiers.classifier import Classifier
from perturbflow.classifiers.taps import Tap
from perturbflow.measuring.interventions import Interventions, intervene, intervention_frames
from perturbflow.results.intervals import summary, wilson_interval

CPU = torch.device("cpu")
N_IMAGES = 3
LABELS = np.array([2, 0, 1])
FRACTIONS = [0.0, 0.5, 1.0]
PARTS = (("along", 1.0), ("across", 1.0), ("whole", 0.0), ("whole", 0.5), ("whole", 1.0))

DENSENET = {"blocks": [2, 2, 2, 2], "width": 0.25}
SMALL = {
    "resnet18": {"blocks": [1, 1, 1, 1], "width": 0.125},
    "resnetv2_50": {"blocks": [1, 1, 1, 1], "width": 0.125},
    "vgg19": {"width": 0.125},
    "senet154": {"blocks": [1, 1, 1, 1], "bottleneck": False},
    "inception_resnet_v2": {"blocks": [1, 1, 1]},
    "densenet201": DENSENET,
    "densenet201_conv": DENSENET,
    "densenet201_prelu": DENSENET,
}


@pytest.fixture(scope="module")
def clean():
    return np.random.default_rng(0).integers(0, 256, (N_IMAGES, 32, 32, 3), np.uint8)


@pytest.fixture(scope="module")
def conditions(clean):
    """Far from the clean images, so that a wrong map is seen in the logits."""
    noise = np.random.default_rng(1).normal(0, 60, (2, *clean.shape))
    return {name: (clean + noise[i]).clip(0, 255).astype(np.float32) for i, name in enumerate(["none", "unet"])}


def in_double(classifier):
    """In double precision, so that logits do not depend on the batch and can be compared closely."""
    classifier.register_forward_pre_hook(lambda module, inputs: (inputs[0].double(),))
    return classifier.double().eval().requires_grad_(False)


class Shortcut(nn.Module):
    """A network with a path around its first convolution: that is no cut, what follows is."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Conv2d(3, 3, 3, padding=1)
        self.after = nn.Conv2d(3, 4, 3, stride=4)
        self.head = nn.Linear(4, 5)

    def forward(self, images):
        return self.head(self.after(images + self.inner(images)).relu().mean((2, 3)))


@pytest.fixture
def sequential():
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 4, 3, 2), nn.ReLU(inplace=True), nn.Conv2d(4, 5, 3, 2), nn.ReLU(inplace=True), nn.Flatten()]
    network = nn.Sequential(*layers, nn.Linear(5 * 7 * 7, 5))
    taps = [
        Tap("1 conv", "0", "spatial", rectify=True),
        Tap("1 ReLU", "1", "spatial"),
        Tap("1 conv", "2", "spatial"),
        Tap("1 FC", "5", "logits"),
    ]
    return in_double(Classifier(network, taps, 32))


def pixels_of(images):
    return torch.from_numpy(images.astype(np.float32)).permute(0, 3, 1, 2)


def naive_part(part, fraction, clean, other):
    """The part of the change of one image's map, in NumPy."""
    change = other - clean
    along = (change * clean).sum() / (clean * clean).sum() * clean
    return {"along": along, "across": change - along, "whole": fraction * change}[part]


def logits_and_margins(logits):
    """Predicted classes and margins of logits (..., N, n_classes)."""
    others = np.where(np.arange(logits.shape[-1]) == LABELS[:, None], -np.inf, logits)
    return logits.argmax(-1), logits[..., np.arange(N_IMAGES), LABELS] - others.max(-1)


@pytest.mark.parametrize("batch_size", [1, 25, 1000])
def test_equals_a_network_split_by_hand(sequential, clean, conditions, batch_size):
    result = intervene(sequential, clean, conditions, LABELS, FRACTIONS, batch_size, CPU)
    assert result.parts == PARTS and result.is_cut == (True, True, True, True)
    layers = list(sequential.network)

    def through(layers, maps):
        for layer in layers:
            maps = layer(maps.clone())
        return maps

    starts = [pixels_of(images).double() / 127.5 - 1 for images in (clean, *conditions.values())]
    predicted, margins = logits_and_margins(np.array([through(layers, start).numpy() for start in starts]))
    assert result.predicted_images.tolist() == predicted.tolist()
    np.testing.assert_allclose(result.margin_images, margins, rtol=1e-9)
    for position, end in enumerate([1, 2, 3, 6]):
        of_clean, *of_versions = (through(layers[:end], start).numpy() for start in starts)
        for v, of_version in enumerate(of_versions):
            for p, (part, fraction) in enumerate(PARTS):
                changed = [c + naive_part(part, fraction, c, o) for c, o in zip(of_clean, of_version, strict=True)]
                logits = through(layers[end:], torch.from_numpy(np.array(changed))).numpy()
                predicted, margins = logits_and_margins(logits)
                assert result.predicted[v, position, p].tolist() == predicted.tolist()
                np.testing.assert_allclose(result.margin[v, position, p], margins, rtol=1e-9, atol=1e-12)
    # Not a network to which every map is the same.
    assert len(set(np.round(result.margin[0, :, :, 0].ravel(), 9))) > 12


def test_what_goes_around_a_tap_stays_clean(clean, conditions):
    torch.manual_seed(0)
    network = Shortcut()
    taps = [Tap("1 conv", "inner", "spatial"), Tap("1 conv", "after", "spatial"), Tap("1 FC", "head", "logits")]
    result = intervene(in_double(Classifier(network, taps, 32)), clean, conditions, LABELS, FRACTIONS, 25, CPU)
    assert result.is_cut == (False, True, True)
    starts = [pixels_of(images).double() / 127.5 - 1 for images in (clean, *conditions.values())]
    of_clean, *of_versions = (network.inner(start).numpy() for start in starts)
    for v, of_version in enumerate(of_versions):
        for p, (part, fraction) in enumerate(PARTS):
            changed = [c + naive_part(part, fraction, c, o) for c, o in zip(of_clean, of_version, strict=True)]
            after = network.after(starts[0] + torch.from_numpy(np.array(changed)))
            predicted, margins = logits_and_margins(network.head(after.relu().mean((2, 3))).numpy())
            assert result.predicted[v, 0, p].tolist() == predicted.tolist()
            np.testing.assert_allclose(result.margin[v, 0, p], margins, rtol=1e-9, atol=1e-12)
    assert np.abs(result.margin[:, 0, -1] - result.margin_images[1:]).min() > 1e-4


@pytest.mark.parametrize(("architecture", "linear"), [("densenet201", {1, 3, 5, 7}), ("vgg19", {7})])
def test_fractions_coincide_where_layers_between_are_linear(architecture, linear, clean, conditions):
    """Of DenseNet a block and its transition; the part along is another one at each layer."""
    torch.manual_seed(0)
    classifier = build_classifier(architecture, 5, 32, options=SMALL[architecture])
    with torch.no_grad():
        classifier.train()(pixels_of(np.concatenate([clean, *conditions.values()])))  # else statistics are 0 and 1
    margin = intervene(in_double(classifier), clean, conditions, LABELS, [0.5], 1000, CPU).margin
    along, _, half = np.moveaxis(margin, 2, 0)

    def coincide(values):
        steps = np.abs(np.diff(values, axis=1)).max((0, 2)) / np.abs(margin).max()
        return {position for position, step in enumerate(steps, start=1) if step < 1e-6}

    assert coincide(half) == linear
    assert not coincide(along) & linear


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_whole_change_at_a_cut_is_the_version_and_none_the_clean_image(architecture, clean, conditions):
    torch.manual_seed(0)
    size = 44 if architecture == "inception_resnet_v2" else 32
    classifier = build_classifier(architecture, 5, size, options=SMALL[architecture]).eval()
    for module in classifier.modules():
        if isinstance(module, nn.BatchNorm2d):
            # As after training: a norm that does nothing hides maps that are taken too early.
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
    result = intervene(classifier, clean[:1], {"none": conditions["none"][:1]}, LABELS[:1], [0.0, 1.0], 64, CPU)
    assert result.predicted.shape == result.margin.shape == (1, len(classifier.taps), 4, 1)
    assert result.is_cut == (True,) * len(classifier.taps)
    of_clean, of_version = result.margin_images[:, 0]
    difference = abs(of_version - of_clean)
    assert difference > 1e-4 * abs(of_clean)
    assert result.margin[0, :, 2, 0] == pytest.approx(of_clean, rel=0, abs=0.02 * difference)
    assert result.margin[0, :, 3, 0] == pytest.approx(of_version, rel=0, abs=0.02 * difference)
    assert (result.predicted[0, :, 2] == result.predicted_images[0]).all()
    assert (result.predicted[0, :, 3] == result.predicted_images[1]).all()


def test_lengthened_logits_predict_as_before(sequential, clean, conditions):
    """At the logits, the part along the clean ones only makes them longer, or turns all of them around."""
    result = intervene(sequential, clean, conditions, LABELS, FRACTIONS, 64, CPU)
    with torch.no_grad():
        logits = sequential(pixels_of(clean)).numpy()
        for v, images in enumerate(conditions.values()):
            other = sequential(pixels_of(images)).numpy()
            factor = (logits * other).sum(1) / (logits**2).sum(1)
            assert (factor > 0).any()
            assert (result.predicted[v, -1, 0] == np.where(factor > 0, logits.argmax(1), logits.argmin(1))).all()
            true, longer = result.margin_images[0], result.margin[v, -1, 0]
            np.testing.assert_allclose(longer[factor > 0], (factor * true)[factor > 0], rtol=1e-9)


def test_maps_of_zeros_have_no_part_along(clean, conditions):
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 30 * 30, 5))
    nn.init.zeros_(network[0].weight)
    nn.init.constant_(network[0].bias, -1)
    result = intervene(
        Classifier(network, [Tap("1 ReLU", "1", "spatial")], 32), clean, conditions, LABELS, [1.0], 64, CPU
    )
    np.testing.assert_allclose(result.margin[0, 0], np.tile(result.margin_images[0], (3, 1)), rtol=1e-5)


def test_no_more_images_than_a_batch_pass_at_once(sequential, clean, conditions):
    sizes = []
    for layer in sequential.network:
        layer.register_forward_hook(lambda module, inputs, output: sizes.append(len(output)))
    intervene(sequential, clean, conditions, LABELS, FRACTIONS, 25, CPU)
    assert max(sizes) == 2 * 5 * 2 <= 25


def test_images_that_break_the_classifier_are_named(sequential, clean, conditions):
    broken = {**conditions, "unet": np.full_like(conditions["unet"], np.nan)}
    with pytest.raises(ValueError, match=r"not finite for 3 of 3 images \(unet\)"):
        intervene(sequential, clean, broken, LABELS, FRACTIONS, 64, CPU)


def test_frames_hold_what_the_files_promise(sequential):
    generator = np.random.default_rng(0)
    predicted, margin = generator.integers(0, 3, (2, 4, 5, N_IMAGES)), generator.random((2, 4, 5, N_IMAGES))
    of_images = generator.integers(0, 3, (3, N_IMAGES)), generator.random((3, N_IMAGES))
    interventions = Interventions(PARTS, predicted, margin, *of_images, (True, False, True, True))
    index = np.array([5, 8, 13])
    summaries, per_image = intervention_frames(interventions, sequential, ["none", "unet"], index, LABELS)

    places = [
        "denoiser",
        "position",
        "layer",
        "module",
        "kind",
        "is_cut",
        "part",
        "fraction",
        "n_images",
        "interval_covers",
    ]
    of_margin = [f"margin_{name}" for name in ("mean", "std", "ci_low", "ci_high")]
    assert summaries.columns.tolist() == [*places, "top1", "top1_ci_low", "top1_ci_high", *of_margin]
    assert per_image.columns.tolist() == [
        *("denoiser", "position", "part", "fraction", "index", "label", "predicted", "margin")
    ]
    assert len(summaries) == 2 * (2 + 4 * 5) and len(per_image) == N_IMAGES * len(summaries)
    assert (summaries["n_images"] == N_IMAGES).all()

    of_unet = summaries.query("denoiser == 'unet'")
    assert of_unet["position"].tolist() == [0, 0, *np.repeat([1, 2, 3, 4], 5)]
    assert of_unet["layer"].tolist() == ["image"] * 2 + [tap.layer for tap in sequential.taps for _ in PARTS]
    assert of_unet["module"].tolist() == [""] * 2 + [tap.module for tap in sequential.taps for _ in PARTS]
    assert of_unet["kind"].tolist() == ["image"] * 2 + [tap.kind for tap in sequential.taps for _ in PARTS]
    assert of_unet["is_cut"].tolist() == [True] * 2 + [position != 1 for position in range(4) for _ in PARTS]
    parts = [("whole", 0.0), ("whole", 1.0), *PARTS * 4]
    assert list(zip(of_unet["part"], of_unet["fraction"], strict=True)) == parts

    cells = {("none", 0, "whole", 0.0): (0,), ("unet", 0, "whole", 0.0): (0,), ("none", 0, "whole", 1.0): (1,)}
    cells |= {
        ("unet", 0, "whole", 1.0): (2,),
        ("unet", 3, "across", 1.0): (1, 2, 1),
        ("none", 1, "whole", 0.5): (0, 0, 3),
    }
    keys = ["denoiser", "position", "part", "fraction"]
    for cell, place in cells.items():
        of_place = (of_images[0][place], of_images[1][place]) if len(place) == 1 else (predicted[place], margin[place])
        row = summaries.set_index(keys).loc[[cell]].iloc[0]
        images = per_image.set_index(keys).loc[[cell]].reset_index()
        values = {"index": index, "label": LABELS, "predicted": of_place[0], "margin": of_place[1]}
        pd.testing.assert_frame_equal(images[list(values)], pd.DataFrame(values))
        assert row["top1"] == np.mean(of_place[0] == LABELS)
        n_correct = int(np.sum(of_place[0] == LABELS))
        assert (row["top1_ci_low"], row["top1_ci_high"]) == wilson_interval(n_correct, N_IMAGES)
        assert {name: row[f"margin_{name}"] for name in ("mean", "std", "ci_low", "ci_high")} == summary(of_place[1])


@pytest.mark.parametrize("n_successes, n", [(0, 1), (1, 1), (0, 200), (199, 200), (7, 20), (500, 1000)])
def test_the_interval_is_wilson_s(n_successes, n):
    for confidence in (0.95, 0.8):
        expected = scipy.stats.binomtest(n_successes, n).proportion_ci(confidence, method="wilson")
        assert wilson_interval(n_successes, n, confidence) == pytest.approx((expected.low, expected.high), abs=1e-12)
