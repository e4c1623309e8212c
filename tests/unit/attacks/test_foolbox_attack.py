"""Foolbox's attacks: the same images as from Foolbox itself, and judged as the paper's attacks are."""

import inspect
import sys
import warnings
from subprocess import run

import foolbox
import numpy as np
import pytest
import torch
from foolbox.attacks.base import FixedEpsilonAttack, MinimizationAttack
from foolbox.criteria import Misclassification
from foolbox.distances import l1, l2, linf
from torch import nn

from perturbflow.attacks.foolbox_attack import FoolboxAttack
from perturbflow.attacks.foolbox_options import (
    UNUSABLE,
    attack_names,
    check_epsilon,
    depends_on_batch,
    foolbox_attack,
)
from perturbflow.attacks.gradient_sign import FinishedImages, MisclassifiedBy
from perturbflow.attacks.random_numbers import NumbersOfImages
from perturbflow.planning.config import load_schema

N_IMAGES, N_CLASSES, SIZE = 12, 4, 6
BOUNDS = (0.0, 255.0)
# Steps that are enough for a result; the defaults are meant for long runs.
FEW = {"steps": 4, "binary_search_steps": 3, "directions": 6, "repeats": 3}
FEW |= {"initial_gradient_eval_steps": 4, "num_translations": 2, "num_rotations": 2, "l2_binary_search": False}
NEEDS_NUMBA = [name for name in attack_names() if "BrendelBethge" in name]


class Net(nn.Module):
    """Pixels in 0..255 -> logits."""

    def __init__(self, seed, contrast=6.0):
        super().__init__()
        torch.manual_seed(seed)
        self.first = nn.Conv2d(3, 8, 3, 1, 1)
        self.last = nn.Linear(8 * SIZE * SIZE, N_CLASSES)
        self.contrast = contrast

    def forward(self, pixels):
        return self.contrast * self.last(self.first(pixels / 127.5 - 1).tanh().flatten(1))


def frozen(network):
    return network.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def attacker():
    return frozen(Net(0).double())


@pytest.fixture(scope="module")
def others(attacker):
    """Another network, so near that adversaries transfer to it."""
    other = Net(1).double()
    for mine, theirs in zip(attacker.parameters(), other.parameters(), strict=True):
        theirs.data = 0.9 * mine.data + 0.1 * theirs.data
    return frozen(other)


@pytest.fixture(scope="module")
def images():
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(N_IMAGES, 3, 2, 2, generator=generator)
    smooth = nn.functional.interpolate(coarse, (SIZE, SIZE), mode="bilinear") * 300 - 22
    # In memory as the images of a data file are.
    return smooth.round().clamp(0, 255).contiguous(memory_format=torch.channels_last)


@pytest.fixture(scope="module")
def labels(others, images):
    """What the stopping classifier says, but for each fourth image something else."""
    with torch.no_grad():
        labels = others(images.double()).argmax(1)
    labels[::4] = (labels[::4] + 1) % N_CLASSES
    return labels


def few_steps(name):
    taken = inspect.signature(getattr(foolbox.attacks, name)).parameters
    few = FEW | ({"init_attack": "InversionAttack"} if name == "PointwiseAttack" else {})
    return {option: value for option, value in few.items() if option in taken}


def usual_epsilon(attack):
    """A limit in the attack's norm that is worth about 20 pixel values everywhere; null for attacks that minimise."""
    if not isinstance(attack, FixedEpsilonAttack):
        return None
    n_elements = 3 * SIZE**2
    return {linf: 20.0, l2: 20.0 * n_elements**0.5, l1: 20.0 * n_elements}[attack.distance]


def attacked(name, attacker, stopping, images, labels, options=None, **settings):
    attack = foolbox_attack(name, few_steps(name) if options is None else options)
    settings = {"epsilon": usual_epsilon(attack), "batch_size": 5, "seed": 7, **settings}
    parts = list(FoolboxAttack(attack, **settings).stream(attacker, stopping, images, labels))
    assert [len(part.index) for part in parts] == [min(settings["batch_size"], len(images) - part.index[0])
                                                   for part in parts]  # fmt: skip
    joined = FinishedImages(
        *(torch.cat([getattr(part, field) for part in parts]) for field in FinishedImages.__annotations__)
    )
    assert joined.index.tolist() == list(range(len(images)))
    assert (joined.steps == -1).all()
    return joined


