"""Growth of every stage's cost with the number of images: a line, what it starts at, and memory that stays the same.

Each stage runs as in the workflow, from files to files. The line is that of least squares of the relative deviations,
since a clock's noise grows with what it times.
"""

from __future__ import annotations

import io
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from benchmarks.inputs import N_CLASSES, adversaries, photographs, predicted, write_data
from benchmarks.results import Result
from benchmarks.timing import peak_memory, wait_for
from perturbflow.attacks.adversarial_set import AttackJob, attack_to_files, load_networks
from perturbflow.attacks.gradient_sign import own_attack
from perturbflow.classifiers.accuracy import top1_of_array
from perturbflow.classifiers.building import build_classifier, load_classifier, save_classifier
from perturbflow.classifiers.training import train_classifier
from perturbflow.denoisers.denoised_set import denoise_to_file
from perturbflow.denoisers.networks import build_denoiser, load_denoiser, save_denoiser
from perturbflow.denoisers.training import train_denoiser
from perturbflow.figures.page import WIDTH, inch_axes
from perturbflow.figures.style import GREY, STYLE, save_figure
from perturbflow.files.images import Array, image_writer, open_images, read_columns, read_split
from perturbflow.files.provenance import artifact_attributes
from perturbflow.machine.devices import prepare
from perturbflow.measuring.mse import mean_squared_errors
from perturbflow.measuring.propagation import layer_distances
from perturbflow.training import Resumable
from perturbflow.vocabulary import PALETTE

ROUNDS = 3
MOST_ROUNDS = 10
SHORT = 8.0  # seconds
LARGEST_DEVIATION = 0.05
LARGEST_GROWTH_OF_MEMORY = 1.05
METRICS = ("normalized_euclidean", "cosine", "relative_error", "gain", "along_share", "norm_change", "angle")


@dataclass(frozen=True)
class Size:
    """What is run.

    counts: of images. few: as many as a batch has, for what is paid once. image: height and width of the images.
    attacker, measured: architecture, input size and options of the classifier that is attacked, stopped by and trained,
    and of the one that is measured. step, max_steps: of the attacks, such that images stop all along the way.
    """

    counts: tuple[int, ...]
    few: int
    image: int
    attacker: Mapping[str, Any]
    measured: Mapping[str, Any]
    step: float
    max_steps: Mapping[str, int]
    denoiser_width: int
    training_batch: int
    denoiser_batch: int


COUNTS = (1024, 2048, 4096, 8192)
SIZES = {
    "cpu": Size(
        COUNTS,
        few=64,
        image=32,
        attacker={
            "architecture": "resnet18",
            "input_size": 16,
            "options": {"blocks": [1, 1, 1, 1], "width": 0.25},
        },
        measured={
            "architecture": "densenet201",
            "input_size": 32,
            "options": {"blocks": [2, 2, 2, 2], "width": 0.25},
        },
        step=8.0,
        max_steps={"fgsm": 8, "ifgsm": 8},
        denoiser_width=4,
        training_batch=64,
        denoiser_batch=64,
    ),
    "cuda": Size(
        COUNTS,
        few=256,
        image=64,
        attacker={"architecture": "resnet18", "input_size": 128, "options": {}},
        measured={"architecture": "resnetv2_50", "input_size": 128, "options": {}},
        step=0.255,
        max_steps={"fgsm": 20, "ifgsm": 12},
        denoiser_width=64,
        training_batch=64,
        denoiser_batch=32,
    ),
}


