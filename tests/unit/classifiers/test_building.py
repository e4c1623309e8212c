import copy
import csv
import functools
import pickle
import re
import sys
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

from perturbflow.attacks.gradient_sign import ATTACKS
from perturbflow.classifiers import building as classifiers
from perturbflow.classifiers.architectures import ARCHITECTURES
from perturbflow.classifiers.building import build_classifier, load_classifier, save_classifier
from perturbflow.classifiers.classifier import Classifier, count_layers, count_parameters
from perturbflow.classifiers.taps import Tap

SHRUNKEN = {
    "resnet18": {"blocks": [1, 1, 1, 1], "width": 0.25},
    "resnetv2_50": {"blocks": [1, 1, 1, 1], "width": 0.25},
    "vgg19": {"width": 0.125, "batch_norm": True},
    "senet154": {"blocks": [1, 1, 1, 1], "bottleneck": False},
    "inception_resnet_v2": {"blocks": [1, 1, 1]},
    "densenet201": {"blocks": [2, 2, 2, 2], "width": 0.375},
    "densenet201_conv": {"blocks": [2, 2, 2, 2], "width": 0.375},
    "densenet201_prelu": {"blocks": [2, 2, 2, 2], "width": 0.375},
}
N_TAPS = {
    "resnet18": 8,
    "resnetv2_50": 8,
    "vgg19": 8,
    "senet154": 7,
    "inception_resnet_v2": 14,
    "densenet201": 8,
    "densenet201_conv": 8,
    "densenet201_prelu": 8,
}
# The networks of Section 4 of the paper, whose last layer is another than that of the network they come from.
MODIFIED = ("densenet201_conv", "densenet201_prelu")
CPU = torch.device("cpu")

every_architecture = pytest.mark.parametrize("name", ARCHITECTURES)


@functools.cache
def full_size(name, input_size=128):
    """The network of the paper with 200 classes; without memory for its weights, so that it costs no time either."""
    with torch.device("meta"):
        return build_classifier(name, 200, input_size).eval()


def shrunken(name, n_classes=10, input_size=64, seed=0, **options):
    torch.manual_seed(seed)
    return build_classifier(name, n_classes, input_size, options=SHRUNKEN[name] | options).eval()


@functools.cache
def shared(name):
    """One `shrunken` for all tests that leave it as it is."""
    return shrunken(name)


@functools.cache
def smallest(seed=0, n_classes=5):
    return shrunken("resnet18", n_classes, input_size=32, seed=seed, width=0.125)


def random_pixels(n_images=2, size=64, device=CPU):
    return torch.rand(n_images, 3, size, size, generator=torch.Generator().manual_seed(0)).to(device) * 255


@torch.no_grad()
def observe(classifier, pixels):
    """Positions and maps in the order in which they came by, and the logits."""
    seen = []
    with classifier.observed(lambda position, feature_map: seen.append((position, feature_map.clone()))):
        logits = classifier(pixels)
    return [position for position, _ in seen], [feature_map for _, feature_map in seen], logits


@functools.cache
def full_size_shapes(name, input_size=128):
    with torch.device("meta"):
        positions, maps, logits = observe(full_size(name, input_size), torch.empty(2, 3, 64, 64))
    assert positions == list(range(N_TAPS[name]))
    assert logits.shape == (2, 200)
    return [tuple(feature_map.shape[1:]) for feature_map in maps]


def table6(repository):
    procedures = {}
    with open(repository / "resources/paper/table6.csv", newline="") as file:
        for row in csv.DictReader(file):
            procedures.setdefault(row["classifier"], []).append((int(row["position"]), row["procedure"]))
    return procedures


# ------------------------------------------------------------------------------------------------ the registry


def test_these_tests_know_every_architecture():
    assert set(SHRUNKEN) == set(N_TAPS) == set(ARCHITECTURES)


@every_architecture
def test_number_of_taps(name):
    assert len(full_size(name).taps) == len(shared(name).taps) == N_TAPS[name]


@every_architecture
def test_taps_are_modules_of_the_network(name):
    for classifier in (full_size(name), shared(name)):
        for tap in classifier.taps:
            assert isinstance(classifier.network.get_submodule(tap.module), nn.Module)
        assert len({tap.module for tap in classifier.taps}) == len(classifier.taps)


def test_a_tap_that_does_not_exist_is_refused():
    with pytest.raises(AttributeError, match="elsewhere"):
        Classifier(nn.Sequential(nn.Flatten()), [Tap("1 FC", "elsewhere")], 8)