def misclassified(network, images, labels):
    with torch.no_grad():
        return network(images).argmax(1) != labels


# ---- Against Foolbox itself


@pytest.mark.parametrize("white_box", [True, False], ids=["white box", "black box"])
@pytest.mark.parametrize(
    ("name", "options", "epsilon"),
    [
        ("LinfPGD", {"random_start": False, "steps": 5, "abs_stepsize": 3.25}, 9.0),
        ("LinfBasicIterativeAttack", {"steps": 4}, 12.0),
        ("LinfFastGradientAttack", {}, 20.0),
        ("L2FastGradientAttack", {}, 300.0),
        ("L2DeepFoolAttack", {"steps": 6}, None),
        ("L2DeepFoolAttack", {"steps": 6}, 150.0),
        ("LinfDeepFoolAttack", {"steps": 6}, None),
        ("L2ContrastReductionAttack", {}, 400.0),
        ("InversionAttack", {}, None),
        ("LinearSearchContrastReductionAttack", {"steps": 30}, None),
        ("GaussianBlurAttack", {"steps": 10}, None),
    ],
)
def test_equals_foolbox(name, options, epsilon, white_box, attacker, others, images, labels):
    """Each batch's images that are not yet misclassified, given to Foolbox directly."""
    stopping, images = (attacker if white_box else others), images.double()
    result = attacked(name, attacker, stopping, images, labels, options, epsilon=epsilon, batch_size=5)
    already = misclassified(stopping, images, labels)
    assert torch.equal(result.already_misclassified, already) and 0 < already.sum() < N_IMAGES

    attack = getattr(foolbox.attacks, name)(**options)
    model = foolbox.PyTorchModel(attacker, BOUNDS)
    expected = images.clone()
    for start in range(0, N_IMAGES, 5):
        rows = start + (~already[start : start + 5]).nonzero().flatten()
        criterion = Misclassification(labels[rows]) if white_box else MisclassifiedBy(labels[rows], others)
        _, found, success = attack(model, images[rows], criterion, epsilons=epsilon)
        if isinstance(attack, MinimizationAttack):
            found = torch.where(success[:, None, None, None], found, images[rows])
        expected[rows] = found
        assert result.succeeded[rows].tolist() == success.tolist()
    assert torch.equal(result.images, expected)
    assert not result.succeeded[already].any()


@pytest.mark.parametrize(
    ("name", "options", "epsilon"),
    [
        ("L2CarliniWagnerAttack", {"steps": 20, "binary_search_steps": 4}, None),
        ("L2AdditiveGaussianNoiseAttack", {}, 400.0),
        ("L2RepeatedAdditiveUniformNoiseAttack", {"repeats": 5}, 900.0),
        ("LinfPGD", {"steps": 5}, 20.0),
        ("SaltAndPepperNoiseAttack", {"steps": 30}, None),
        ("LinearSearchBlendedUniformNoiseAttack", {"steps": 20, "directions": 10}, None),
        ("PointwiseAttack", {"init_attack": "InversionAttack"}, None),
        ("SpatialAttack", {"grid_search": False, "random_steps": 5}, None),
    ],
)
def test_random_numbers_are_seeded(name, options, epsilon, attacker, images, labels):
    """In one batch of which every image is attacked: what Foolbox does with the numbers of these images."""
    images = images.double()

    def ours(seed):
        settings = {"epsilon": epsilon, "batch_size": N_IMAGES, "early_stop": False, "seed": seed}
        return attacked(name, attacker, attacker, images, labels, options, **settings).images

    result = ours(7)
    torch.rand(3)
    np.random.rand(3)  # noqa: NPY002
    assert torch.equal(ours(7), result)
    if name == "L2CarliniWagnerAttack":
        assert torch.equal(ours(8), result)
        return
    assert not torch.equal(ours(8), result)
    if name in ("PointwiseAttack", "SpatialAttack"):  # which Foolbox itself cannot do with these settings
        return
    model = foolbox.PyTorchModel(attacker, BOUNDS)
    attack = getattr(foolbox.attacks, name)(**options)
    with NumbersOfImages(images, 7, range(N_IMAGES), stage=1):
        _, found, success = attack(model, images, labels, epsilons=epsilon)
    if isinstance(attack, MinimizationAttack):
        found = torch.where(success[:, None, None, None], found, images)
    assert torch.equal(result, found)


