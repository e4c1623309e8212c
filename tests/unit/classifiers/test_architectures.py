import copy
import csv
import functools
import re
from contextlib import ExitStack

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import nn

from perturbflow.classifiers.architectures import ARCHITECTURES
from perturbflow.classifiers.building import build_classifier
from perturbflow.classifiers.classifier import count_layers, count_parameters
from perturbflow.classifiers.taps import Tap
from tests.unit.classifiers.example_networks import (
    MODIFIED,
    N_TAPS,
    SHRUNKEN,
    every_architecture,
    full_size,
    observe,
    random_pixels,
    shared,
    shrunken,
)


@functools.cache
def full_size_shapes(name, input_size=128):
    with torch.device("meta"):
        positions, maps, logits = observe(full_size(name, input_size), torch.empty(2, 3, 64, 64))
    assert positions == list(range(len(full_size(name).taps)))
    assert logits.shape == (2, 200)
    return [tuple(feature_map.shape[1:]) for feature_map in maps]


def table6(repository):
    """By classifier: position, the paper's words, ours."""
    layers = {}
    with open(repository / "resources/paper/table6.csv", newline="") as file:
        for row in csv.DictReader(file):
            layers.setdefault(row["classifier"], []).append((int(row["position"]), row["layer_in_paper"], row["layer"]))
    return layers


@every_architecture
def test_number_of_taps(name):
    assert len(full_size(name).taps) == len(shared(name).taps) == N_TAPS.get(name, len(shared(name).taps))


@every_architecture
def test_taps_are_modules_of_the_network(name):
    for classifier in (full_size(name), shared(name)):
        for tap in classifier.taps:
            assert isinstance(classifier.network.get_submodule(tap.module), nn.Module)
        assert len({tap.module for tap in classifier.taps}) == len(classifier.taps)


def test_layers_are_worded_as_in_table_6(repository):
    for name, layers in table6(repository).items():
        expected = [(position, ours) for position, _, ours in layers]
        assert list(enumerate((tap.layer for tap in full_size(name).taps), start=1)) == expected, name


def test_what_table_6_calls_otherwise_is_told(repository):
    """But for spelling these alone differ; docs/method.md says why."""

    def same_spelling(words):
        return re.sub(r"s\b", "", words.lower().replace("maxpool", "max pool").removesuffix(" layer"))

    differing = {
        (theirs, ours)
        for layers in table6(repository).values()
        for _, theirs, ours in layers
        if same_spelling(theirs) != same_spelling(ours)
    }
    assert differing == {
        ("1 Conv, 1 max pool, 6 FCs", "1 conv, 1 max pool, 6 dense layers"),
        ("12 FCs", "12 dense layers"),
        ("48 FCs", "48 dense layers"),
        ("32 FCs", "32 dense layers"),
        ("1 max pool, 1 FC", "1 pool, 1 FC"),
    }


def test_networks_drop_what_docs_method_says():
    """Nothing but SENet-154, 0.2 before its last layer: two passes in training differ by dropout alone."""
    dropping = []
    for name in ARCHITECTURES:
        classifier = copy.deepcopy(shared(name)).train()
        for module in classifier.modules():
            if isinstance(module, nn.BatchNorm2d):  # whose passes differ in training too
                module.eval()
        with torch.no_grad():
            first, again = (classifier(random_pixels()) for _ in range(2))
        if not torch.equal(first, again):
            dropping.append(name)
    assert dropping == ["senet154"]
    assert full_size("senet154").network.drop_rate == 0.2


def test_vgg19_stretches_its_last_map_at_128_pixels():
    """From 4x4 to the 7x7 that its first fully connected layer is made for."""
    seen = []
    classifier = full_size("vgg19")
    handle = classifier.network.pre_logits.fc1.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape))
    assert full_size_shapes("vgg19")[4] == (512, 8, 8)  # before the last pooling
    with torch.device("meta"):
        classifier(torch.empty(1, 3, 64, 64))
    handle.remove()
    assert seen[-1][1:] == (512, 7, 7)


def test_layers_of_the_modified_networks_differ_at_the_end():
    plain = full_size("densenet201").taps
    assert full_size("densenet201_conv").taps == (*plain[:-1], Tap("1 conv", "classifier", "logits"))
    assert full_size("densenet201_prelu").taps == (*plain[:-1], Tap("1 pool, 1 FC, 1 PReLU", "classifier", "logits"))


def test_layers_of_a_shrunken_network_count_its_own_blocks():
    assert [tap.layer for tap in shared("densenet201").taps][:3] == [
        "1 conv, 1 max pool, 2 dense layers",
        "1 transition",
        "2 dense layers",
    ]
    assert [tap.layer for tap in shared("inception_resnet_v2").taps][6:11:2] == [
        "1 Block35s",
        "1 Block17s",
        "1 Block8s",
    ]