@dataclass(frozen=True)
class Curve:
    """A stage's cost.

    seconds: of each of `counts` images. few_seconds: of a batch of `few`, and first_seconds: of the first one that the
    process ran. once: seconds of what is done once, timed alone.
    """

    counts: Sequence[int]
    seconds: Sequence[float]
    few: int
    few_seconds: float
    first_seconds: float
    once: float

    @property
    def line(self) -> tuple[float, float]:
        """Slope (seconds an image) and intercept (seconds)."""
        slope, intercept = np.polyfit(self.counts, self.seconds, 1, w=1 / np.asarray(self.seconds))
        return float(slope), float(intercept)

    @property
    def intercept_error(self) -> float:
        """Standard error of the intercept, in seconds, as the points scatter about the line."""
        seconds = np.asarray(self.seconds)
        _, covariance = np.polyfit(self.counts, seconds, 1, w=1 / seconds, cov=True)
        return float(covariance[1, 1]) ** 0.5

    @property
    def deviation(self) -> float:
        """The largest of a point from the line, relative to the line."""
        return float(np.abs(np.asarray(self.seconds) / np.polyval(self.line, self.counts) - 1).max())

    @property
    def fixed(self) -> float:
        """What a batch takes beyond its share: the intercept as a run gives it that the line knows nothing of."""
        return self.few_seconds - self.few * self.line[0]


