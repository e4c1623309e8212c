"""The networks' speed beside the device's own, at the sizes of config/config.yaml, and the hours that its study takes.

A multiply-add counts as two floating-point operations; those of convolutions and matrix products are counted, forward
and backward. The networks are untrained, which changes no speed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.inputs import N_CLASSES, adversaries, load_config, on_device, photographs
from benchmarks.results import Result
from benchmarks.timing import fastest
from perturbflow.attacks.gradient_sign import ATTACKS, input_gradient, own_attack
from perturbflow.attacks.noise import control_blocks
from perturbflow.classifiers.accuracy import top1_of_array
from perturbflow.classifiers.building import build_classifier
from perturbflow.classifiers.classifier import Classifier
from perturbflow.classifiers.training import train_classifier
from perturbflow.data.sources import SOURCES
from perturbflow.denoisers.denoised_set import denoise
from perturbflow.denoisers.guided_loss import GuidedLoss
from perturbflow.denoisers.networks import build_denoiser
from perturbflow.denoisers.training import train_denoiser
from perturbflow.machine.batches import pixels_of
from perturbflow.machine.devices import select_precision
from perturbflow.measuring.mse import mean_squared_errors
from perturbflow.measuring.propagation import layer_distances
from perturbflow.planning.image_counts import source_images
from perturbflow.planning.passes import Passes, attack_passes, jobs, measured_classifiers, passes
from perturbflow.training import Resumable

CONFIG = Path(__file__).parent.parent / "config" / "config.yaml"
N_CONDITIONS = 3  # under which distances are measured here: an adversary and two that a denoiser left

Config = Mapping[str, Any]


@dataclass(frozen=True)
class Size:
    """How much is run. matrix: side of the matrices. batches: of an epoch of training. images: of everything else."""

    matrix: int
    batches: int
    images: int
    rounds: int


SIZES = {"cpu": Size(matrix=2048, batches=2, images=32, rounds=2), "cuda": Size(8192, 24, 768, 2)}
ON_CPU = {"resnet18": 16, "unet": 4}  # what is trained on the CPU too, with smaller batches


@dataclass(frozen=True)
class Measurement:
    """images: a second. memory: the largest that the device held, GiB; None on the CPU."""

    images: float
    memory: float | None


@dataclass(frozen=True)
class Rates:
    """ImageCounts a second, by the names in the config.

    training: of classifiers, and denoiser_training: of denoisers with the mean squared error. forward: passes of
    classifiers in float32. gradient: passes and gradients of the attackers. distances: passes of classifiers with their
    maps compared, of clean images and of conditions. guide: the loss of guided denoisers alone, with its gradient.
    denoising: passes of denoisers, and through: passes and gradients. control and errors: see `controls` and `errors`.
    taps: the number of each classifier's, no rate.
    """

    training: Mapping[str, float]
    forward: Mapping[str, float]
    gradient: Mapping[str, float]
    distances: Mapping[str, float]
    denoiser_training: Mapping[str, float]
    guide: Mapping[str, float]
    denoising: Mapping[str, float]
    through: Mapping[str, float]
    control: float
    errors: float
    taps: Mapping[str, int]


@dataclass(frozen=True)
class Measured:
    """What a device gave. matmul: floating-point operations a second. The rest by the names in the config."""

    matmul: float
    training: Mapping[str, Measurement]
    denoiser_training: Mapping[str, Measurement]
    attack: Mapping[str, Measurement]
    distances: Mapping[str, Measurement]
    rates: Rates


def run(device: torch.device) -> list[Result]:
    """On a GPU the whole; on the CPU two trainings, and `not measured` for the rest."""
    config, size = load_config(CONFIG), SIZES[device.type]
    if device.type == "cuda":
        return rows(config, measure(Bench(config, size, device), shown_attacks(config)))
    return [*cpu_rows(config, size, device), *rows(config, None)]


def cpu_rows(config: Config, size: Size, device: torch.device) -> list[Result]:
    """Trainings of the config with small batches, on a CPU."""
    smaller = {
        **config,
        "classifiers": {
            name: {**settings, "training": {**settings["training"], "batch_size": ON_CPU[name]}}
            for name, settings in config["classifiers"].items()
            if name in ON_CPU
        },
        "denoisers": {
            name: {**settings, "batch_size": ON_CPU[name]}
            for name, settings in config["denoisers"].items()
            if name in ON_CPU
        },
    }
    bench = Bench(smaller, size, device)
    precision = select_precision("auto", device)
    # Before and after: it takes a second, in which the machine may do something else as well.
    before = matmul_rate(size.matrix, precision, device)
    training = {name: bench.training(name) for name in smaller["classifiers"]}
    denoiser_training = {name: bench.denoiser_training(name) for name in smaller["denoisers"]}
    matmul = max(before, matmul_rate(size.matrix, precision, device))
    return [
        _matmul_row(size.matrix, precision, matmul),
        *(_training_row(smaller, name, one, matmul, is_classifier=True) for name, one in training.items()),
        *(_training_row(smaller, name, one, matmul, is_classifier=False) for name, one in denoiser_training.items()),
    ]


# ---- What is measured


class Unresumable(Resumable):
    """A training's state that nobody keeps."""

    def __init__(self) -> None:
        super().__init__(Path(), "")

    def load(self) -> None:
        return None

    @contextmanager
    def saving(self) -> Iterator[Callable[..., None]]:
        yield lambda **state: None