@pytest.mark.parametrize(
    ("name", "millions", "n_layers"),
    [
        ("resnet18", 11.28, 18),
        ("resnetv2_50", 23.91, 50),
        ("vgg19", 140.39, 19),
        ("senet154", 113.45, 154),
        ("inception_resnet_v2", 54.61, None),
        ("densenet201", 18.48, 201),
        ("densenet201_conv", 24.24, 201),
        ("densenet201_prelu", 18.48, 201),
    ],
)
def test_capacity_with_200_classes(name, millions, n_layers):
    assert round(count_parameters(full_size(name)) / 1e6, 2) == millions
    assert n_layers in (None, count_layers(full_size(name)))


@pytest.mark.parametrize(
    ("name", "input_size", "expected"),
    [
        ("resnet18", 128, {3: (64 * 2, 16, 16), 5: (512, 4, 4)}),
        ("resnetv2_50", 128, {1: (64, 32, 32), 2: (256, 32, 32), 5: (2048, 4, 4)}),
        ("vgg19", 128, {0: (64, 128, 128), 4: (512, 8, 8), 5: (4096, 1, 1)}),
        ("senet154", 128, {1: (256, 32, 32), 4: (2048, 4, 4)}),
        ("inception_resnet_v2", 128, {0: (32, 126, 126), 10: (2080, 6, 6), 11: (2080, 6, 6)}),
        ("inception_resnet_v2", 64, {11: (2080, 2, 2)}),
        ("densenet201", 128, {0: (256, 32, 32), 1: (128, 16, 16), 6: (1920, 4, 4)}),
        ("densenet201_conv", 128, {0: (256, 32, 32), 6: (1920, 4, 4), 7: (200,)}),
        ("densenet201_prelu", 128, {0: (256, 32, 32), 6: (1920, 4, 4), 7: (200,)}),
    ],
)
def test_sizes_of_the_maps_at_full_size(name, input_size, expected):
    shapes = full_size_shapes(name, input_size)
    assert {position: shapes[position] for position in expected} == expected


@every_architecture
def test_imagenet_weights_of_timm_fit(name):
    entry = ARCHITECTURES[name]
    assert timm.get_pretrained_cfg(entry.timm_name).has_weights
    with torch.device("meta"):
        theirs = timm.create_model(entry.timm_name, num_classes=200).state_dict()
    network = full_size(name).network
    head = "classifier." if name in MODIFIED else ()
    ours, theirs = (
        {key: value.shape for key, value in state.items() if not key.startswith(head)}
        for state in (network.state_dict(), theirs)
    )
    assert ours == theirs


@every_architecture
def test_random_weights_come_from_the_seed(name):
    first, again, other = (net.network.state_dict() for net in (shared(name), shrunken(name), shrunken(name, seed=1)))
    assert all(torch.equal(first[key], again[key]) for key in first)
    weights = [key for key, value in first.items() if value.ndim == 4]
    assert all(not torch.equal(first[key], other[key]) for key in weights)


@every_architecture
def test_gradients_reach_the_pixels(name):
    classifier = copy.deepcopy(shared(name)).requires_grad_(False)
    for parameter in classifier.parameters():
        if not parameter.any():  # the residual branches' last scale is zero at first
            parameter.fill_(0.5)
    pixels = random_pixels(1).requires_grad_()
    (gradient,) = torch.autograd.grad(classifier(pixels)[0, 0], pixels)
    assert gradient.isfinite().all()
    assert (gradient != 0).float().mean() > 0.9


# ------------------------------------------------------------------------------------------------ the maps


@pytest.mark.parametrize(
    ("name", "options"), [*((name, {}) for name in ARCHITECTURES), ("vgg19", {"batch_norm": False})]
)
def test_maps_are_rectified_but_for_the_logits(name, options):
    classifier = shrunken(name, **options) if options else shared(name)
    positions, maps, logits = observe(classifier, random_pixels())
    assert positions == list(range(len(full_size(name).taps)))
    for tap, feature_map in zip(classifier.taps[:-1], maps[:-1], strict=True):
        assert feature_map.min() >= 0, tap
        assert feature_map.max() > 0, tap
    assert torch.equal(maps[-1].flatten(1), logits)
    assert logits.min() < 0
    assert logits.shape == (2, 10)