# ---- What the other images of a batch change


RANDOM = {
    "LinfPGD": {"steps": 5},
    "L2AdditiveGaussianNoiseAttack": {},
    "BoundaryAttack": {"steps": 4, "init_attack": "LinearSearchBlendedUniformNoiseAttack"},
    "SaltAndPepperNoiseAttack": {"steps": 30},
}


@pytest.mark.parametrize("name", RANDOM)
def test_shards_draw_the_numbers_of_the_whole(name, attacker, others, images, labels):
    """Parts of whole batches, each attacked on its own."""

    def ours(rows, **settings):
        return attacked(name, attacker, others, images.double()[rows], labels[rows], RANDOM[name], **settings)

    whole = ours(slice(None))
    for first in (0, 5, 10):
        part = ours(slice(first, first + 5), first_row=first)
        for field in ("images", "succeeded", "already_misclassified"):
            assert torch.equal(getattr(part, field), getattr(whole, field)[first : first + 5]), field
    assert not torch.equal(ours(slice(5, 10)).images, whole.images[5:10]), "the row matters"


# Options with which an attack draws random numbers, or its images decide over one another, more often than with those
# of `few_steps`.
TELLING = {
    **{name: {"random_start": True} for name in attack_names()},
    "EADAttack": {"steps": 20, "initial_const": 100.0},
    "L2CarliniWagnerAttack": {"steps": 20},
    "SparseL1DescentAttack": {"random_start": True, "steps": 10},
    "SpatialAttack": {"grid_search": False, "random_steps": 5},
}
OTHERWISE = [
    ("EADAttack", {"abort_early": False, "steps": 20, "initial_const": 100.0}),
    ("L2CarliniWagnerAttack", {"abort_early": False, "steps": 20}),
    ("HopSkipJumpAttack", {"constraint": "linf"}),
    ("L2FMNAttack", {"init_attack": "LinearSearchBlendedUniformNoiseAttack"}),
    ("LinfPGD", {"random_start": False}),
    ("SpatialAttack", {"grid_search": True}),
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options"),
    [*((name, TELLING[name]) for name in attack_names() if name not in NEEDS_NUMBA), *OTHERWISE],
)
def test_a_batch_changes_what_is_made_of_an_image_where_it_is_said_to(name, options, attacker, others, images, labels):
    """Every attack, in batches of two sizes: the same images but for rounding, or else `depends_on_batch`."""
    taken = inspect.signature(getattr(foolbox.attacks, name)).parameters
    options = few_steps(name) | {option: value for option, value in options.items() if option in taken}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Foolbox warns where noise finds no adversary
        five, one = (
            attacked(name, attacker, others, images.double(), labels, options, batch_size=size) for size in (5, 1)
        )
    changed = (five.images - one.images).abs().max() > 1e-3
    assert changed == depends_on_batch(foolbox_attack(name, options))
    if not changed:
        assert torch.equal(five.succeeded, one.succeeded)


def test_the_page_of_the_config_names_attacks_of_which_a_batch_matters():
    page = load_schema()["properties"]["compute"]["properties"]["batch_size"]["description"]
    names = [name for name in attack_names() if name not in NEEDS_NUMBA]
    depending = {name for name in names if depends_on_batch(foolbox_attack(name, few_steps(name)))}
    assert {name for name in names if f"`{name}`" in page} == depending


def test_an_attack_depends_on_what_it_starts_from():
    for start, depends in (("L2CarliniWagnerAttack", True), ("SaltAndPepperNoiseAttack", False)):
        assert depends_on_batch(foolbox_attack("BoundaryAttack", {"init_attack": start})) == depends


@pytest.mark.parametrize("name", NEEDS_NUMBA)
def test_batches_of_attacks_that_need_numba_matter(name):
    """Foolbox multiplies the radius of their steps by the number of images."""
    assert depends_on_batch(object.__new__(getattr(foolbox.attacks, name)))