class SeesClass0(nn.Module):
    """A classifier that takes every image for one of class 0, at the cost of the one within: nothing stops early."""

    def __init__(self, classifier: Classifier, n_classes: int) -> None:
        super().__init__()
        self.classifier = classifier
        self.register_buffer("preference", 1e6 * torch.eye(n_classes)[:1])

    def forward(self, pixels: Tensor) -> Tensor:
        return self.classifier(pixels) + self.preference


class Bench:
    """The networks of a config, at work on a device."""

    def __init__(self, config: Config, size: Size, device: torch.device) -> None:
        self.config = config
        self.size = size
        self.device = device
        self.n_classes = config["data"]["classes"] or N_CLASSES
        self.batch_size = config["compute"]["batch_size"]

    def training(self, name: str) -> Measurement:
        """The epochs of `train_classifier` after the first, in which the device still prepares itself."""
        settings = self.config["classifiers"][name]["training"]
        clean = self._clean(self.size.batches * settings["batch_size"])
        labels = torch.from_numpy(np.arange(len(clean)) % self.n_classes).to(self.device)
        # An accuracy that is never reached: no pass to measure it.
        settings = {**settings, "max_epochs": 1 + self.size.rounds, "target_train_accuracy": 2.0}
        return self._fastest_epoch(
            len(clean),
            lambda: train_classifier(
                self._classifier(name, frozen=False),
                on_device(clean, self.device),
                labels,
                settings,
                0,
                Unresumable(),
                compiled=self.config["compute"]["compile"],
            ),
        )

    def denoiser_training(self, name: str) -> Measurement:
        """The same of `train_denoiser`, with the mean squared error, from memory."""
        settings = self.config["denoisers"][name]
        clean = self._clean(self.size.batches * settings["batch_size"])
        adversarial = adversaries(clean)
        stage = {**settings["stages"][0], "epochs": 1 + self.size.rounds}
        return self._fastest_epoch(
            len(clean),
            lambda: train_denoiser(
                self._denoiser(name, frozen=False),
                clean,
                dict.fromkeys(settings["mix"], adversarial),
                {**settings, "stages": [stage]},
                0,
                self.device,
                Unresumable(),
                compiled=self.config["compute"]["compile"],
            ),
        )

    def _fastest_epoch(self, n_images: int, train: Callable[[], list[dict[str, float]]]) -> Measurement:
        self._forget_memory()
        seconds = min(row["seconds"] for row in train()[1:])
        return Measurement(n_images / seconds, self._memory())

    def attack(self, name: str) -> Measurement:
        """A set of the config, of which every image takes all its steps."""
        settings = self.config["adversarial_sets"][name]
        attacker = self._classifier(settings["attacker"])
        stopping = SeesClass0(self._classifier(settings["stopping_classifier"]), self.n_classes).eval().to(self.device)
        attack = own_attack(settings, batch_size=self.batch_size)
        images = on_device(self._clean(), self.device)
        labels = torch.zeros(len(images), dtype=torch.int64, device=self.device)
        return self._timed(lambda: _exhaust(attack.stream(attacker, stopping, images, labels)))

    def distances(self, name: str) -> Measurement:
        """Clean images and their conditions, with the metrics of the config."""
        classifier, clean = self._classifier(name), self._clean()
        conditions = {str(seed): adversaries(clean, seed=seed) for seed in range(N_CONDITIONS)}
        return self._timed(
            lambda: layer_distances(
                classifier,
                clean,
                conditions,
                np.zeros(len(clean), dtype=np.int64),
                self.config["measure"]["metrics"],
                self.batch_size,
                self.device,
            )
        )

    def forward(self, name: str) -> Measurement:
        """Passes of a classifier, as for its accuracy."""
        classifier, clean = self._classifier(name), self._clean()
        labels = np.zeros(len(clean), dtype=np.int64)
        return self._timed(lambda: top1_of_array(classifier, clean, labels, self.batch_size, self.device))

    def gradient(self, name: str) -> Measurement:
        """Passes of a classifier and gradients with respect to pixels, as for an attack."""
        return self._timed(self._gradients(self._classifier(name)))

    def denoising(self, name: str) -> Measurement:
        """Passes of a denoiser."""
        denoiser, images = self._denoiser(name), adversaries(self._clean())
        return self._timed(lambda: _exhaust(denoise(denoiser, images, self.batch_size, self.device)))

    def through(self, name: str) -> Measurement:
        """Passes of a denoiser and gradients with respect to pixels, as an attack that knows it needs them."""
        denoiser = self._denoiser(name)
        return self._timed(self._gradients(lambda pixels: denoiser(pixels).mean((2, 3))))

    def _gradients(self, network: Callable[[Tensor], Tensor]) -> Callable[[], None]:
        batches = pixels_of(self._clean(), self.device).split(self.batch_size)

        def gradients() -> None:
            for batch in batches:
                input_gradient(network, batch, torch.zeros(len(batch), dtype=torch.int64, device=self.device))

        return gradients

    def guide(self, name: str) -> Measurement:
        """The loss of a guided denoiser and its gradient with respect to the denoised pixels."""
        settings = self.config["denoisers"][name]
        loss = GuidedLoss(self._classifier(settings["guide"]), settings["loss"])
        clean = self._clean()
        pairs = [
            (denoised.requires_grad_(), pixels)
            for denoised, pixels in zip(
                pixels_of(adversaries(clean), self.device).split(settings["batch_size"]),
                pixels_of(clean, self.device).split(settings["batch_size"]),
                strict=True,
            )
        ]

        def losses() -> None:
            for denoised, pixels in pairs:
                torch.autograd.grad(loss(denoised, pixels), denoised)

        return self._timed(losses)

    def control(self) -> Measurement:
        """ImageCounts of a control of random noise."""
        clean = self._clean()
        adversarial, index = adversaries(clean), np.arange(len(clean))
        return self._timed(lambda: _exhaust(control_blocks("sign_noise", clean, index, adversarial, 0, "train")))

    def errors(self) -> Measurement:
        """Mean squared errors."""
        clean = self._clean()
        adversarial = adversaries(clean)
        return self._timed(lambda: mean_squared_errors(adversarial, clean))

    def n_taps(self, name: str) -> int:
        """Of a classifier."""
        with torch.device("meta"):
            return len(_build(self.config["classifiers"][name], self.n_classes).taps)

    def _clean(self, n_images: int | None = None) -> Any:
        size = self.config["data"]["image_size"]
        return photographs(n_images or self.size.images, size=size)

    def _classifier(self, name: str, frozen: bool = True) -> Classifier:
        torch.manual_seed(0)
        network = _build(self.config["classifiers"][name], self.n_classes)
        return network.eval().requires_grad_(not frozen).to(self.device).to(memory_format=torch.channels_last)

    def _denoiser(self, name: str, frozen: bool = True) -> nn.Module:
        network = _build_denoiser(self.config["denoisers"][name])
        return network.eval().requires_grad_(not frozen).to(self.device).to(memory_format=torch.channels_last)

    def _timed(self, function: Callable[[], object]) -> Measurement:
        self._forget_memory()
        seconds = fastest({"": function}, self.size.rounds, self.device)[""]
        return Measurement(self.size.images / seconds, self._memory())

    def _forget_memory(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self.device)

    def _memory(self) -> float | None:
        return torch.cuda.max_memory_allocated(self.device) / 2**30 if self.device.type == "cuda" else None