def test_layers_are_worded_as_in_table_6(repository):
    for name, procedures in table6(repository).items():
        assert list(enumerate((tap.layer for tap in full_size(name).taps), start=1)) == procedures, name


def test_layers_of_the_modified_networks_differ_at_the_end():
    plain = full_size("densenet201").taps
    assert full_size("densenet201_conv").taps == (*plain[:-1], Tap("1 conv", "classifier"))
    assert full_size("densenet201_prelu").taps == (*plain[:-1], Tap("1 pool, 1 FC, 1 PReLU", "classifier"))


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


# ------------------------------------------------------------------------------------------------ the maps


@pytest.mark.parametrize(
    ("name", "options"), [*((name, {}) for name in ARCHITECTURES), ("vgg19", {"batch_norm": False})]
)
def test_maps_are_rectified_but_for_the_logits(name, options):
    classifier = shrunken(name, **options) if options else shared(name)
    positions, maps, logits = observe(classifier, random_pixels())
    assert positions == list(range(N_TAPS[name]))
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


def test_nothing_is_observed_outside_of_the_block():
    classifier, seen = smallest(), []
    with pytest.raises(KeyboardInterrupt), classifier.observed(lambda position, _: seen.append(position)):
        classifier(random_pixels(1))
        raise KeyboardInterrupt
    classifier(random_pixels(1))
    assert seen == list(range(8))


def test_each_pass_is_observed():
    classifier, seen = smallest(), []
    with classifier.observed(lambda position, _: seen.append(position)):
        classifier(random_pixels(1))
        classifier(random_pixels(1))
    assert seen == 2 * list(range(8))


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
    assert len(maps) == N_TAPS[name]
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


def test_a_replaced_map_is_the_modules_own_and_not_rectified():
    classifier = shared("resnetv2_50")
    kept = []
    with torch.no_grad(), classifier.replaced(0, lambda own: kept.append(own.clone()) or own):
        _, maps, _ = observe(classifier, random_pixels(1))
    assert kept[0].min() < 0
    assert torch.equal(F.relu(kept[0]), maps[0])


def test_a_pass_goes_on_from_a_part_of_the_change_of_a_map():
    """As in a network that is written down anew behind the tap."""
    classifier = smallest()
    network = classifier.network
    with torch.no_grad():
        with classifier.replaced(5, lambda own: own[:1] + 0.5 * (own[1:] - own[:1])):
            logits = classifier(random_pixels(2, 32))
        _, maps, _ = observe(classifier, random_pixels(2, 32))
        half = (maps[5][0] + maps[5][1]) / 2
        expected = half.mean((1, 2)) @ network.fc.weight.T + network.fc.bias
    assert logits.shape == (1, 5)
    torch.testing.assert_close(logits[0], expected)


def test_a_replacement_of_another_shape_is_refused():
    classifier = smallest()
    with classifier.replaced(2, lambda own: own[..., :1]), pytest.raises(ValueError, match="at layer1 the pass cannot"):
        classifier(random_pixels(1))


def test_nothing_is_replaced_outside_of_the_block():
    classifier = smallest()
    expected = classifier(random_pixels(1))
    with pytest.raises(KeyboardInterrupt), classifier.replaced(3, torch.zeros_like):
        assert not torch.equal(classifier(random_pixels(1)), expected)
        raise KeyboardInterrupt
    assert torch.equal(classifier(random_pixels(1)), expected)


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


# ------------------------------------------------------------------------------------------------ pixels


def bilinear(image, size):
    """(H, W) -> (size, size): pixel centres at (i + 1/2) / n, the nearest pixel beyond the outermost centres."""

    def weights(n_from):
        matrix = np.zeros((size, n_from))
        for target in range(size):
            place = min(max((target + 0.5) * n_from / size - 0.5, 0), n_from - 1)
            low = min(int(place), n_from - 2)
            matrix[target, low] = 1 - (place - low)
            matrix[target, low + 1] = place - low
        return matrix

    return weights(image.shape[0]) @ image @ weights(image.shape[1]).T