def test_the_images_of_a_batch_draw_different_numbers(attacker, images, labels):
    """Two copies of an image in one batch."""
    twice = images.double()[:1].expand(2, -1, -1, -1)
    options = {"steps": 1, "abs_stepsize": 0.0}
    result = attacked("LinfPGD", attacker, attacker, twice, labels[:1].expand(2), options, early_stop=False)
    assert not torch.equal(*result.images)


class OfUnitImages(nn.Module):
    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, images):
        return self.network(images * 255)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("DDNAttack", {"steps": 30}),
        ("L2CarliniWagnerAttack", {"steps": 20, "binary_search_steps": 5}),
        ("EADAttack", {"steps": 20, "binary_search_steps": 5}),
        ("L2FMNAttack", {"steps": 30}),
        ("LInfFMNAttack", {"steps": 30}),
        ("HopSkipJumpAttack", {"steps": 2, "initial_gradient_eval_steps": 5, "init_attack": "InversionAttack"}),
    ],
)
def test_attacks_made_for_unit_images_see_them(name, options, attacker, images):
    """Their constants presuppose images in 0..1. Labels are such that each image has an adversary to start from."""
    images = images.double()
    with torch.no_grad():
        labels = attacker(images).argmax(1)
    keep = misclassified(attacker, 255 - images, labels)
    images, labels = images[keep], labels[keep]
    assert len(images) >= 3
    result = attacked(name, attacker, attacker, images, labels, options, batch_size=N_IMAGES)
    model = foolbox.PyTorchModel(frozen(OfUnitImages(attacker)), (0, 1))
    if "init_attack" in options:
        options = {**options, "init_attack": foolbox.attacks.InversionAttack()}
    attack = getattr(foolbox.attacks, name)(**options)
    with NumbersOfImages(images, 7, range(len(images)), stage=1):
        _, found, success = attack(model, images / 255, labels, epsilons=None)
    success &= found.flatten(1).any(1)  # an image of zeros says that the attack failed
    assert success.sum() >= 3
    assert result.succeeded.tolist() == success.tolist()
    assert torch.allclose(result.images[success], 255 * found[success], rtol=0, atol=1e-6)
    assert torch.equal(result.images[~success], images[~success])


# ---- Every attack


@pytest.mark.parametrize("name", [name for name in attack_names() if name not in NEEDS_NUMBA])
def test_every_attack(name, attacker, others, images, labels):
    """On uint8 images and single-precision networks, as in the workflow, rounded and not."""
    network, stopping = frozen(Net(0)), frozen(Net(1))
    network.load_state_dict(attacker.state_dict())
    stopping.load_state_dict(others.state_dict())
    pixels = images.to(torch.uint8)
    attack = foolbox_attack(name, few_steps(name))
    epsilon = usual_epsilon(attack)
    for round_to_8_bits in (False, True):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Foolbox warns where noise finds no adversary
            result = attacked(name, network, stopping, pixels, labels, round_to_8_bits=round_to_8_bits)
        assert result.images.dtype == torch.float32
        assert result.images.min() >= 0 and result.images.max() <= 255
        assert torch.equal(result.already_misclassified, misclassified(stopping, pixels, labels))
        assert torch.equal(
            result.succeeded, misclassified(stopping, result.images, labels) & ~result.already_misclassified
        )
        unchanged = (result.images == pixels).flatten(1).all(1)
        assert unchanged[result.already_misclassified].all()
        if epsilon is None:
            assert (unchanged | result.succeeded).all()
        elif not round_to_8_bits:
            distances = attack.distance(images, result.images)
            assert (distances <= epsilon * (1 + 1e-5)).all()
            if "Repeated" not in name:  # these give the image itself where they fail
                assert not unchanged[~result.already_misclassified].any()
        if round_to_8_bits:
            assert torch.equal(result.images, result.images.round())
    assert all(parameter.grad is None for net in (network, stopping) for parameter in net.parameters())


@pytest.mark.parametrize("name", NEEDS_NUMBA)
def test_attacks_that_need_numba_say_so(name, monkeypatch):
    monkeypatch.setattr(foolbox.attacks.brendel_bethge, "NUMBA_IMPORT_ERROR", ImportError("No module named 'numba'"))
    with pytest.raises(ValueError, match=f"{name} refuses its options .No module named 'numba'"):
        foolbox_attack(name, {})


