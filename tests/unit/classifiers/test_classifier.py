import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from perturbflow.classifiers.building import build_classifier
from perturbflow.classifiers.classifier import Classifier
from perturbflow.classifiers.taps import Tap
from tests.unit.classifiers.example_networks import observe, random_pixels, shared, smallest

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
        seen = classifier(torch.full((1, 3, size, size), value))
        torch.testing.assert_close(seen, torch.full((1, 3, 16, 16), expected), rtol=0, atol=1e-6 if size == 20 else 0)


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


# ------------------------------------------------------------------------------------------------ observed, replaced


def test_a_tap_that_does_not_exist_is_refused():
    with pytest.raises(AttributeError, match="elsewhere"):
        Classifier(nn.Sequential(nn.Flatten()), [Tap("1 FC", "elsewhere", "logits")], 8)


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


# ------------------------------------------------------------------------------------------------ chosen logits


def with_chosen_logits(indices):
    torch.manual_seed(0)
    network = build_classifier("resnet18", 6, 32, options={"blocks": [1, 1, 1, 1], "width": 0.125})
    chosen = Classifier(network.network, network.taps, 32, logit_indices=indices)
    return network.eval(), chosen.eval()


@pytest.mark.parametrize("indices", [[4, 1], [4, 1, 0, 2, 3, 5]])
@torch.no_grad()
def test_the_last_tap_is_the_logits_that_count(indices):
    whole, chosen = with_chosen_logits(indices)
    pixels = random_pixels(3, 32)
    expected = whole(pixels)[:, indices]
    positions, maps, logits = observe(chosen, pixels)
    assert torch.equal(logits, expected) and torch.equal(maps[-1], expected)
    assert positions == list(range(len(chosen.taps)))
    with chosen.replaced(len(chosen.taps) - 1, lambda map_: map_ * 2):
        assert torch.equal(chosen(pixels), expected * 2)


def test_gradients_are_those_of_the_logits_that_count():
    whole, chosen = with_chosen_logits([4, 1])
    gradients = []
    for classifier, choose in ((whole, lambda logits: logits[:, [4, 1]]), (chosen, lambda logits: logits)):
        pixels = random_pixels(2, 32).requires_grad_()
        F.cross_entropy(choose(classifier(pixels)), torch.tensor([0, 1])).backward()
        gradients.append(pixels.grad)
    torch.testing.assert_close(*gradients)


def test_which_logits_count_is_not_among_the_weights():
    assert not any("indices" in name for name in with_chosen_logits([4, 1])[1].state_dict())


# ------------------------------------------------------------------------------------------------ interpolation


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "nearest"])
@pytest.mark.parametrize("size", [20, 53])
def test_images_are_resized_as_pillow_does(interpolation, size):
    """Where Pillow clips what bicubic interpolation overshoots by, values stay inside here."""
    image = np.random.default_rng(0).integers(80, 170, (size, size, 3), dtype=np.uint8)
    resampling = Image.Resampling[interpolation.upper()]
    expected = np.asarray(Image.fromarray(image).resize((32, 32), resampling), dtype=np.float32)
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    normalization = {"mean": [0.0, 0.0, 0.0], "std": [1.0, 1.0, 1.0]}
    resized = 255 * Classifier(nn.Identity(), [], 32, normalization, interpolation)(pixels)[0].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(resized, expected, atol=1.1)


def test_an_unknown_interpolation_is_refused():
    with pytest.raises(ValueError, match=r"^interpolation: lanczos is not one of bilinear, bicubic, nearest"):
        Classifier(nn.Identity(), [], 32, interpolation="lanczos")