def _exhaust(iterator: Iterator[Any]) -> None:
    for _ in iterator:
        pass


def _build(settings: Config, n_classes: int) -> Classifier:
    return build_classifier(
        settings["architecture"],
        n_classes,
        settings["input_size"],
        "none",
        settings["options"],
        settings["taps"],
        settings["normalization"],
    )


def _build_denoiser(settings: Config) -> nn.Module:
    return build_denoiser(settings["architecture"], settings["width"], settings["residual"], settings["options"])


def measure(bench: Bench, attacks: Iterable[str]) -> Measured:
    """All that the rows and the projection need. attacks: the sets whose attack is timed by itself."""
    config = bench.config
    sets, denoisers, measured = config["adversarial_sets"], config["denoisers"], measured_classifiers(config)
    attacked = [settings for settings in sets.values() if settings["attack"] in ATTACKS]
    attackers = dict.fromkeys(settings["attacker"] for settings in attacked)
    training = {name: bench.training(name) for name in config["classifiers"]}
    denoiser_training = {name: bench.denoiser_training(name) for name in denoisers}
    distances = {name: bench.distances(name) for name in measured}

    def of(function: Callable[[str], Measurement], names: Mapping[str, Any]) -> dict[str, float]:
        return {name: function(name).images for name in names}

    rates = Rates(
        training={name: one.images for name, one in training.items()},
        forward=of(bench.forward, config["classifiers"]),
        gradient=of(bench.gradient, attackers),
        distances={name: (1 + N_CONDITIONS) * one.images for name, one in distances.items()},
        denoiser_training={name: one.images for name, one in denoiser_training.items()},
        guide=of(bench.guide, {name: 0 for name, settings in denoisers.items() if settings["loss"] != "pixels"}),
        denoising=of(bench.denoising, denoisers),
        through=of(bench.through, dict.fromkeys(settings["denoiser"] for settings in attacked if settings["denoiser"])),
        control=bench.control().images,
        errors=bench.errors().images,
        taps={name: bench.n_taps(name) for name in measured},
    )
    return Measured(
        matmul_rate(bench.size.matrix, select_precision("auto", bench.device), bench.device),
        training,
        denoiser_training,
        {name: bench.attack(name) for name in attacks},
        distances,
        rates,
    )


