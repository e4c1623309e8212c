"""Guided denoisers (Liao et al. 2018): their loss against a hand-made one, and what training with it does."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from perturbflow.classifiers.building import build_classifier
from perturbflow.classifiers.classifier import Classifier
from perturbflow.classifiers.taps import Tap
from perturbflow.denoisers.guided_loss import GuidedLoss
from perturbflow.denoisers.networks import build_denoiser
from perturbflow.denoisers.training import train_denoiser
from perturbflow.training import Resumable

CPU = torch.device("cpu")


def small_guide(seed=0):
    torch.manual_seed(seed)
    network = nn.Sequential(
        nn.Conv2d(3, 6, 3, 2, 1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.ReLU(inplace=True),
        nn.Linear(24, 5),
    )
    taps = [Tap("1 conv", "1", "spatial"), Tap("1 avg pool", "3", "spatial"), Tap("1 FC", "5", "logits")]
    return Classifier(network, taps, 16).requires_grad_(False).eval()


def pixels(n_images=4, seed=0):
    return torch.rand(n_images, 3, 16, 16, generator=torch.Generator().manual_seed(seed)) * 255


def test_logits_are_compared_by_their_mean_absolute_difference():
    guide, clean, denoised = small_guide(), pixels(), pixels(seed=1)
    expected = (guide(denoised) - guide(clean)).abs().mean()
    torch.testing.assert_close(GuidedLoss(guide, "logits")(denoised, clean), expected)


def test_features_are_what_the_last_layer_reads():
    guide, clean, denoised = small_guide(), pixels(), pixels(seed=1)
    before_last = guide.network[:4]
    features = [before_last(images / 127.5 - 1) for images in (denoised, clean)]
    torch.testing.assert_close(GuidedLoss(guide, "features")(denoised, clean), F.l1_loss(*features))


def test_a_layer_that_works_in_place_does_not_change_the_features():
    """The map of the second tap is overwritten by the ReLU behind it."""
    guide = small_guide()
    with torch.no_grad():
        guide.network[1] = nn.Identity()  # so that the map has negative values
    clean, denoised = pixels(), pixels(seed=1)
    features = [guide.network[:4](images / 127.5 - 1) for images in (denoised, clean)]
    assert min(map(torch.min, features)) < 0
    torch.testing.assert_close(GuidedLoss(guide, "features")(denoised, clean), F.l1_loss(*features))


@pytest.mark.parametrize("compared", ["logits", "features"])
def test_equal_images_cost_nothing_and_others_have_a_gradient(compared):
    loss = GuidedLoss(small_guide(), compared)
    assert float(loss(pixels(), pixels())) == 0
    denoised = pixels(seed=1).requires_grad_()
    loss(denoised, pixels()).backward()
    assert denoised.grad.abs().amax((1, 2, 3)).min() > 0


@pytest.mark.parametrize("architecture", ["resnet18", "vgg19", "senet154", "densenet201_conv"])
def test_the_registrys_networks_guide(architecture):
    options = {
        "resnet18": {"width": 0.125},
        "vgg19": {"width": 0.05},
        "senet154": {"blocks": [1, 1, 1, 1], "bottleneck": False},
        "densenet201_conv": {"blocks": [1, 1, 1, 1], "width": 0.25},
    }[architecture]
    torch.manual_seed(0)
    guide = build_classifier(architecture, 3, 32, options=options).requires_grad_(False).eval()
    denoised = pixels(2, seed=1).requires_grad_()
    for compared in ("logits", "features"):
        loss = GuidedLoss(guide, compared)(denoised, pixels(2))
        assert float(loss.detach()) > 0
        assert torch.autograd.grad(loss, denoised)[0].abs().sum() > 0


def test_a_guided_denoiser_brings_the_logits_nearer_than_one_of_pixels(tmp_path):
    """Of a pattern the guide sees only one of three channels; a denoiser too small for all learns that one."""
    guide = small_guide()
    with torch.no_grad():
        guide.network[0].weight[:, 1:] = 0
    generator = np.random.default_rng(0)
    clean = generator.integers(60, 190, (32, 16, 16, 3)).astype(np.uint8)
    adversarial = {"set": (clean + generator.normal(0, 12, clean.shape)).astype(np.float32)}
    settings = {
        "mix": {"set": 1.0},
        "batch_size": 8,
        "precision": "float32",
        "stages": [{"epochs": 12, "learning_rate": 1e-2, "weight_decay": 0.0, "schedule": "one_cycle"}],
    }
    distance = {}
    for name, loss_of in {"pixels": F.mse_loss, "logits": GuidedLoss(guide, "logits")}.items():
        torch.manual_seed(0)
        denoiser = build_denoiser("unet", 4)
        path = tmp_path / f"{name}.pt"
        history = train_denoiser(denoiser, clean, adversarial, settings, 0, CPU, Resumable(path, name), loss_of=loss_of)
        assert list(history[0]) == ["stage", "epoch", "learning_rate", "train_loss", "train_mse_px2", "seconds"]
        assert history[-1]["train_loss"] < history[0]["train_loss"]
        with torch.no_grad():
            inputs = torch.from_numpy(adversarial["set"]).permute(0, 3, 1, 2)
            expected = torch.from_numpy(clean).permute(0, 3, 1, 2).float()
            distance[name] = float(GuidedLoss(guide, "logits")(denoiser.eval()(inputs), expected))
    assert distance["logits"] < distance["pixels"]