@pytest.mark.parametrize("size", [4, 5, 7, 8])
def test_pixels_are_resized_and_normalized(size):
    pixels = random_pixels(2, size)
    seen_by_network = Classifier(nn.Identity(), [], input_size=8)(pixels)
    expected = [[bilinear(channel.double().numpy(), 8) / 127.5 - 1 for channel in image] for image in pixels]
    np.testing.assert_allclose(seen_by_network.numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("size", [8, 16, 20])
def test_black_is_minus_one_and_white_is_one(size):
    classifier = Classifier(nn.Identity(), [], input_size=16)
    for value, expected in ((0.0, -1.0), (255.0, 1.0), (127.5, 0.0)):
        assert torch.equal(classifier(torch.full((1, 3, size, size), value)), torch.full((1, 3, 16, 16), expected))


def test_pixels_of_the_right_size_are_not_resampled():
    pixels = random_pixels(1, 16)
    assert torch.equal(Classifier(nn.Identity(), [], input_size=16)(pixels), pixels / 127.5 - 1)


@pytest.mark.parametrize(
    "normalization",
    [
        {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]},
        {"mean": [0.0, 0.0, 0.0], "std": [1.0, 1.0, 1.0]},
        {"std": [0.2, 0.3, 0.4]},
    ],
)
def test_each_channel_is_normalized_on_its_own(normalization):
    pixels = random_pixels(2, 8)
    classifier = Classifier(nn.Identity(), [], 8, normalization)
    mean, std = normalization.get("mean", [0.5, 0.5, 0.5]), normalization["std"]
    expected = np.stack([(pixels[:, c].double().numpy() / 255 - mean[c]) / std[c] for c in range(3)], axis=1)
    np.testing.assert_allclose(classifier(pixels).numpy(), expected, rtol=0, atol=2e-6)


def test_the_default_normalization_is_the_papers_to_the_last_bit():
    pixels = random_pixels(4, 64).contiguous(memory_format=torch.channels_last)
    default = Classifier(nn.Identity(), [], 64)
    assert torch.equal(default(pixels), pixels / 127.5 - 1)
    papers = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}
    assert torch.equal(Classifier(nn.Identity(), [], 64, papers)(pixels), default(pixels))


def test_the_normalization_is_not_among_the_weights():
    classifier = Classifier(nn.Linear(2, 2), [], 8, {"mean": [0.1, 0.2, 0.3]})
    assert set(classifier.state_dict()) == {"network.weight", "network.bias"}
    assert classifier.double().divisor.dtype == torch.float64  # it follows the network


@pytest.mark.parametrize(
    ("normalization", "message"),
    [
        ({"mean": [0.5]}, r"normalization\.mean: must be three numbers, got \[0.5\]"),
        ({"mean": [0.5, 0.5, float("nan")]}, r"normalization\.mean"),
        ({"std": [0.5, 0.5, 0.0]}, r"normalization\.std: must be three positive numbers"),
        ({"std": [0.5, 0.5, 0.5, 0.5]}, r"normalization\.std"),
    ],
)
def test_a_normalization_of_something_else_is_refused(normalization, message):
    with pytest.raises(ValueError, match=message):
        build_classifier("resnet18", 2, options={"width": 0.125}, normalization=normalization)


def test_gradient_of_resizing_and_normalization():
    pixels = random_pixels(1, 8).requires_grad_()
    Classifier(nn.Identity(), [], input_size=16)(pixels).sum().backward()
    # Each pixel is spread over 2 x 2 of the input, 1 / 127.5 each.
    torch.testing.assert_close(pixels.grad, torch.full_like(pixels, 4 / 127.5))


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


# ------------------------------------------------------------------------------------------------ building


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("vgg20", "vgg19"),
        ("densenet201_con", "densenet201_conv"),
        ("convnext_ato", "convnext_atto"),
        ("resnet50.a9_in1k", r"resnet50\.a1_in1k"),
        ("???", "resnet18, resnetv2_50"),
    ],
)
def test_an_unknown_architecture_is_refused_with_the_nearest_names(name, near):
    with pytest.raises(ValueError, match=rf"^architecture: {re.escape(name)} is known neither .* nearest are .*{near}"):
        build_classifier(name, 10)


def test_an_unknown_option_is_refused_by_name():
    with pytest.raises(ValueError, match=r"^options.depth: resnet18 has no such option; it takes: blocks, width"):
        build_classifier("resnet18", 10, options={"depth": 3})
    with pytest.raises(ValueError, match=r"^options.blocks: vgg19 has no such option; it takes: width, batch_norm"):
        build_classifier("vgg19", 10, options={"blocks": [1]})
    with pytest.raises(ValueError, match=r"^options.n_classes: "):
        build_classifier("resnet18", 10, options={"n_classes": 3})