class Study:
    """The files of the study in a folder, for each number of images, and the stages that start from them."""

    def __init__(self, folder: Path, size: Size, device: torch.device) -> None:
        self.folder = folder
        self.size = size
        self.device = device

    # ---- Files

    def file(self, kind: str, n_images: int) -> str:
        """Path of the first so many images: `clean`, `adversarial` or `other`, another set."""
        return str(self.folder / f"{kind}_{n_images}.h5")

    def checkpoint(self, name: str) -> str:
        """Path of the checkpoint of `attacker`, `measured` or `denoiser`."""
        return str(self.folder / f"{name}.pt")

    def write(self) -> None:
        """Networks and images. The labels are what the attacker says, so that nothing is misclassified already."""
        for name, settings in {"attacker": self.size.attacker, "measured": self.size.measured}.items():
            torch.manual_seed(0)
            network = build_classifier(n_classes=N_CLASSES, weights="none", **settings)
            save_classifier(Path(self.checkpoint(name)), network, {"n_classes": N_CLASSES, **settings})
        described: dict[str, Any] = {"architecture": "unet", "width": self.size.denoiser_width, "residual": True}
        save_denoiser(Path(self.checkpoint("denoiser")), build_denoiser(**described), described)

        largest = max(self.size.counts)
        images = np.ascontiguousarray(photographs(largest)[:, : self.size.image, : self.size.image])
        attacker = load_classifier(self.checkpoint("attacker"), self.device)
        labels = predicted(attacker, torch.from_numpy(images).to(self.device).permute(0, 3, 1, 2)).cpu().numpy()
        for count in (self.size.few, *self.size.counts):
            write_data(self.file("clean", count), images[:count], labels[:count], N_CLASSES)
            for seed, kind in enumerate(("adversarial", "other"), start=1):
                self._write_set(self.file(kind, count), images[:count], labels[:count], seed)

    def _write_set(self, path: str, clean: Array, labels: Array, seed: int) -> None:
        with image_writer(path, len(clean), clean.shape[1:], "float32", {}) as file:
            file["images"][:] = adversaries(clean, seed=seed)
            file["index"] = np.arange(len(clean))
            file["label"] = labels

    # ---- Stages

    def attack(self, attack: str, n_images: int) -> None:
        """One attack, with early stop by the attacked classifier, from file to file."""
        attacker = self.checkpoint("attacker")
        settings = {"attack": attack, "step": self.size.step, "max_steps": self.size.max_steps[attack]}
        output = self.file(f"of_{attack}", n_images)
        job = AttackJob(
            {"train": self.file("clean", n_images)}, attacker, attacker, {"train": output}, settings, seed=0
        )
        with redirect_stderr(io.StringIO()):  # the progress bar
            attack_to_files(
                job, own_attack(settings, batch_size=self.size.few), load_networks(job, self.device), self.device
            )

    def train_classifier(self, n_images: int) -> None:
        """One epoch, on images that are read into the device's memory."""
        split = read_split(self.file("clean", n_images))
        classifier = load_classifier(self.checkpoint("attacker"), self.device).requires_grad_(True)
        resumable = self._resumable()
        train_classifier(
            classifier,
            torch.from_numpy(split.images).to(self.device).permute(0, 3, 1, 2),
            torch.from_numpy(split.labels).to(self.device),
            {
                "learning_rate": 1e-5,
                "weight_decay": 1e-5,
                "schedule": "constant",
                "batch_size": self.size.training_batch,
                "max_epochs": 1,
                "target_train_accuracy": 2.0,  # never reached: no pass for the clean accuracy
                "crop_scale": [0.85, 1.0],
                "flip_probability": 0.5,
                "precision": "auto",
            },
            0,
            resumable,
        )
        resumable.discard()

    def train_denoiser(self, n_images: int) -> None:
        """One epoch, on two sets that are read from their files."""
        denoiser = load_denoiser(self.checkpoint("denoiser"), self.device).requires_grad_(True)
        resumable = self._resumable()
        train_denoiser(
            denoiser,
            open_images(self.file("clean", n_images)),
            {kind: open_images(self.file(kind, n_images)) for kind in ("adversarial", "other")},
            {
                "batch_size": self.size.denoiser_batch,
                "mix": {"adversarial": 0.5, "other": 0.5},
                "precision": "auto",
                "stages": [{"epochs": 1, "learning_rate": 1e-5, "weight_decay": 1e-5, "schedule": "constant"}],
            },
            0,
            self.device,
            resumable,
        )
        resumable.discard()

    def denoise(self, n_images: int) -> None:
        """From file to file."""
        with redirect_stderr(io.StringIO()):  # the progress bar
            denoise_to_file(
                load_denoiser(self.checkpoint("denoiser"), self.device),
                self.file("adversarial", n_images),
                self.file("denoised", n_images),
                self.size.few,
                self.device,
                artifact_attributes({}),
            )

    def measure(self, n_images: int) -> None:
        """Distances of two sets from the clean images, all three read from files."""
        layer_distances(
            load_classifier(self.checkpoint("measured"), self.device),
            open_images(self.file("clean", n_images)),
            {kind: open_images(self.file(kind, n_images)) for kind in ("adversarial", "other")},
            self._labels(n_images),
            METRICS,
            self.size.few,
            self.device,
        )

    def accuracy(self, n_images: int) -> None:
        """Top-1 on one set from its file."""
        network = load_classifier(self.checkpoint("measured"), self.device)
        images = open_images(self.file("adversarial", n_images))
        top1_of_array(network, images, self._labels(n_images), self.size.few, self.device)

    def errors(self, n_images: int) -> None:
        """Mean squared errors of one set, from files."""
        mean_squared_errors(open_images(self.file("adversarial", n_images)), open_images(self.file("clean", n_images)))

    def _labels(self, n_images: int) -> Array:
        return read_columns(self.file("adversarial", n_images), "label")[0]

    def _resumable(self) -> Resumable:
        return Resumable(self.folder / "resume.pt", "")

    # ---- What is done once

    def load(self, name: str) -> torch.nn.Module:
        """A network from its checkpoint."""
        return (load_denoiser if name == "denoiser" else load_classifier)(self.checkpoint(name), self.device)

    def create(self) -> None:
        """The file of a set without an image, with where it came from: versions, commit."""
        with image_writer(self.folder / "empty.h5", 0, (1, 1, 3), "float32", artifact_attributes({})):
            pass

    def open(self) -> None:
        """The smallest files."""
        for kind in ("clean", "adversarial"):
            open_images(self.file(kind, self.size.few))

    def load_and_keep(self, name: str) -> None:
        """A network, and the state of its training as it is saved after an epoch: weights, and two moments of each."""
        weights = self.load(name).state_dict()
        resumable = self._resumable()
        resumable.save(model=weights, steps=[weights, weights], epoch=1, history=[])
        resumable.discard()


@dataclass(frozen=True)
class Stage:
    """title: of the rows and of the panel. run: for so many images. once: what is done once, and what it is called."""

    title: str
    run: Callable[[Study, int], None]
    once: Callable[[Study], Any]
    called: str


def _attack(attack: str) -> dict[str, Any]:
    def once(study: Study) -> None:
        study.load("attacker")
        study.create()

    return {
        "run": lambda study, n_images: study.attack(attack, n_images),
        "once": once,
        "called": "network loaded, file made with where it came from",
    }


def _denoising_once(study: Study) -> None:
    study.load("denoiser")
    study.create()