def test_the_list_of_attacks_is_foolbox_own():
    classes = {name for name, value in vars(foolbox.attacks).items() if inspect.isclass(value)}
    assert set(attack_names()) | set(UNUSABLE) == classes
    assert {"LinfPGD", "PGD", "L2DeepFoolAttack", "SpatialAttack", "BoundaryAttack"} <= set(attack_names())


# ---- Success and failure


@pytest.mark.parametrize("name", ["L2CarliniWagnerAttack", "LinfDeepFoolAttack"])
def test_rounded_minimal_perturbations_still_fool(name, attacker, images, labels):
    """The attack looks for an image that fools when rounded; rounding its result afterwards loses some."""
    images, options = images.double(), {"steps": 20, "binary_search_steps": 4}
    options = {option: value for option, value in options.items() if option in few_steps(name)}
    with torch.no_grad():
        labels = attacker(images).argmax(1)
    rounded = attacked(name, attacker, attacker, images, labels, options, round_to_8_bits=True)
    saved = rounded.images.to(torch.uint8)
    assert torch.equal(saved.double(), rounded.images)
    assert torch.equal(misclassified(attacker, saved.double(), labels), rounded.succeeded)
    exact = attacked(name, attacker, attacker, images, labels, options)
    afterwards = misclassified(attacker, exact.images.round(), labels)
    assert exact.succeeded.sum() >= N_IMAGES - 1
    assert rounded.succeeded.sum() > afterwards.sum()


def test_without_early_stop_every_image_is_attacked(attacker, others, images, labels):
    images = images.double()
    result = attacked("LinfBasicIterativeAttack", attacker, others, images, labels, early_stop=False)
    assert not result.already_misclassified.any()
    assert (result.images != images).flatten(1).any(1).all()
    assert torch.equal(result.succeeded, misclassified(others, result.images, labels))
    assert misclassified(others, images, labels).any()


class Constant(nn.Module):
    """Says class 1 of an image of zeros and class 0 of everything else, with a gradient everywhere."""

    def forward(self, pixels):
        total = pixels.mean((1, 2, 3))
        return torch.stack([2 + 0 * total, 3 * (total == 0) + 1e-3 * total / 255], 1)


@pytest.mark.parametrize("name", ["L2CarliniWagnerAttack", "EADAttack"])
def test_zeros_are_no_adversary(name, images):
    """Both attacks give an image of zeros where they fail; that it is misclassified is no success."""
    network, labels = Constant().eval(), torch.zeros(N_IMAGES, dtype=torch.int64)
    _, found, success = getattr(foolbox.attacks, name)(steps=3)(
        foolbox.PyTorchModel(network, BOUNDS), images, labels, epsilons=None
    )
    assert success.all() and not found.any()
    result = attacked(name, network, network, images, labels, {"steps": 3})
    assert not result.succeeded.any()
    assert torch.equal(result.images, images)


class Flat(nn.Module):
    """Has no gradient, and says class 1 of what is not a number and class 0 of everything else."""

    def forward(self, pixels):
        nothing = 0 * pixels.mean((1, 2, 3))
        return torch.stack([torch.ones(len(pixels)), nothing], 1)


def test_not_a_number_is_no_adversary(images):
    """NewtonFool divides by the norm of the gradient; that the result is misclassified is no success."""
    network, labels = Flat().eval(), torch.zeros(N_IMAGES, dtype=torch.int64)
    model = foolbox.PyTorchModel(network, BOUNDS)
    _, found, success = foolbox.attacks.NewtonFoolAttack(steps=4)(model, images, labels, epsilons=None)
    assert success.all() and found.isnan().all()
    result = attacked("NewtonFoolAttack", network, network, images, labels)
    assert not result.succeeded.any()
    assert torch.equal(result.images, images)


