"""The attacks against Foolbox, torchattacks and a plain loop over equations (1) to (3).

Pixels are whole numbers and steps are multiples of 1/4, so that sums of steps are exact and images can be compared
for equality; networks are in double precision where batches of different sizes have to agree.
"""

import eagerpy
import foolbox
import pytest
import torch
import torchattacks
from torch import nn

from perturbflow.attacks.gradient_sign import (
    ATTACKS,
    FGSM,
    FinishedImages,
    IterativeFGSM,
    MisclassifiedBy,
    MomentumIterativeFGSM,
    input_gradient,
)
from perturbflow.classifiers.accuracy import top1
from perturbflow.denoisers.defended import Defended

N_IMAGES, N_CLASSES, SIZE = 24, 5, 12
STEP, MAX_STEPS, DECAY = 3.25, 6, 0.5
BOUNDS = (0.0, 255.0)


class SmallNet(nn.Module):
    """Pixels in 0..255 -> logits, clearly in favour of one class or another."""

    def __init__(self, seed, contrast=8.0):
        super().__init__()
        torch.manual_seed(seed)
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 8, 3, 2, 1), nn.ReLU(), nn.Flatten()
        )
        self.last = nn.Linear(8 * (SIZE // 4) ** 2, N_CLASSES)
        self.contrast = contrast

    def forward(self, pixels):
        return self.contrast * self.last(self.layers(pixels / 127.5 - 1))


class Counting(nn.Module):
    """Counts the images of each batch that a network is asked about."""

    def __init__(self, network):
        super().__init__()
        self.network = network
        self.batches = []

    def forward(self, pixels):
        self.batches.append(len(pixels))
        return self.network(pixels)


def relative(network, seed, distance):
    """A network of other weights that errs on similar images, so that adversaries transfer."""
    other = SmallNet(seed)
    for mine, theirs in zip(network.parameters(), other.parameters(), strict=True):
        theirs.data = (1 - distance) * mine.data + distance * theirs.data
    return other


@pytest.fixture(scope="module")
def attacker():
    return SmallNet(seed=0).double().eval()


@pytest.fixture(scope="module")
def others(attacker):
    return relative(attacker, seed=2, distance=0.1).double().eval()


@pytest.fixture(scope="module")
def images():
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(N_IMAGES, 3, 3, 3, generator=generator)
    smooth = nn.functional.interpolate(coarse, (SIZE, SIZE), mode="bilinear") * 320 - 32
    return smooth.round().clamp(0, 255).double()


def labels_of(network, images):
    """What the network says, but for each fifth image something else."""
    with torch.no_grad():
        labels = network(images).argmax(1)
    labels[::5] = (labels[::5] + 1) % N_CLASSES
    return labels


def attack_of(name, **settings):
    own = {"decay": DECAY} if name == "mifgsm" else {}
    return ATTACKS[name](**{"step": STEP, "max_steps": MAX_STEPS, **own, **settings})


def gathered(parts, n_images):
    """The parts of a stream in the order of the input; each image must occur once."""
    joined = FinishedImages(
        *(torch.cat([getattr(part, name) for part in parts]) for name in FinishedImages.__annotations__)
    )
    order = joined.index.argsort()
    assert joined.index[order].tolist() == list(range(n_images))
    return FinishedImages(*(getattr(joined, name)[order] for name in FinishedImages.__annotations__))


def attacked(attack, attacker, stopping, images, labels):
    return gathered(list(attack.stream(attacker, stopping, images, labels, BOUNDS)), len(images))


def naive(name, attacker, stopping, image, label, step=STEP, seen=lambda x: x, early_stop=True):
    """Image, steps, succeeded and already misclassified, from Section 2.1 of the paper alone.

    seen: what the stopping classifier sees, and what is given back, of an image of the walk.
    """

    def misclassified(x):
        with torch.no_grad():
            return int(stopping(x[None])[0].argmax()) != int(label)

    def gradient(x):
        x = x.clone().requires_grad_()
        (-attacker(x[None])[0].log_softmax(0)[label]).backward(inputs=[x])
        return x.grad

    if early_stop and misclassified(image):
        return image, 0, False, True
    x, momentum = image, torch.zeros_like(image)
    for k in range(1, MAX_STEPS + 1):
        if name == "fgsm":
            x = image + k * step * gradient(image).sign()
        elif name == "ifgsm":
            x = x + step * gradient(x).sign()
        else:
            grad = gradient(x)
            momentum = DECAY * momentum + grad / grad.abs().sum()
            x = x + step * momentum.sign()
        x = x.clamp(*BOUNDS)
        if early_stop and misclassified(seen(x)):
            return seen(x), k, True, False
    return seen(x), MAX_STEPS, misclassified(seen(x)), False


@pytest.mark.parametrize("white_box", [True, False], ids=["white box", "black box"])
@pytest.mark.parametrize("name", ATTACKS)
def test_equals_the_equations_image_by_image(name, white_box, attacker, others, images):
    stopping = attacker if white_box else others
    labels = labels_of(stopping, images)
    expected = [naive(name, attacker, stopping, image, label) for image, label in zip(images, labels, strict=True)]
    result = attacked(attack_of(name, batch_size=7), attacker, stopping, images, labels)
    assert torch.equal(result.images, torch.stack([image for image, *_ in expected]))
    assert result.steps.tolist() == [steps for _, steps, *_ in expected]
    assert result.succeeded.tolist() == [succeeded for *_, succeeded, _ in expected]
    assert result.already_misclassified.tolist() == [already for *_, already in expected]

    # The cases that matter all occur.
    already, succeeded = result.already_misclassified, result.succeeded
    failed = ~already & ~succeeded
    assert already.any() and failed.any()
    assert len(set(result.steps[succeeded].tolist())) >= 3
    assert torch.equal(result.images[already], images[already]) and (result.steps[already] == 0).all()
    assert (result.steps[failed] == MAX_STEPS).all()
    assert result.images.min() == 0 and result.images.max() == 255
    with torch.no_grad():
        assert torch.equal(stopping(result.images).argmax(1) != labels, already | succeeded)


@pytest.mark.parametrize("early_stop", [True, False])
@pytest.mark.parametrize("name", ATTACKS)
def test_the_batch_size_changes_nothing(name, early_stop, attacker, others, images):
    labels = labels_of(others, images)
    results = [
        attacked(attack_of(name, batch_size=size, early_stop=early_stop), attacker, others, images, labels)
        for size in (1, 3, 7, None)
    ]
    for result in results[1:]:
        for field in FinishedImages.__annotations__:
            assert torch.equal(getattr(result, field), getattr(results[0], field)), field


@pytest.mark.parametrize("batch_size", [1, 5, 7, None])
def test_batches_are_full_and_finished_images_leave_them(batch_size, attacker, others, images):
    labels = labels_of(others, images)
    gradients, stops = Counting(attacker).eval(), Counting(others).eval()
    result = attacked(attack_of("ifgsm", batch_size=batch_size), gradients, stops, images, labels)
    size = batch_size or N_IMAGES
    assert sum(gradients.batches) == result.steps.sum()
    assert sum(stops.batches) == N_IMAGES + result.steps.sum()
    assert len(stops.batches) == -(-N_IMAGES // size) + len(gradients.batches)
    # Batches shrink only when no image waits any more, that is when the last ones are on their way.
    assert gradients.batches == sorted(gradients.batches, reverse=True)
    n_in_last_batches = sum(n < size for n in gradients.batches)
    assert n_in_last_batches <= MAX_STEPS


def test_fgsm_takes_one_gradient_an_image(attacker, others, images):
    labels = labels_of(others, images)
    gradients = Counting(attacker).eval()
    result = attacked(attack_of("fgsm", batch_size=7), gradients, others, images, labels)
    assert sum(gradients.batches) == (~result.already_misclassified).sum()


@pytest.mark.parametrize("batch_size", [1, 5, None])
@pytest.mark.parametrize("name", ATTACKS)
def test_an_attacker_that_judges_itself_passes_once_for_gradient_and_judgement(name, batch_size, attacker, images):
    labels = labels_of(attacker, images)
    network = Counting(attacker).eval()
    result = attacked(attack_of(name, batch_size=batch_size), network, network, images, labels)
    assert sum(network.batches) == N_IMAGES + result.steps.sum()
    if name != "fgsm":  # the first passes of FGSM are those of new images alone
        assert network.batches == sorted(network.batches, reverse=True)


@pytest.mark.parametrize("name", ATTACKS)
def test_foolbox_alone_asks_for_success_where_nothing_stops_early(name, attacker, images):
    labels = labels_of(attacker, images)
    network = Counting(attacker).eval()
    model = foolbox.PyTorchModel(network, BOUNDS)
    attack_of(name, early_stop=False).run(model, images, labels, epsilon=255)
    assert len(network.batches) == (1 if name == "fgsm" else MAX_STEPS)


def test_early_stop_needs_a_stopping_classifier(attacker, images):
    labels = labels_of(attacker, images)
    with pytest.raises(ValueError, match="needs a stopping classifier"):
        attack_of("fgsm").stream(attacker, None, images, labels)
    result = attacked(attack_of("fgsm", early_stop=False), attacker, None, images, labels)
    assert not result.succeeded.any() and (result.steps == MAX_STEPS).all()


@pytest.mark.parametrize("name", ATTACKS)
def test_without_early_stop_every_image_takes_all_steps(name, attacker, others, images):
    labels = labels_of(others, images)
    stops = Counting(others).eval()
    result = attacked(attack_of(name, early_stop=False, batch_size=7), attacker, stops, images, labels)
    assert (result.steps == MAX_STEPS).all()
    assert not result.already_misclassified.any()
    assert sum(stops.batches) == N_IMAGES
    with torch.no_grad():
        assert torch.equal(result.succeeded, others(result.images).argmax(1) != labels)


def test_accuracy_of_the_stopping_classifier_is_what_the_flags_say(images):
    stopping = relative(SmallNet(0), seed=2, distance=0.1).eval()
    images = images.to(torch.uint8)
    labels = labels_of(stopping, images)
    result = attacked(attack_of("mifgsm", batch_size=7), SmallNet(0).eval(), stopping, images, labels)
    assert result.images.dtype == torch.float32
    n_wrong = int((result.succeeded | result.already_misclassified).sum())
    assert 0 < n_wrong < N_IMAGES
    assert top1(stopping, result.images, labels, batch_size=10) == (N_IMAGES - n_wrong) / N_IMAGES


# In single precision a pixel whose gradient is nearly zero may get another sign, as Foolbox computes its loss in it.
@pytest.mark.parametrize(("dtype", "tolerated"), [(torch.float64, 0.0), (torch.float32, 1e-3)])
def test_equals_foolbox(dtype, tolerated, images):
    network = SmallNet(0).to(dtype).eval()
    images, labels = images.to(dtype), labels_of(network, images.to(dtype))
    model = foolbox.PyTorchModel(network, BOUNDS)

    def share_of_pixels_that_differ(ours, theirs, epsilon):
        mine, *_ = ours(model, images, labels, epsilons=epsilon)
        reference, *_ = theirs(model, images, labels, epsilons=epsilon)
        return float((mine != reference).double().mean())

    one_step = FGSM(step=STEP, max_steps=1, early_stop=False)
    theirs = foolbox.attacks.LinfFastGradientAttack(random_start=False)
    assert share_of_pixels_that_differ(one_step, theirs, STEP) <= tolerated

    iterative = IterativeFGSM(step=STEP, max_steps=MAX_STEPS, early_stop=False)
    theirs = foolbox.attacks.LinfBasicIterativeAttack(abs_stepsize=STEP, steps=MAX_STEPS, random_start=False)
    assert share_of_pixels_that_differ(iterative, theirs, STEP * MAX_STEPS) <= tolerated


@pytest.mark.parametrize("decay", [1.0, DECAY])
def test_equals_torchattacks(decay, attacker, images):
    """Their images lie in 0..1, so that steps are rounded: equal to 1e-9 of a pixel value, far below a step."""
    labels = labels_of(attacker, images)
    steps = {"eps": 1.0, "alpha": STEP / 255, "steps": MAX_STEPS}

    class OfUnitImages(nn.Module):
        def __init__(self):
            super().__init__()
            self.network = attacker

        def forward(self, images):
            return self.network(images * 255)

    network = OfUnitImages().eval()
    settings = {"step": STEP, "max_steps": MAX_STEPS, "early_stop": False}
    pairs = [
        (FGSM(**{**settings, "max_steps": 1}), torchattacks.FGSM(network, eps=STEP / 255)),
        (IterativeFGSM(**settings), torchattacks.BIM(network, **steps)),
        (MomentumIterativeFGSM(decay=decay, **settings), torchattacks.MIFGSM(network, decay=decay, **steps)),
    ]
    for ours, theirs in pairs:
        mine = attacked(ours, attacker, attacker, images, labels).images
        assert torch.allclose(mine, theirs(images / 255, labels) * 255, rtol=0, atol=1e-9), ours


def test_zero_gradients_leave_images_where_they_are(images):
    network = SmallNet(0).double().eval()
    for parameter in network.parameters():
        parameter.data.zero_()
    labels = torch.zeros(N_IMAGES, dtype=torch.int64)
    for name in ATTACKS:
        result = attacked(attack_of(name), network, network, images, labels)
        assert torch.equal(result.images, images)
        assert (result.steps == MAX_STEPS).all()


def test_momentum_outlives_a_zero_gradient():
    """The image leaves the range where the network looks at it, and goes on where it was going."""

    def nearsighted(pixels):
        seen = pixels.clamp(max=101).mean((1, 2, 3))
        return torch.stack([torch.full_like(seen, 110), seen], 1)

    images, labels = torch.full((2, 3, 4, 4), 100.0), torch.zeros(2, dtype=torch.int64)
    result = attacked(attack_of("mifgsm"), nearsighted, nearsighted, images, labels)
    assert torch.equal(result.images, images + MAX_STEPS * STEP)


def test_gradients_of_confidently_recognised_images(images):
    """In single precision 1 - softmax is 0 from a margin of 17 on; the signs must not suffer."""
    confident, exact = SmallNet(0, contrast=100.0).eval(), SmallNet(0, contrast=100.0).double().eval()
    with torch.no_grad():
        logits, labels = exact(images).topk(2)
    sure = (logits[:, 0] - logits[:, 1] > 17) & (logits[:, 0] - logits[:, 1] < 30)
    assert sure.sum() >= 3
    images, labels = images[sure], labels[sure, 0]
    signs = input_gradient(confident, images.float(), labels).sign()
    assert (signs == input_gradient(exact, images, labels).sign()).double().mean() > 0.99


@pytest.mark.parametrize("name", ATTACKS)
def test_is_a_foolbox_attack(name, attacker, others, images):
    labels = labels_of(others, images)
    model = foolbox.PyTorchModel(attacker, BOUNDS)
    attack = attack_of(name, batch_size=7)
    expected = attacked(attack, attacker, others, images, labels)
    criterion = MisclassifiedBy(labels, others)
    raw, clipped, success = attack(model, images, criterion, epsilons=STEP * MAX_STEPS)
    assert type(raw) is type(clipped) is type(success) is torch.Tensor
    assert torch.equal(raw, expected.images)
    assert torch.equal(clipped, raw)
    assert torch.equal(success, expected.succeeded | expected.already_misclassified)

    # With labels alone, or Foolbox's own criterion, the attacked model is the one to err.
    white_box = attacked(attack, attacker, attacker, images, labels)
    for own in (labels, foolbox.criteria.Misclassification(labels)):
        raw, *_ = attack(model, images, own, epsilons=255)
        assert torch.equal(raw, white_box.images)

    raw, *_ = attack(model, eagerpy.astensor(images), labels, epsilons=255)
    assert isinstance(raw, eagerpy.PyTorchTensor) and torch.equal(raw.raw, white_box.images)


def test_epsilon_limits_the_steps(attacker, images):
    model = foolbox.PyTorchModel(attacker, BOUNDS)
    labels = labels_of(attacker, images)
    attack = IterativeFGSM(step=0.1, max_steps=MAX_STEPS)
    # 0.3 / 0.1 is a hair less than 3.
    for n_steps, epsilon in [(0, 0.09), (1, 0.1), (3, 0.3), (3, 0.39), (MAX_STEPS, 255)]:
        raw, _, _ = attack(model, images, labels, epsilons=epsilon)
        if n_steps:
            limited = IterativeFGSM(step=0.1, max_steps=n_steps)
            assert torch.equal(raw, attacked(limited, attacker, attacker, images, labels).images)
        else:
            assert torch.equal(raw, images)
    assert attack.max_steps == MAX_STEPS
    several, _, success = attack(model, images, labels, epsilons=[0.09, 0.3])
    assert len(several) == 2 and success.shape == (2, N_IMAGES)


def test_integer_pixels_do_not_round_the_perturbation():
    network = SmallNet(0).eval()
    pixels = torch.full((2, 3, SIZE, SIZE), 100, dtype=torch.uint8)
    labels = labels_of(network, pixels)
    attack = FGSM(step=0.25, max_steps=1, early_stop=False)
    raw, *_ = attack(foolbox.PyTorchModel(network, BOUNDS), pixels, labels, epsilons=0.25)
    assert set(raw.unique().tolist()) <= {99.75, 100.0, 100.25}
    assert (raw != 100).any()


def test_refuses_other_criteria_and_arguments(attacker, images):
    model = foolbox.PyTorchModel(attacker, BOUNDS)
    labels = labels_of(attacker, images)
    with pytest.raises(ValueError, match="IterativeFGSM needs Misclassification"):
        attack_of("ifgsm")(model, images, foolbox.criteria.TargetedMisclassification(labels), epsilons=8)
    with pytest.raises(TypeError, match="unexpected keyword argument 'stepsize'"):
        attack_of("ifgsm")(model, images, labels, epsilons=8, stepsize=1)


@pytest.mark.parametrize(("name", "value"), [("step", 0), ("step", float("nan")), ("max_steps", 0), ("batch_size", -1)])
def test_refuses_numbers_that_are_not_positive(name, value):
    with pytest.raises(ValueError, match=rf"{name} is {value}; it must be positive"):
        attack_of("fgsm", **{name: value})


def test_refuses_networks_in_training_mode(attacker, images):
    labels = labels_of(attacker, images)
    training = SmallNet(0).double().train()
    for pair, role in (((training, attacker), "attacked model"), ((attacker, training), "stopping classifier")):
        with pytest.raises(ValueError, match=f"the {role} is in training mode"):
            next(attack_of("fgsm").stream(*pair, images, labels))


def test_leaves_networks_and_images_alone_and_works_without_gradients(images):
    network = SmallNet(0).double().eval()
    labels = labels_of(network, images)
    state = {name: value.clone() for name, value in network.state_dict().items()}
    before = images.clone()
    with torch.no_grad():
        result = attacked(attack_of("mifgsm"), network, network, images, labels)
    assert torch.equal(images, before)
    assert all(parameter.grad is None and parameter.requires_grad for parameter in network.parameters())
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    assert not result.images.requires_grad


def test_no_images_give_no_parts(attacker):
    nothing = torch.zeros(0, 3, SIZE, SIZE, dtype=torch.float64)
    assert list(attack_of("fgsm").stream(attacker, attacker, nothing, torch.zeros(0, dtype=torch.int64))) == []


def in_8_bits(x):
    return torch.tensor([[[round(value) for value in row] for row in channel] for channel in x.tolist()], dtype=x.dtype)


@pytest.mark.parametrize("early_stop", [True, False])
@pytest.mark.parametrize("step", [0.1875, STEP])
@pytest.mark.parametrize("name", ATTACKS)
def test_rounding_to_8_bits_equals_the_equations_image_by_image(name, step, early_stop, attacker, others, images):
    """The candidates are rounded and the walk is not, or a step of less than half a pixel value would never move."""
    labels = labels_of(others, images)
    settings = {"step": step, "seen": in_8_bits, "early_stop": early_stop}
    pairs = zip(images, labels, strict=True)
    expected = [naive(name, attacker, others, image, label, **settings) for image, label in pairs]
    attack = attack_of(name, step=step, early_stop=early_stop, batch_size=7, round_to_8_bits=True)
    result = attacked(attack, attacker, others, images, labels)
    assert torch.equal(result.images, torch.stack([image for image, *_ in expected]))
    assert result.steps.tolist() == [steps for _, steps, *_ in expected]
    assert result.succeeded.tolist() == [succeeded for *_, succeeded, _ in expected]
    assert result.already_misclassified.tolist() == [already for *_, already in expected]
    assert (result.images != images).any()


@pytest.mark.parametrize("name", ATTACKS)
def test_success_survives_in_8_bit_files(name, attacker, others, images):
    pixels = images.to(torch.uint8)
    network, stopping = SmallNet(0).eval(), relative(SmallNet(0), seed=2, distance=0.1).eval()
    labels = labels_of(stopping, images.float())
    result = attacked(
        attack_of(name, step=0.3125, max_steps=80, round_to_8_bits=True), network, stopping, pixels, labels
    )
    saved = result.images.to(torch.uint8)
    assert torch.equal(saved.float(), result.images)
    with torch.no_grad():
        wrong = stopping(saved.float()).argmax(1) != labels
    assert torch.equal(wrong, result.succeeded | result.already_misclassified)
    assert result.succeeded.sum() >= 3
    # Without rounding some of the successes would be lost in such files.
    exact = attacked(attack_of(name, step=0.3125, max_steps=80), network, stopping, pixels, labels)
    with torch.no_grad():
        lost = stopping(exact.images.round()).argmax(1) == labels
    assert (exact.succeeded & lost).any()


def test_rounding_through_foolbox(attacker, others, images):
    labels = labels_of(others, images)
    attack = attack_of("ifgsm", step=0.1875, round_to_8_bits=True)
    raw, *_ = attack(foolbox.PyTorchModel(attacker, BOUNDS), images, MisclassifiedBy(labels, others), epsilons=255)
    assert torch.equal(raw, attacked(attack, attacker, others, images, labels).images)


def test_refuses_walks_that_rounding_undoes():
    with pytest.raises(ValueError, match=r"1 steps of 0\.255 change no pixel by half a value"):
        attack_of("fgsm", step=0.255, max_steps=1, round_to_8_bits=True)
    attack_of("fgsm", step=0.255, max_steps=2, round_to_8_bits=True)
    attack_of("fgsm", step=0.255, max_steps=1)


class Smoothing(nn.Module):
    """A denoiser that averages neighbours and stretches the contrast, so that clipping matters."""

    def forward(self, pixels):
        return 1.2 * nn.functional.avg_pool2d(pixels, 3, 1, 1, count_include_pad=False) - 25


def test_defended_is_the_classifier_of_the_clipped_denoised_image(attacker, images):
    denoiser, labels = Smoothing().double(), labels_of(attacker, images)
    defended = Defended(denoiser, attacker)
    denoised = denoiser(images)
    assert denoised.min() < 0 and denoised.max() > 255
    with torch.no_grad():
        assert torch.equal(defended(images), attacker(denoised.clamp(0, 255)))

    x = images.clone().requires_grad_()
    loss = -attacker(denoiser(x).clamp(0, 255)).log_softmax(1)[range(N_IMAGES), labels].sum()
    (expected,) = torch.autograd.grad(loss, x)
    assert torch.allclose(input_gradient(defended, images, labels), expected, rtol=1e-9, atol=0)


def test_defended_is_frozen_and_in_evaluation_mode():
    denoiser = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3))
    defended = Defended(denoiser, SmallNet(0).train())
    assert not any(module.training for module in defended.modules())
    assert not any(parameter.requires_grad for parameter in defended.parameters())


def test_who_knows_the_defence_fools_it_more_often():
    """A classifier of five colours under noise, trained a little, behind a denoiser that smooths."""
    torch.manual_seed(0)
    labels = torch.arange(40) % N_CLASSES
    colours = torch.rand(N_CLASSES, 3, 1, 1) * 255
    classifier = SmallNet(0, contrast=1.0)

    def drawn():
        return (colours[labels] + 60 * torch.randn(len(labels), 3, SIZE, SIZE)).clamp(0, 255).round()

    for _ in range(60):
        loss = nn.functional.cross_entropy(classifier(drawn()), labels)
        parameters = list(classifier.parameters())
        for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
            parameter.data -= 0.1 * gradient
    defended = Defended(nn.AvgPool2d(5, 1, 2, count_include_pad=False), classifier)
    clean, attack = drawn(), attack_of("ifgsm", step=1.0, max_steps=30)

    def fooled(network, images):
        with torch.no_grad():
            return int((network(images).argmax(1) != labels).sum())

    plain = attacked(attack, classifier, classifier, clean, labels).images
    adaptive = attacked(attack, defended, defended, clean, labels).images
    assert fooled(defended, clean) < 4
    assert fooled(classifier, plain) > 20
    assert fooled(defended, adaptive) > fooled(defended, plain) + 20