def shown_attacks(config: Config) -> list[str]:
    """The sets whose attack is timed by itself: the paper's that another classifier than the attacker stops."""
    return [
        name
        for name, settings in config["adversarial_sets"].items()
        if settings["attack"] in ATTACKS
        and not settings["denoiser"]
        and settings["stopping_classifier"] not in (None, settings["attacker"])
    ]


def matmul_rate(side: int, precision: torch.dtype, device: torch.device) -> float:
    """Floating-point operations a second of the product of two square matrices, the fastest of many."""
    left, right = (torch.randn(side, side, device=device).to(precision) for _ in range(2))
    seconds = fastest({"": lambda: left @ right}, 20, device)[""]
    return 2 * side**3 / seconds


def training_flops(network: nn.Module, image_size: int) -> float:
    """Floating-point operations of a training step, an image: forward and backward. network: on the meta device."""
    n_images = 2  # batch normalisation takes no single one
    exchanged = {torch.ops.aten.convolution_backward: _convolution_backward_flops}
    with FlopCounterMode(display=False, custom_mapping=exchanged) as counter:
        network.train()(torch.empty(n_images, 3, image_size, image_size, device="meta")).sum().backward()
    return counter.get_total_flops() / n_images


def _convolution_backward_flops(
    gradient: Sequence[int],
    images: Sequence[int],
    weights: Sequence[int],
    *others: Any,
    out_shape: Any,
    **_: Any,
) -> int:
    """As many as of the forward pass for each gradient that is asked for. torch's own count takes no heed of groups."""
    transposed, asked_for = others[4], others[7]
    return sum(asked_for[:2]) * 2 * math.prod(images if transposed else gradient) * math.prod(weights[1:])


# ---- The study's hours


def image_counts(config: Config) -> dict[str, int]:
    """Number of images of each split. Raises ValueError for data of unequal classes, which would have to be read."""
    data = config["data"]
    if not SOURCES[data["source"]].class_sizes(data).all_equal:
        raise ValueError(f"data.source: the number of images of {data['source']} is not known before they are read")
    return source_images(data)


def attack_seconds(settings: Config, rates: Rates) -> float:
    """Seconds for an image of a set that takes all its steps.

    Raises ValueError for an attack of Foolbox, which may take any number of gradients.
    """
    return sum(_seconds(one, rates) for one in attack_passes(settings))


def _seconds(one: Passes, rates: Rates) -> float:
    rate: float | Mapping[str, float] = getattr(rates, one.way)
    return one.n_images / (rate[one.name] if isinstance(rate, Mapping) else rate) if one.n_images else 0.0


def projected_hours(config: Config, rates: Rates) -> dict[str, float]:
    """Hours of each rule of the workflow, job after job on one device.

    Upper limits, as `perturbflow.planning.passes.passes` counts. Left out: reading the data, files, tables and
    figures.
    """
    images = image_counts(config)
    seconds = dict.fromkeys(RULES, 0.0)
    for rule, wildcards in jobs(config):
        seconds[rule] += projected_seconds(rule, wildcards, config, images, rates)
    return {rule: value / 3600 for rule, value in seconds.items()}


