"""Measuring distances against the plain forward passes it needs, and its memory."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from benchmarks.inputs import classifier, write_images
from benchmarks.results import Result
from benchmarks.timing import fastest, peak_memory
from perturbflow.files.images import open_images
from perturbflow.machine.batches import batches_of
from perturbflow.machine.devices import prepare
from perturbflow.measuring.metrics import ALL_METRICS
from perturbflow.measuring.propagation import layer_distances

OF_THE_PAPER = ["normalized_euclidean", "cosine"]
ALL = f"all {len(ALL_METRICS)} metrics"
CONDITIONS = ("none", "fusionnet", "unet")


@dataclass(frozen=True)
class Size:
    """n_images: of each condition. few and many: numbers of images whose memory is compared, on a small network."""

    n_images: int
    batch_size: int
    rounds: int
    few: int
    many: int


SIZES = {"cpu": Size(16, 64, 4, 1_000, 10_000), "cuda": Size(2048, 256, 5, 1_000, 10_000)}


def run(device: torch.device) -> list[Result]:
    size = SIZES[device.type]
    results = []
    with tempfile.TemporaryDirectory() as folder:
        files = write_images(Path(folder), CONDITIONS, size.n_images)
        for architecture in ("resnetv2_50", "densenet201"):
            results += _against_passes(architecture, files, size, device)
        if device.type == "cpu":
            results += _memory(Path(folder), size)
    return results


def _against_passes(architecture: str, files: Mapping[str, Path], size: Size, device: torch.device) -> list[Result]:
    network = classifier(architecture, device)
    labels = np.zeros(size.n_images, dtype=np.int64)

    def measure(metrics: list[str]) -> None:
        clean, *others = (open_images(file) for file in files.values())
        conditions = dict(zip(CONDITIONS, others, strict=True))
        layer_distances(network, clean, conditions, labels, metrics, size.batch_size, device)

    @torch.no_grad()
    def pass_through() -> None:
        for file in files.values():
            for _, batch in batches_of(open_images(file), size.batch_size, device):
                network(batch)

    seconds = fastest(
        {
            "passes": pass_through,
            "of the paper": lambda: measure(OF_THE_PAPER),
            "all": lambda: measure(list(ALL_METRICS)),
        },
        size.rounds,
        device,
    )
    rate = {name: len(files) * size.n_images / fastest_seconds for name, fastest_seconds in seconds.items()}
    return [
        Result(
            "distances",
            f"{architecture}, {len(CONDITIONS)} conditions, {what}",
            rate[name],
            "images/s",
            "plain forward passes",
            rate["passes"],
            seconds[name] / seconds["passes"],
            bound,
        )
        for name, what, bound in (
            ("of the paper", "NE-D and COS-D at all taps", "<= 1.1"),
            ("all", ALL, ""),
        )
    ]


def _memory(folder: Path, size: Size) -> list[Result]:
    peaks = {}
    for n_images in (size.few, size.many):
        files = write_images(folder, CONDITIONS, n_images)
        peaks[n_images] = {
            what: peak_memory(measure_files, files, metrics)
            for what, metrics in (("NE-D and COS-D", OF_THE_PAPER), (ALL, list(ALL_METRICS)))
        }
        for file in files.values():
            file.unlink()
    return [
        Result(
            "distances",
            f"peak memory for {size.many} images, {what}",
            peaks[size.many][what],
            "MiB",
            f"for {size.few} images",
            peaks[size.few][what],
            peaks[size.many][what] / peaks[size.few][what],
            "" if what == ALL else "<= 1.05",  # five times as many results an image
        )
        for what in peaks[size.few]
    ]


def measure_files(files: Mapping[str, Path], metrics: list[str]) -> None:
    """Measure with a network so small that thousands of images take seconds."""
    device = prepare("cpu", 2)
    network = classifier("resnet18", device, blocks=[1, 1, 1, 1], width=0.125)
    network.input_size = 64
    clean, *others = (open_images(file) for file in files.values())
    labels = np.zeros(len(clean), dtype=np.int64)
    layer_distances(network, clean, dict(zip(CONDITIONS, others, strict=True)), labels, metrics, 256, device)