@every_architecture
def test_random_weights_come_from_the_seed(name):
    first, again, other = (net.network.state_dict() for net in (shared(name), shrunken(name), shrunken(name, seed=1)))
    assert all(torch.equal(first[key], again[key]) for key in first)
    weights = [key for key, value in first.items() if value.ndim == 4]
    assert all(not torch.equal(first[key], other[key]) for key in weights)


@every_architecture
def test_imagenet_weights_are_asked_of_timm(name, monkeypatch):
    create_model, asked = timm.create_model, []

    def offline(model_name, pretrained, num_classes):
        asked.append((model_name, pretrained, num_classes))
        return create_model(model_name, num_classes=num_classes)

    monkeypatch.setattr(classifiers.timm, "create_model", offline)
    with torch.device("meta"):
        classifier = build_classifier(name, 200, weights="imagenet").eval()
        logits = classifier(torch.empty(1, 3, 64, 64))
    assert asked == [(ARCHITECTURES[name].timm_name, True, 200)]
    assert classifier.taps == full_size(name).taps
    assert logits.shape == (1, 200)
    if name == "inception_resnet_v2":
        assert classifier.network.conv2d_1a.conv.stride == (1, 1)


def test_imagenet_weights_do_not_fit_a_shrunken_network():
    with pytest.raises(ValueError, match=r"^weights: ImageNet weights do not fit resnet18 shrunk by .*width"):
        build_classifier("resnet18", 10, weights="imagenet", options={"width": 0.5})


# ------------------------------------------------------------------------------------------------ timm, one's own


@pytest.mark.parametrize("name", ["test_resnet", "test_convnext", "test_efficientnet", "test_vit", "regnety_002"])
def test_a_network_of_timm_is_timms(name):
    torch.manual_seed(0)
    theirs = timm.create_model(name, num_classes=5, **({"img_size": 32} if name == "test_vit" else {})).eval()
    torch.manual_seed(0)
    classifier = build_classifier(name, 5, 32).eval()
    pixels = random_pixels(2, 32)
    with torch.no_grad():
        _, maps, logits = observe(classifier, pixels)
        assert torch.equal(logits, theirs(pixels / 127.5 - 1))
    assert torch.equal(maps[-1], logits)
    assert all(feature_map.isfinite().all() for feature_map in maps)


def test_options_go_to_timm():
    classifier = build_classifier("test_resnet", 5, 32, options={"layers": [2, 1, 1, 1], "stem_width": 8})
    assert len(classifier.network.layer1) == 2
    assert classifier.network.conv1[0].out_channels == 8


def test_a_network_of_timm_of_a_fixed_size_is_made_for_the_input():
    assert build_classifier("test_vit", 5, 32).network.patch_embed.img_size == (32, 32)
    assert build_classifier("test_vit", 5, 64, options={"img_size": 64}).network.patch_embed.img_size == (64, 64)


def test_imagenet_weights_of_any_network_are_asked_of_timm(monkeypatch):
    create_model, asked = timm.create_model, []

    def offline(name, pretrained, **arguments):
        asked.append((name, pretrained))
        return create_model(name, **arguments)

    monkeypatch.setattr(classifiers.timm, "create_model", offline)
    build_classifier("test_resnet", 5, 32, weights="imagenet")
    build_classifier("test_resnet.r160_in1k", 5, 32, weights="imagenet")
    build_classifier("test_vit", 5, 32, weights="none")
    assert asked == [("test_resnet", True), ("test_resnet.r160_in1k", True), ("test_vit", False)]
    with pytest.raises(ValueError, match=r"^weights: timm has no weights for cs3darknet_s; give a file or none"):
        build_classifier("cs3darknet_s", 5, 32, weights="imagenet")


def test_a_failed_download_is_told_as_such(monkeypatch):
    def offline(*arguments, **options):
        raise ConnectionError("no route to host")

    monkeypatch.setattr(classifiers.timm, "create_model", offline)
    for name in ("test_resnet", "test_vit"):
        with pytest.raises(ConnectionError, match="no route"):
            build_classifier(name, 5, 32, weights="imagenet")