def projected_seconds(
    rule: str, wildcards: Mapping[str, str], config: Config, images: Mapping[str, int], rates: Rates
) -> float:
    """Of a job that reads so many images of each split."""
    return sum(_seconds(one, rates) for one in passes(rule, wildcards, config, images, rates.taps))


RULES = {
    "classifier": "training of all classifiers, all epochs: an upper limit, the target accuracy may end it earlier",
    "adversarial": "all attacks, with all steps of every image: an upper limit, most images stop earlier",
    "control": "controls of random noise",
    "denoiser": "training of the denoisers",
    "guided_denoiser": "training of the guided denoisers",
    "denoised": "denoising of all sets",
    "measure": "accuracy on all images and distances, all conditions",
    "intervene": "interventions: an upper limit, most passes go on from the middle",
    "mean_squared_error": "mean squared errors",
}


# ---- Rows


def rows(config: Config, measured: Measured | None) -> list[Result]:
    """The table: `not measured` throughout without a measurement."""
    size = SIZES["cuda"]
    matmul = measured.matmul if measured else None
    result = [_matmul_row(size.matrix, torch.bfloat16, matmul)]
    classifier_measurements = measured.training if measured else {}
    denoiser_measurements = measured.denoiser_training if measured else {}
    for name in config["classifiers"]:
        one = classifier_measurements.get(name)
        result += [_training_row(config, name, one, matmul, is_classifier=True), _memory_row(f"training {name}", one)]
    for name, settings in config["denoisers"].items():
        if settings["loss"] != "pixels":
            continue  # its network is another one's, and what its guide costs is in the hours
        one = denoiser_measurements.get(name)
        result += [_training_row(config, name, one, matmul, is_classifier=False), _memory_row(f"training {name}", one)]
    for name in shown_attacks(config):
        attack = measured.attack[name] if measured else None
        alone = 1 / attack_seconds(config["adversarial_sets"][name], measured.rates) if measured else None
        result += [
            _rate_row(f"attack {name}, all steps of every image", attack, "its gradients and checks alone", alone),
            _memory_row(f"attack {name}", attack),
        ]
    for name in measured_classifiers(config):
        distances = measured.distances[name] if measured else None
        passes = measured.rates.forward[name] / (1 + N_CONDITIONS) if measured else None
        what = f"distances of {name}, {N_CONDITIONS} conditions"
        result += [
            _rate_row(what, distances, "its passes alone", passes),
            _memory_row(f"distances of {name}", distances),
        ]
    hours = projected_hours(config, measured.rates) if measured else dict.fromkeys(RULES, None)
    result += [Result("throughput", f"the paper's study: {RULES[rule]}", hours[rule], "h") for rule in RULES]
    total = sum(projected_hours(config, measured.rates).values()) if measured else None
    return [*result, Result("throughput", "the paper's study: in sum, on one device", total, "h")]


def _matmul_row(side: int, precision: torch.dtype, rate: float | None) -> Result:
    name = str(precision).removeprefix("torch.")
    return Result("throughput", f"matmul, {name}, {side:,} x {side:,}", rate and rate / 1e12, "TFLOP/s")


def _training_row(
    config: Config, name: str, measurement: Measurement | None, matmul: float | None, is_classifier: bool
) -> Result:
    """ImageCounts a second against what the matmul rate would allow."""
    with torch.device("meta"):
        if is_classifier:
            settings = config["classifiers"][name]
            network: nn.Module = _build(settings, config["data"]["classes"] or N_CLASSES)
            batch_size = settings["training"]["batch_size"]
        else:
            network = _build_denoiser(config["denoisers"][name])
            batch_size = config["denoisers"][name]["batch_size"]
        flops = training_flops(network, config["data"]["image_size"])
    return _rate_row(
        f"training {name}, batch {batch_size}, {flops / 1e9:.3g} GFLOP an image",
        measurement,
        "the matmul rate",
        matmul and matmul / flops,
    )


def _rate_row(what: str, measurement: Measurement | None, against: str, theirs: float | None) -> Result:
    ours = measurement.images if measurement else None
    ratio = ours / theirs if ours is not None and theirs is not None else None
    return Result("throughput", what, ours, "images/s", against, theirs, ratio)


def _memory_row(what: str, measurement: Measurement | None) -> Result:
    return Result("throughput", f"{what}: device memory", measurement.memory if measurement else None, "GiB")