STAGES = (
    Stage("attack, i-FGSM", **_attack("ifgsm")),
    Stage("attack, FGSM", **_attack("fgsm")),
    Stage(
        "training a classifier",
        Study.train_classifier,
        lambda study: study.load_and_keep("attacker"),
        "network loaded, state of the training saved",
    ),
    Stage(
        "training a denoiser",
        Study.train_denoiser,
        lambda study: study.load_and_keep("denoiser"),
        "network loaded, state of the training saved",
    ),
    Stage("denoising", Study.denoise, _denoising_once, "network loaded, file made with where it came from"),
    Stage("measuring distances", Study.measure, lambda study: study.load("measured"), "network loaded"),
    Stage("accuracy", Study.accuracy, lambda study: study.load("measured"), "network loaded"),
    Stage("mean squared errors", Study.errors, Study.open, "files opened"),
)
IN_BOUNDED_MEMORY = {"denoising": Study.denoise, "measuring distances": Study.measure}


def run(device: torch.device) -> list[Result]:
    """Time every stage, write the figure beside the results, and give its lines."""
    size = SIZES[device.type]
    with tempfile.TemporaryDirectory() as folder:
        study = Study(Path(folder), size, device)
        # In a process of its own, and the memory before the rest, while this process is small: Linux counts what the
        # one that starts a process holds among the peak of the new one.
        writing = multiprocessing.get_context("spawn").Process(target=study.write)
        writing.start()
        writing.join()
        if writing.exitcode:
            raise RuntimeError("the files were not written; the traceback is above")
        memory = memories(study)
        curves = curves_of(STAGES, study, ROUNDS)
    figures = Path("results/benchmarks") / device.type
    figures.mkdir(parents=True, exist_ok=True)
    for extension in ("svg", "png"):
        save_figure(draw(curves, memory), figures / f"growth.{extension}", extension)
    return [*rows(curves), *memory_rows(memory)]


def memories(study: Study) -> dict[str, dict[int, float]]:
    """Peak of a new process (MiB) by stage and number of images."""
    return {
        title: {
            count: peak_memory(in_new_process, title, study.folder, study.size, study.device.type, count)
            for count in study.size.counts
        }
        for title in IN_BOUNDED_MEMORY
    }


def in_new_process(title: str, folder: Path, size: Size, device: str, n_images: int) -> None:
    """One of the stages whose memory does not grow."""
    IN_BOUNDED_MEMORY[title](Study(folder, size, prepare(device, torch.get_num_threads())), n_images)


def curves_of(stages: Sequence[Stage], study: Study, rounds: int) -> dict[str, Curve]:
    """Time stages for each number of images, the fastest of so many rounds.

    Stages and numbers take turns, so that whatever else the machine does meets each of them once. Short ones get more
    rounds: little disturbs them much.
    """
    size = study.size

    def timed(function: Callable[..., Any], *arguments: Any) -> float:
        wait_for(study.device)
        started = time.perf_counter()
        function(study, *arguments)
        wait_for(study.device)
        return time.perf_counter() - started

    first = {stage.title: timed(stage.run, size.few) for stage in stages}
    timings: dict[str, list[list[float]]] = {stage.title: [] for stage in stages}
    for number in range(MOST_ROUNDS):
        for stage in stages:
            stage_seconds = timings[stage.title]
            if number < rounds or np.sum(stage_seconds) < SHORT:
                run_seconds = [timed(stage.run, count) for count in (size.few, *size.counts)]
                stage_seconds.append([*run_seconds, timed(stage.once)])
    curves = {}
    for title, stage_seconds in timings.items():
        few, *seconds, once = np.min(stage_seconds, axis=0).tolist()
        curves[title] = Curve(size.counts, seconds, size.few, few, first[title], once)
    return curves