OWN_NETWORK = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, num_classes, width=4):
        super().__init__()
        if width < 1:
            raise ArithmeticError("no width")
        self.head = nn.Linear(width, num_classes)
        self.body = nn.Sequential(nn.Conv2d(3, width, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())

    def forward(self, images):
        return self.head(self.body(images))

def make(**arguments):
    return Net(**arguments)

def of_nothing(num_classes):
    return None

def without_classes(width=4):
    return Net(3, width)

number = 3
"""


@pytest.fixture
def own_networks(tmp_path, monkeypatch):
    """A module `own_networks` in the working directory."""
    (tmp_path / "own_networks.py").write_text(OWN_NETWORK)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    sys.modules.pop("own_networks", None)


def test_a_network_of_ones_own_is_made_with_classes_and_options(own_networks):
    classifier = build_classifier("own_networks:Net", 6, 16, options={"width": 8})
    assert classifier.network.head.weight.shape == (6, 8)
    assert classifier(random_pixels(2, 16)).shape == (2, 6)
    assert [(tap.layer, tap.module) for tap in classifier.taps] == [("body", "body"), ("logits", "head")]


@pytest.mark.parametrize(
    ("path", "options", "message"),
    [
        ("own_networks:Net", {"widht": 8}, r"^options\.widht: own_networks:Net has no such argument; it takes width$"),
        (
            "own_networks:make",
            {"widht": 8},
            r"^options\.widht: own_networks:make has no such argument; it takes width$",
        ),
        ("own_networks:Net", {"width": 0}, r"^options: own_networks:Net cannot be made with .*Arithmetic.*no width"),
        ("own_networks:Net", {"num_classes": 3}, r"^options\.num_classes: is not free, it is 5 here"),
        ("test_vit", {"num_classes": 3}, r"^options\.num_classes: is not free, it is 5 here"),
        ("test_resnet", {"pretrained": True}, r"^options\.pretrained: is not free, it is False here"),
        ("own_networks:Nets", {}, r"^architecture: own_networks:Nets: own_networks has no Nets; did you mean Net\?"),
        ("own_network:Net", {}, r"^architecture: own_network:Net: there is no module own_network"),
        ("own_networks:number", {}, r"^architecture: own_networks:number is a int, not something to call"),
        ("own_networks:of_nothing", {}, r"^architecture: own_networks:of_nothing gives a NoneType, not a torch"),
        ("own_networks:without_classes", {}, r"^options: .*unexpected keyword argument 'num_classes'"),
        (
            "test_resnet",
            {"stem_widht": 8},
            r"^options\.stem_widht: test_resnet has no such argument; it takes stem_width",
        ),
        ("test_vit", {"dept": 8}, r"^options\.dept: test_vit has no such argument; it takes depth"),
        ("torchvision.models:resnet18", {"group": 2}, r"^options\.group: torchvision.models:resnet18 .* takes groups"),
        ("test_resnet", {"layers": [1]}, r"^options: test_resnet cannot be made with .*layers"),
    ],
)
def test_what_cannot_be_made_is_refused(own_networks, path, options, message):
    with pytest.raises(ValueError, match=message):
        build_classifier(path, 5, 32, options=options)


def test_imagenet_weights_are_refused_for_a_network_of_ones_own():
    with pytest.raises(
        ValueError, match=r"^weights: imagenet is for networks of timm; for torchvision\.models:resnet18"
    ):
        build_classifier("torchvision.models:resnet18", 5, weights="imagenet")


# ------------------------------------------------------------------------------------------------ files of weights


def description(classifier, **options):
    return {
        "architecture": "resnet18",
        "n_classes": classifier.network.num_classes,
        "input_size": classifier.input_size,
        "options": SHRUNKEN["resnet18"] | {"width": 0.125} | options,
    }


@pytest.fixture
def checkpoint(tmp_path):
    """A checkpoint of `smallest()`."""
    save_classifier(tmp_path / "checkpoint.pt", smallest(), description(smallest()))
    return tmp_path / "checkpoint.pt"


def from_file(path, n_classes=5, architecture="resnet18", **options):
    torch.manual_seed(99)
    options = options or SHRUNKEN["resnet18"] | {"width": 0.125}
    return build_classifier(architecture, n_classes, 32, weights=str(path), options=options)


def test_a_checkpoint_is_taken_as_it_is_for_the_same_classes(checkpoint):
    ours = from_file(checkpoint).network.state_dict()
    for key, value in smallest().network.state_dict().items():
        assert torch.equal(ours[key], value), key


def test_the_last_layer_is_replaced_for_other_classes(checkpoint):
    network = from_file(checkpoint, n_classes=7).network
    torch.manual_seed(99)
    fresh = build_classifier("resnet18", 7, options=SHRUNKEN["resnet18"] | {"width": 0.125}).network
    assert torch.equal(network.fc.weight, fresh.fc.weight)
    ours = network.state_dict()
    for key, value in smallest().network.state_dict().items():
        assert key.startswith("fc.") or torch.equal(ours[key], value), key


@pytest.fixture(scope="module")
def timm_files(tmp_path_factory):
    """A network of timm with random weights and 3 classes, and its files in the formats that timm writes."""
    folder = tmp_path_factory.mktemp("timm")
    torch.manual_seed(1)
    network = timm.create_model("resnet18", num_classes=3)
    torch.save(network.state_dict(), folder / "weights.pth")
    torch.save({"state_dict": {f"module.{k}": v for k, v in network.state_dict().items()}}, folder / "distributed.pt")
    save_file(network.state_dict(), folder / "weights.safetensors")
    return network, folder


@pytest.mark.parametrize("n_classes", [3, 4])
@pytest.mark.parametrize("file", ["weights.pth", "weights.safetensors", "distributed.pt"])
def test_files_of_timm_are_loaded(timm_files, file, n_classes):
    network, folder = timm_files
    ours = build_classifier("resnet18", n_classes, weights=str(folder / file)).network.state_dict()
    for key, value in network.state_dict().items():
        same = ours[key].shape == value.shape and torch.equal(ours[key], value)
        assert same == (n_classes == 3 or not key.startswith("fc.")), key


@pytest.mark.parametrize(
    ("architecture", "options", "their_name"),
    [
        (
            "densenet201",
            {"blocks": [1, 1, 1, 1], "width": 0.25},
            lambda name: (
                name.replace(".norm1", ".norm.1")
                .replace(".norm2", ".norm.2")
                .replace(".conv1", ".conv.1")
                .replace(".conv2", ".conv.2")
            ),
        ),
        ("vgg19", {"width": 0.125}, lambda name: name.replace("head.fc", "classifier.6")),
    ],
)
def test_names_of_torchvision_are_understood(tmp_path, architecture, options, their_name):
    torch.manual_seed(1)
    network = build_classifier(architecture, 3, options=options).network
    theirs = {their_name(name): value for name, value in network.state_dict().items()}
    assert theirs.keys() != network.state_dict().keys()
    torch.save(theirs, tmp_path / "weights.pth")
    ours = build_classifier(architecture, 3, weights=str(tmp_path / "weights.pth"), options=options)
    for key, value in network.state_dict().items():
        assert torch.equal(ours.network.state_dict()[key], value), key


@pytest.mark.parametrize("name", MODIFIED)
def test_weights_of_the_plain_densenet201_get_a_new_last_layer(tmp_path, name):
    plain = shared("densenet201").network.state_dict()
    torch.save(plain, tmp_path / "plain.pth")
    torch.manual_seed(99)
    fresh = build_classifier(name, 10, 32, options=SHRUNKEN[name]).network.state_dict()
    ours = from_file(tmp_path / "plain.pth", 10, name, **SHRUNKEN[name]).network.state_dict()
    for key, value in ours.items():
        assert torch.equal(value, fresh[key] if key.startswith("classifier.") else plain[key]), key


@pytest.mark.parametrize("name", MODIFIED)
def test_weights_of_a_modified_network_are_taken_with_their_last_layer(tmp_path, name):
    classifier = shrunken(name, 10, 32, seed=3)
    options = {"architecture": name, "n_classes": 10, "input_size": 32, "options": SHRUNKEN[name]}
    save_classifier(tmp_path / "own.pt", classifier, options)
    ours = from_file(tmp_path / "own.pt", 10, name, **SHRUNKEN[name]).network.state_dict()
    for key, value in classifier.network.state_dict().items():
        assert torch.equal(ours[key], value), key


@pytest.mark.parametrize(
    ("path", "head"),
    [
        ("test_resnet", "fc."),
        ("test_convnext", "head.fc."),
        ("torchvision.models:squeezenet1_1", "classifier.1."),
    ],
)
@pytest.mark.parametrize("n_classes", [3, 4])
def test_weights_of_other_networks_get_a_new_last_layer(tmp_path, caplog, path, head, n_classes):
    """The last layer is what the network calls its classifier, else the last with weights."""
    torch.manual_seed(1)
    theirs = build_classifier(path, 3, 32).network.state_dict()
    torch.save(theirs, tmp_path / "weights.pth")
    ours = build_classifier(path, n_classes, 32, weights=str(tmp_path / "weights.pth")).network.state_dict()
    for key, value in theirs.items():
        same = ours[key].shape == value.shape and torch.equal(ours[key], value)
        assert same == (n_classes == 3 or not key.startswith(head)), key
    assert ("its last layer does not fit" in caplog.text) == (n_classes != 3)


def test_weights_that_differ_elsewhere_than_in_the_last_layer_are_refused(own_networks):
    """The network's layer for the classes is not its last one with weights."""
    network = build_classifier("own_networks:Net", 3, 16).network
    torch.save(network.state_dict(), "weights.pth")
    ours = build_classifier("own_networks:Net", 3, 16, weights="weights.pth").network.state_dict()
    assert all(torch.equal(ours[key], value) for key, value in network.state_dict().items())
    with pytest.raises(ValueError, match=r"weights\.pth does not fit the network at head\.weight, head\.bias"):
        build_classifier("own_networks:Net", 4, 16, weights="weights.pth")


def test_old_files_without_counters_are_loaded(tmp_path):
    state = {key: value for key, value in smallest().network.state_dict().items() if "num_batches" not in key}
    torch.save(state, tmp_path / "old.pth")
    assert torch.equal(from_file(tmp_path / "old.pth").network.conv1.weight, smallest().network.conv1.weight)


def test_a_missing_file_of_weights_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"weights: .*absent.pt does not exist; give a file, `imagenet`"):
        from_file(tmp_path / "absent.pt")
    with pytest.raises(FileNotFoundError, match="does not exist"):
        from_file(tmp_path)