@pytest.mark.parametrize("name", ["BoundaryAttack", "HopSkipJumpAttack", "PointwiseAttack"])
def test_images_without_an_adversary_to_start_from(name, attacker, images):
    """Foolbox refuses the whole batch; here the others are attacked."""
    images = images.double().clone()
    images[::3] = 127  # which inversion changes by 1
    with torch.no_grad():
        labels = attacker(images).argmax(1)
    startable = misclassified(attacker, 255 - images, labels)
    assert 0 < startable.sum() < N_IMAGES
    options = {**few_steps(name), "init_attack": "InversionAttack"}
    with pytest.raises((ValueError, AssertionError)):
        model = foolbox.PyTorchModel(frozen(OfUnitImages(attacker)), (0, 1))
        attack = getattr(foolbox.attacks, name)(**options | {"init_attack": foolbox.attacks.InversionAttack()})
        attack(model, images / 255, labels, epsilons=None)
    result = attacked(name, attacker, attacker, images, labels, options, batch_size=N_IMAGES)
    assert torch.equal(result.succeeded, startable)
    assert torch.equal(result.images[~startable], images[~startable])
    moved = (result.images - images)[startable].flatten(1).norm(dim=1)
    assert (moved < (255 - 2 * images)[startable].flatten(1).norm(dim=1)).all()


def test_confidently_recognised_images_have_gradients(images):
    """In single precision 1 - softmax, a factor of the gradient, is 0 from a margin of 17 on."""
    network, exact = frozen(Net(0, contrast=200.0)), frozen(Net(0, contrast=200.0).double())
    with torch.no_grad():
        top, labels = exact(images.double()).topk(2)
    sure = (top[:, 0] - top[:, 1] > 17) & (top[:, 0] - top[:, 1] < 60)
    images, labels = images[sure], labels[sure, 0]
    assert len(images) >= 3
    single, *_ = foolbox.attacks.LinfFastGradientAttack()(
        foolbox.PyTorchModel(network, BOUNDS), images, labels, epsilons=4.0
    )
    ours = attacked("LinfFastGradientAttack", network, network, images, labels, epsilon=4.0).images
    double, *_ = foolbox.attacks.LinfFastGradientAttack()(
        foolbox.PyTorchModel(exact, BOUNDS), images.double(), labels, epsilons=4.0
    )
    assert (ours != double).double().mean() < 0.01
    assert (single != double).double().mean() > 0.1


def test_no_images_give_no_parts(attacker):
    attack = FoolboxAttack(foolbox_attack("FGSM", {}), epsilon=1.0, batch_size=4, seed=0)
    nothing = torch.zeros(0, 3, SIZE, SIZE), torch.zeros(0, dtype=torch.int64)
    assert [len(part.index) for part in attack.stream(attacker, attacker, *nothing)] == []


def test_refuses_networks_in_training_mode(attacker, images, labels):
    attack = FoolboxAttack(foolbox_attack("FGSM", {}), epsilon=1.0, batch_size=4, seed=0)
    training = Net(0).train()
    for pair, role in (((training, attacker), "attacked model"), ((attacker, training), "stopping classifier")):
        with pytest.raises(ValueError, match=f"the {role} is in training mode"):
            next(attack.stream(*pair, images, labels))