def rows(curves: Mapping[str, Curve]) -> list[Result]:
    """Of each stage the line and what it starts at."""
    results = []
    for stage in STAGES:
        if stage.title not in curves:
            continue
        curve = curves[stage.title]
        slope, intercept = curve.line
        spanned = f"{min(curve.counts):,} to {max(curve.counts):,} images"
        results += [
            Result(
                "growth",
                f"{stage.title}, {spanned}: an image",
                1000 * slope,
                "ms",
                "line: largest deviation of a point",
                None,
                curve.deviation,
                f"<= {LARGEST_DEVIATION}",
            ),
            Result(
                "growth",
                f"{stage.title}: intercept, standard error {curve.intercept_error:.1g} s",
                intercept,
                "s",
                f"a run of {curve.few} images, less {curve.few} times the slope",
                curve.fixed,
            ),
            Result("growth", f"{stage.title}: of that, {stage.called}", curve.once, "s"),
        ]
    first = sum(curve.first_seconds - curve.few_seconds for curve in curves.values())
    results.append(Result("growth", "all stages: first calls in the process, beyond later ones", first, "s"))
    return results


def memory_rows(memory: Mapping[str, Mapping[int, float]]) -> list[Result]:
    """The largest number of images against the smallest."""
    return [
        Result(
            "growth",
            f"{title}: peak memory, {max(peaks):,} images",
            peaks[max(peaks)],
            "MiB",
            f"{min(peaks):,} images",
            peaks[min(peaks)],
            peaks[max(peaks)] / peaks[min(peaks)],
            f"<= {LARGEST_GROWTH_OF_MEMORY}",
        )
        for title, peaks in memory.items()
    ]


# ---- Figure

COLUMNS = 3
LEFT, RIGHT, BOTTOM, TOP, GAP_ACROSS, GAP_UP, HEIGHT = 0.45, 0.12, 0.4, 0.24, 0.55, 0.62, 1.1  # inches
ROOM = 1.3  # axis over the largest value, for the words


def draw(curves: Mapping[str, Curve], memory: Mapping[str, Mapping[int, float]]) -> Figure:
    """A panel a stage, with points and line of its seconds; then one of memory."""
    n_rows = -(-(len(curves) + 1) // COLUMNS)
    width = (WIDTH - LEFT - RIGHT - (COLUMNS - 1) * GAP_ACROSS) / COLUMNS
    height = BOTTOM + n_rows * HEIGHT + (n_rows - 1) * GAP_UP + TOP
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, height))

        def panel(number: int, title: str, unit: str, counts: Sequence[int], lowest: float, highest: float) -> Any:
            row, column = divmod(number, COLUMNS)
            left = LEFT + column * (width + GAP_ACROSS)
            axes = inch_axes(figure, left, height - TOP - HEIGHT - row * (HEIGHT + GAP_UP), width, HEIGHT)
            axes.set(title=title, xlabel="images", ylabel=unit)
            axes.set(xlim=(0, 1.04 * max(counts)), ylim=(lowest, ROOM * highest))
            axes.set_xticks(
                [0, *counts], [f"{count:,}" if count in (0, *counts[-3:]) else "" for count in (0, *counts)]
            )
            axes.yaxis.set_major_locator(MaxNLocator(4))
            return axes

        def words(axes: Any, text: str) -> None:
            axes.text(0.03, 0.97, text, transform=axes.transAxes, color=GREY, va="top")

        for number, (title, curve) in enumerate(curves.items()):
            slope, intercept = curve.line
            ends = np.array([0, max(curve.counts)])
            axes = panel(number, title, "seconds", curve.counts, min(0, intercept), max(curve.seconds))
            axes.plot(ends, intercept + slope * ends, color=PALETTE[1])
            axes.plot(curve.counts, curve.seconds, "o", color=PALETTE[3], markersize=3.5)
            sign = "+" if intercept >= 0 else "\N{MINUS SIGN}"
            words(axes, f"{1000 * slope:.3g} ms an image\n{sign} {abs(intercept):.2g} s")
        counts = list(next(iter(memory.values())))
        highest = max(max(peaks.values()) for peaks in memory.values())
        axes = panel(len(curves), "peak memory", "MiB", counts, 0, highest)
        for (title, peaks), color, size in zip(memory.items(), (PALETTE[4], PALETTE[3]), (6, 3), strict=False):
            axes.plot(list(peaks), list(peaks.values()), "o-", color=color, markersize=size, label=title)
        axes.legend(loc="lower left", frameon=False, fontsize=7)
    return figure