def test_weights_of_another_network_are_refused(checkpoint):
    with pytest.raises(ValueError, match=r"checkpoint.pt does not fit the network at features.0"):
        from_file(checkpoint, architecture="vgg19", **SHRUNKEN["vgg19"])
    with pytest.raises(ValueError, match=r"checkpoint.pt does not fit the network at layer1.0.conv1.weight"):
        from_file(checkpoint, **SHRUNKEN["resnet18"])


def test_weights_of_a_deeper_or_shallower_network_are_refused(checkpoint):
    with pytest.raises(ValueError, match=r"does not fit the network at layer2\.1\.conv1\.weight"):
        from_file(checkpoint, blocks=[1, 2, 1, 1], width=0.125)
    torch.manual_seed(0)
    options = {"blocks": [1, 2, 1, 1], "width": 0.125}
    deeper = build_classifier("resnet18", 5, 32, options=options)
    save_classifier(checkpoint, deeper, description(deeper, **options))
    with pytest.raises(ValueError, match=r"does not fit the network at layer2\.1\.conv1\.weight"):
        from_file(checkpoint)


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".safetensors"])
def test_a_file_that_holds_no_weights_is_refused(tmp_path, suffix):
    path = tmp_path / f"picture{suffix}"
    path.write_bytes(b"\x89PNG\r\n" + bytes(100))
    with pytest.raises(ValueError, match=r"weights: .*picture.* cannot be read as a file of weights"):
        from_file(path)