# ---- Names and arguments


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("LinfPDG", {}, "LinfPDG is no attack of Foolbox; did you mean LinfPGD"),
        ("linfpgd", {}, "linfpgd is no attack of Foolbox; did you mean LinfPGD"),
        ("zzz", {}, "zzz is no attack of Foolbox; valid: .*BoundaryAttack"),
        ("ep", {}, "ep is no attack of Foolbox"),
        ("Attack", {}, "Attack cannot be used: it is the base class"),
        ("GenAttack", {}, "GenAttack cannot be used: it needs a target class"),
        ("DatasetAttack", {}, "DatasetAttack cannot be used"),
        ("BinarizationRefinementAttack", {}, "BinarizationRefinementAttack cannot be used"),
        (
            "LinfPGD",
            {"step": 3},
            "LinfPGD takes no step; did you mean steps.*valid: .*abs_stepsize, steps, random_start",
        ),
        ("L2AdditiveGaussianNoiseAttack", {"steps": 3}, "takes no steps; valid: none"),
        ("VirtualAdversarialAttack", {}, "VirtualAdversarialAttack needs steps under options"),
        ("LinfPGD", {"steps": "3"}, "steps of LinfPGD is '3'; it takes a whole number"),
        ("LinfPGD", {"steps": 3.0}, "steps of LinfPGD is 3.0; it takes a whole number"),
        ("LinfPGD", {"steps": True}, "steps of LinfPGD is True; it takes a whole number"),
        ("LinfPGD", {"abs_stepsize": "1e-2"}, "abs_stepsize of LinfPGD is '1e-2'; it takes a number or null"),
        ("LinfPGD", {"rel_stepsize": float("inf")}, "rel_stepsize of LinfPGD is inf; it takes a number"),
        ("LinfPGD", {"random_start": 1}, "random_start of LinfPGD is 1; it takes true or false"),
        ("EADAttack", {"decision_rule": "L2"}, "decision_rule of EADAttack is 'L2'; it takes EN or L1"),
        ("InversionAttack", {"distance": "l3"}, "distance of InversionAttack is l3; valid: l0, l1, l2, linf"),
        ("InversionAttack", {"distance": 2}, "distance of InversionAttack is 2; it takes l0, l1, l2 or linf or null"),
        ("BoundaryAttack", {"init_attack": "Inversion"}, "Inversion is no attack of Foolbox; did you mean Inversion"),
        ("BoundaryAttack", {"init_attack": "FGSM"}, "init_attack of BoundaryAttack is FGSM, which does not look for"),
        ("BoundaryAttack", {"init_attack": 1}, "init_attack of BoundaryAttack is 1; it takes the name of an attack"),
        ("SparseL1DescentAttack", {"quantile": 2.0}, "refuses its options .quantile needs to be between 0 and 1"),
    ],
)
def test_refuses_names_and_arguments(name, options, message):
    with pytest.raises(ValueError, match=message):
        foolbox_attack(name, options)


def test_arguments_arrive():
    attack = foolbox_attack("LinfPGD", {"steps": 3, "abs_stepsize": 2, "random_start": False})
    assert isinstance(attack, foolbox.attacks.LinfProjectedGradientDescentAttack)
    assert (attack.steps, attack.abs_stepsize, attack.random_start) == (3, 2, False)
    assert foolbox_attack("LinfPGD", {"abs_stepsize": None}).abs_stepsize is None
    assert foolbox_attack("InversionAttack", {"distance": "linf"}).distance is linf
    start = foolbox_attack("BoundaryAttack", {"init_attack": "SaltAndPepperNoiseAttack"}).init_attack
    assert isinstance(start, foolbox.attacks.SaltAndPepperNoiseAttack)


@pytest.mark.parametrize(
    ("name", "options", "epsilon", "message"),
    [
        ("LinfPGD", {}, None, "LinfProjectedGradientDescentAttack needs an epsilon"),
        ("SpatialAttack", {}, 3.0, "SpatialAttack keeps to no epsilon"),
        ("InversionAttack", {}, 3.0, "no norm of its own.*set epsilon to null, or options to {distance: l2}"),
        ("PointwiseAttack", {}, 3.0, "no norm of its own for an epsilon; set epsilon to null$"),
        ("L0FMNAttack", {}, 3.0, "L0FMNAttack cannot keep the number of changed values"),
    ],
)
def test_refuses_epsilons(name, options, epsilon, message):
    attack = foolbox_attack(name, options)
    for refused in (check_epsilon, lambda *given: FoolboxAttack(given[0], epsilon=given[1], batch_size=1, seed=0)):
        with pytest.raises(ValueError, match=message):
            refused(attack, epsilon)


def test_accepts_epsilons():
    for name, options, epsilon in [
        ("LinfPGD", {}, 3.0),
        ("L2DeepFoolAttack", {}, None),
        ("L2DeepFoolAttack", {}, 3.0),
        ("InversionAttack", {"distance": "l2"}, 3.0),
        ("SpatialAttack", {}, None),
    ]:
        check_epsilon(foolbox_attack(name, options), epsilon)


def test_names_and_arguments_are_checked_without_torch(repository):
    code = "import sys; from perturbflow.attacks.foolbox_options import foolbox_attack, check_epsilon\n"
    code += "check_epsilon(foolbox_attack('LinfPGD', {'steps': 3}), 8.0); sys.exit('torch' in sys.modules)"
    assert run([sys.executable, "-c", code], cwd=repository, check=False).returncode == 0