@every_architecture
def test_maps_are_those_of_the_untouched_network(name):
    """A map is seen as later layers see it: the value at the hook is not one that is overwritten before its use."""
    classifier, pixels = shared(name), random_pixels(1)
    with torch.no_grad():
        untouched = classifier(pixels)
    _, maps, logits = observe(classifier, pixels)
    assert torch.equal(logits, untouched)
    kept = {}
    handles = [
        classifier.network.get_submodule(tap.module).register_forward_hook(
            lambda module, inputs, output, tap=tap: kept.update({tap: output})
        )
        for tap in classifier.taps
    ]
    with torch.no_grad():
        classifier(pixels)
    for handle in handles:
        handle.remove()
    for tap, feature_map in zip(classifier.taps, maps, strict=True):
        assert torch.equal(F.relu(kept[tap]) if tap.rectify else kept[tap], feature_map), tap


@torch.no_grad()
def own_maps(classifier, pixels):
    """The map of each tap that a pass can be made to go on from, and the logits of a pass that goes on from it."""
    kept = []
    with ExitStack() as stack:
        for position in range(len(classifier.taps)):
            stack.enter_context(classifier.replaced(position, lambda own: kept.append(own.clone()) or own))
        return kept, classifier(pixels)


@every_architecture
def test_a_pass_goes_on_from_its_own_map_as_before(name):
    classifier, pixels = shared(name), random_pixels(1)
    maps, logits = own_maps(classifier, pixels)
    assert len(maps) == len(classifier.taps)
    with torch.no_grad():
        assert torch.equal(classifier(pixels), logits)


@every_architecture
def test_every_tap_is_a_cut(name):
    """Going on from the map of another image gives the logits of that image: nothing goes around the map."""
    classifier = shared(name)
    one, other = random_pixels(2).split(1)
    maps, of_other = own_maps(classifier, other)
    with torch.no_grad():
        assert not torch.allclose(classifier(one), of_other)
        for position, tap in enumerate(classifier.taps):
            with classifier.replaced(position, lambda own, position=position: maps[position]):
                assert torch.equal(classifier(one), of_other), tap


def test_a_cut_is_where_the_tap_is_but_for_the_transitions_of_densenet():
    """All layers of a dense block read the transition, the tap sees what the first makes of it."""
    for name in ARCHITECTURES:
        for tap in shared(name).taps:
            assert bool(tap.cut) == (tap.layer == "1 transition"), (name, tap)
    classifier = shared("densenet201")
    kept = []
    with torch.no_grad(), classifier.replaced(1, lambda own: kept.append(own.clone()) or own):
        _, maps, _ = observe(classifier, random_pixels(1))
    norm = classifier.network.features.denseblock2.denselayer1.norm1
    assert torch.equal(norm(kept[0]), maps[1])


def test_inception_resnet_v2_runs_at_64_and_at_128_pixels():
    for input_size, last in ((64, 2), (128, 6)):
        classifier = shrunken("inception_resnet_v2", input_size=input_size)
        _, maps, logits = observe(classifier, random_pixels(1))
        assert maps[11].shape == (1, 2080, last, last)
        assert logits.isfinite().all()


# ------------------------------------------------------------------------------------------------ Section 4


@pytest.mark.parametrize(("input_size", "side"), [(128, 4), (127, 4), (125, 4), (124, 3), (64, 2), (61, 2), (60, 1)])
def test_the_convolution_that_replaces_pooling_covers_the_last_map(input_size, side):
    with torch.device("meta"):
        classifier = build_classifier("densenet201_conv", 10, input_size, options=SHRUNKEN["densenet201_conv"]).eval()
        _, maps, logits = observe(classifier, torch.empty(1, 3, 64, 64))
    assert maps[-2].shape[2:] == classifier.network.classifier.conv.kernel_size == (side, side)
    assert logits.shape == (1, 10)


def test_the_convolution_weighs_every_element_of_the_last_map():
    classifier = shared("densenet201_conv")
    _, maps, logits = observe(classifier, random_pixels())
    convolution = classifier.network.classifier.conv
    expected = torch.einsum("bchw,ochw->bo", maps[-2].double(), convolution.weight.double()) + convolution.bias
    torch.testing.assert_close(logits.double(), expected, rtol=0, atol=1e-5)


def test_the_prelu_of_slope_a_quarter_follows_the_fc():
    classifier = shared("densenet201_prelu")
    _, maps, logits = observe(classifier, random_pixels())
    layer = classifier.network.classifier
    assert isinstance(layer.fc, nn.Linear)
    assert [(name, tuple(value.shape)) for name, value in layer.prelu.named_parameters()] == [("weight", (1,))]
    before = maps[-2].mean((2, 3)) @ layer.fc.weight.T + layer.fc.bias
    torch.testing.assert_close(logits, torch.where(before > 0, before, before / 4), rtol=0, atol=1e-5)
    assert (before < 0).any()