@pytest.mark.parametrize(
    "content", [[1, 2], torch.zeros(3), {}, {"epoch": 3}, {"classifier.0.weight": torch.zeros(2, 2)}]
)
def test_a_file_of_something_else_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "else.pt")
    with pytest.raises(ValueError, match=r"weights: .*else.pt (cannot be read|does not fit)"):
        from_file(tmp_path / "else.pt", architecture="vgg19", **SHRUNKEN["vgg19"])


# ------------------------------------------------------------------------------------------------ checkpoints


def test_equal_weights_make_equal_files(tmp_path):
    torch.manual_seed(0)
    classifier = build_classifier("resnet18", 3, 32, "none", {"blocks": [1, 1, 1, 1], "width": 0.125})
    for name in ("one.part", "another.part"):
        save_classifier(tmp_path / name, classifier, {"architecture": "resnet18"})
    assert (tmp_path / "one.part").read_bytes() == (tmp_path / "another.part").read_bytes()


@every_architecture
def test_a_saved_classifier_is_loaded_with_equal_logits(name, tmp_path):
    classifier = copy.deepcopy(shared(name)).train()
    with torch.no_grad():
        classifier(random_pixels(4))  # so that the statistics of batch normalisation are not those of a new network
    options = {"architecture": name, "n_classes": 10, "input_size": 64, "options": SHRUNKEN[name]}
    save_classifier(tmp_path / "checkpoint.pt", classifier, options | {"class_names": ["a", "b"], "git_commit": "x"})
    loaded = load_classifier(tmp_path / "checkpoint.pt", CPU)
    assert not loaded.training
    assert not any(module.training for module in loaded.modules())
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    assert loaded.taps == classifier.taps
    assert loaded.input_size == 64
    pixels = random_pixels().contiguous(memory_format=torch.channels_last)
    expected = classifier.eval().to(memory_format=torch.channels_last)(pixels)
    assert torch.equal(loaded(pixels), expected)


