"""The attacks of the package against those of the reference: in memory to the last digits, then the study's files.

In memory the package's attacks walk through networks in double precision, as the reference does, and all images must
come out the same. The workflow computes in single precision: there rounding turns the sign of a gradient that is nearly
zero, or a ReLU, and an image that meets one may end elsewhere (docs/method.md, Batches).
"""

import numpy as np
import pytest
import torch

from perturbflow.attacks.gradient_sign import FGSM, IterativeFGSM, MomentumIterativeFGSM
from perturbflow.attacks.noise import gaussian_noise, sign_noise
from perturbflow.denoisers.defended import Defended
from perturbflow.planning.declarations import attacks
from tests.reference.attacks import Adversary, fgsm, ifgsm, mifgsm, noise_of_norm
from tests.reference.networks import behind, read_classifier, read_column, read_images
from tests.reference.small_networks import Denoiser, classifier, relative
from tests.workflow.study import Study

N_IMAGES = 24
SETTINGS = {"step": 2.13, "max_steps": 6}
ATTACKS = {
    "fgsm": (FGSM, fgsm, {}),
    "ifgsm": (IterativeFGSM, ifgsm, {}),
    "mifgsm": (MomentumIterativeFGSM, mifgsm, {"decay": 0.9}),
}


def test_every_attack_of_the_package_has_a_reference() -> None:
    assert {*ATTACKS} == {*attacks()}


@pytest.fixture(scope="module")
def images() -> list[torch.Tensor]:
    """Images of whole pixel values; of some many lie near 0 or 255, where steps are clipped."""
    generator = torch.Generator().manual_seed(0)
    contrast = torch.linspace(20, 200, N_IMAGES)[:, None, None, None]
    pixels = 127.5 + contrast * torch.randn(N_IMAGES, 3, 8, 8, generator=generator)
    return list(pixels.clip(0, 255).round().double())


def adversaries_of_the_package(attack, attacker, stopping, images, labels) -> list[Adversary]:
    """In the order of the images, whichever batch each was in."""
    found = {}
    for part in attack.stream(attacker, stopping, torch.stack(images), torch.tensor(labels)):
        columns = (part.index, part.steps, part.succeeded, part.already_misclassified)
        for image, (index, *rest) in zip(part.images, zip(*(c.tolist() for c in columns), strict=True), strict=True):
            found[index] = Adversary(image, *rest)
    return [found[index] for index in range(len(images))]


@pytest.mark.parametrize("rounded", [False, True], ids=["", "8 bits"])
@pytest.mark.parametrize("box", ["white", "black", "adaptive", "none"])
@pytest.mark.parametrize("name", ATTACKS)
def test_every_image_is_the_reference_s(name: str, box: str, rounded: bool, images: list[torch.Tensor]) -> None:
    attacker, denoiser = classifier(seed=1), Denoiser(seed=3)
    other = relative(attacker, seed=2)
    # Where there is no stopping classifier the attacker says at the end whether it has succeeded.
    judge = other if box in ("black", "adaptive") else attacker
    package_attacker, package_judge = attacker, judge
    if box == "adaptive":
        package_attacker, package_judge = Defended(denoiser, attacker), Defended(denoiser, judge)
        attacker, judge = behind(denoiser, attacker), behind(denoiser, judge)
    stopping = None if box == "none" else judge
    # What the judge says of the image; of every sixth another class, so that it is wrong before.
    labels = [(int(judge(image).argmax()) + (number % 6 == 0)) % 5 for number, image in enumerate(images)]

    package, reference, own = ATTACKS[name]
    expected = [
        reference(image, label, attacker, stopping, rounded=rounded, **SETTINGS, **own)
        for image, label in zip(images, labels, strict=True)
    ]
    attack = package(**SETTINGS, **own, batch_size=7, early_stop=stopping is not None, round_to_8_bits=rounded)
    found = adversaries_of_the_package(attack, package_attacker, package_judge, images, labels)

    for one, other_one in zip(found, expected, strict=True):
        assert one[1:] == other_one[1:]
        torch.testing.assert_close(one.image, other_one.image, rtol=0, atol=1e-9)
    # All that can become of an image is among them.
    if stopping is not None:
        assert len({adversary.steps for adversary in expected if adversary.succeeded}) >= 3
        assert any(not adversary.succeeded and adversary.steps == 6 for adversary in expected)
        assert any(adversary.already_misclassified for adversary in expected)
    assert {adversary.succeeded for adversary in expected} == {True, False}
    at_the_bounds = [image for image in images if ((image == 0) | (image == 255)).any()]
    assert len(at_the_bounds) > N_IMAGES / 2