@pytest.mark.parametrize(
    ("architecture", "taps"),
    [
        ("test_resnet", None),
        ("test_resnet", ["layer2", "fc"]),
        ("own_networks:Net", {"the body": "body.1", "the end": "head"}),
        ("resnet18", ["layer3", "fc"]),
    ],
)
def test_a_classifier_with_taps_and_normalization_of_its_own_is_loaded(own_networks, architecture, taps):
    settings = {
        "architecture": architecture,
        "n_classes": 4,
        "input_size": 32,
        "options": {"width": 0.125} if architecture == "resnet18" else {},
        "taps": taps,
        "normalization": {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.4]},
    }
    classifier = build_classifier(**settings).eval().to(memory_format=torch.channels_last)
    save_classifier(own_networks / "checkpoint.pt", classifier, settings)
    loaded = load_classifier(own_networks / "checkpoint.pt", CPU)
    assert loaded.taps == classifier.taps
    if taps:
        assert [tap.module for tap in loaded.taps] == list(taps.values() if isinstance(taps, dict) else taps)
    pixels = random_pixels().contiguous(memory_format=torch.channels_last)
    assert torch.equal(loaded(pixels), classifier(pixels))
    content = torch.load(own_networks / "checkpoint.pt", weights_only=True)
    assert content["taps"] == taps
    assert content["normalization"] == settings["normalization"]


def test_a_checkpoint_without_taps_and_normalization_has_the_defaults(checkpoint):
    assert not {"taps", "normalization"} & set(torch.load(checkpoint, weights_only=True))
    loaded = load_classifier(checkpoint, CPU)
    assert loaded.taps == smallest().taps
    assert torch.equal(loaded.divisor, torch.full((1, 3, 1, 1), 127.5))
    assert torch.equal(loaded.offset, torch.ones(1, 3, 1, 1))


def test_a_checkpoint_keeps_its_description(checkpoint):
    content = torch.load(checkpoint, weights_only=True)
    assert {key: content[key] for key in description(smallest())} == description(smallest())


def test_loading_a_frozen_classifier_keeps_gradients_of_pixels(checkpoint):
    pixels = random_pixels(1).requires_grad_()
    load_classifier(checkpoint, CPU)(pixels).sum().backward()
    assert pixels.grad.abs().sum() > 0


class Intruder:
    """Unpickling it creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_loading_runs_no_code_of_the_file(tmp_path):
    trace, path = tmp_path / "trace", tmp_path / "checkpoint.pt"
    torch.save(description(smallest()) | {"network": Intruder(trace)}, path)
    with pytest.raises(pickle.UnpicklingError):
        load_classifier(path, CPU)
    with pytest.raises(ValueError, match="cannot be read"):
        from_file(path)
    assert not trace.exists()
    torch.load(path, weights_only=False)
    assert trace.exists()  # the intruder works


# ------------------------------------------------------------------------------------------------ attacks on a device


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_an_attack_on_a_loaded_classifier_gives_finite_pixels(checkpoint, device, attack):
    device = torch.device(device)
    classifier = load_classifier(checkpoint, device)
    pixels = random_pixels(6, 32, device)
    labels = classifier(pixels).argmax(1)
    walk = ATTACKS[attack](step=2.0, max_steps=3, early_stop=False, batch_size=4)
    result = torch.full_like(pixels, torch.nan)
    for part in walk.stream(classifier, classifier, pixels, labels):
        result[part.index] = part.images
        assert part.images.device.type == device.type
    assert result.isfinite().all()
    assert 0 < (result - pixels).abs().max() <= 6.001
    assert result.min() >= 0
    assert result.max() <= 255