@pytest.mark.workflow
@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize("name", ["fgsm", "ifgsm"])
def test_the_study_s_sets_are_the_reference_s(finished_study: Study, name: str, split: str) -> None:
    results = finished_study.folder / "results/tiny"
    attacker = read_classifier(results / "classifiers/resnet18/checkpoint.pt")
    stopping = {"fgsm": attacker, "ifgsm": None}[name]
    data, adversarial = results / f"data/{split}.h5", results / f"adversarial/{name}/{split}.h5"
    assert read_column(adversarial, "index") == list(range(len(read_column(data, "label"))))
    columns = zip(
        *(read_column(adversarial, column) for column in ("steps", "succeeded", "already_misclassified")), strict=True
    )
    n_elsewhere = n_images = 0
    for clean, label, found, of_file in zip(
        read_images(data), read_column(data, "label"), read_images(adversarial), columns, strict=True
    ):
        expected = ATTACKS[name][1](clean, label, attacker, stopping, step=8.0, max_steps=2)
        # A pixel on another way is a step away at least; those on the same way differ by the rounding of the file.
        differing = float(((found - expected.image).abs() > 1e-3).double().mean())
        n_elsewhere += differing > 0.01 or of_file != expected[1:]
        n_images += 1
    # None differs where this was written. A real fault changes all images, a ReLU that turns over a few in a hundred.
    assert n_elsewhere <= n_images / 16


@pytest.mark.workflow
@pytest.mark.parametrize("split", ["train", "val"])
def test_the_study_s_noise_has_the_adversaries_norms(finished_study: Study, split: str) -> None:
    results = finished_study.folder / "results/tiny"
    sets = [results / f"{place}/{split}.h5" for place in ("data", "adversarial/fgsm", "adversarial/noise")]
    n_upwards = n_components = 0
    for clean, adversary, noisy in zip(*map(read_images, sets), strict=True):
        assert noisy.min() >= 0 and noisy.max() <= 255
        norm, change = float((adversary - clean).norm()), noisy - clean
        assert float(change.norm()) == pytest.approx(norm, rel=1e-5)
        if norm:
            # Sign noise: all components have the same size, and whichever sign where there is room for both.
            assert change.abs().numpy() == pytest.approx(norm / change.numel() ** 0.5, rel=1e-4)
            free = change[(clean + change.abs().max() <= 255) & (clean - change.abs().max() >= 0)]
            n_upwards, n_components = n_upwards + int((free > 0).sum()), n_components + free.numel()
    assert n_components > 1000
    assert n_upwards == pytest.approx(n_components / 2, abs=4 * (n_components / 4) ** 0.5)


@pytest.mark.parametrize("norm", [0.0, 40.0, 900.0, 1700.0])
@pytest.mark.parametrize("kind", ["sign", "gaussian"])
def test_noise_in_a_given_direction_is_the_reference_s(kind: str, norm: float, images: list[torch.Tensor]) -> None:
    """Up to norms at which most components are as long as 0..255 lets them be."""
    for number, image in enumerate(images):
        clean = image.permute(1, 2, 0).numpy()[None]
        # What else could be told of the adversary than its norm is told by nothing here.
        adversary = clean + norm * direction_of_norm_one(number, clean.shape)
        if kind == "sign":
            noisy = sign_noise(clean.astype(np.uint8), adversary, np.random.default_rng(number))
            direction = 1.0 - 2 * np.random.default_rng(number).integers(0, 2, clean.shape)
        else:
            noisy = gaussian_noise(clean.astype(np.uint8), adversary, np.random.default_rng(number))
            direction = np.random.default_rng(number).standard_normal(clean.shape)
        expected = noise_of_norm(image, norm, torch.from_numpy(direction[0]).permute(2, 0, 1))
        assert noisy.min() >= 0 and noisy.max() <= 255
        assert noisy[0] == pytest.approx(expected.permute(1, 2, 0).numpy(), abs=1e-3)


def direction_of_norm_one(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    direction = np.random.default_rng(1000 + seed).standard_normal(shape)
    return direction / np.linalg.norm(direction)
