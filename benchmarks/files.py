"""Jobs that write their images against the same without a file; and the ways in which HDF5 can store them."""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch

from benchmarks.inputs import N_CLASSES, adversaries, classifier, on_device, photographs, predicted, write_data
from benchmarks.results import Result
from benchmarks.timing import fastest
from perturbflow.attacks.adversarial_set import AttackJob, attack_to_files
from perturbflow.attacks.gradient_sign import FGSM
from perturbflow.classifiers.building import save_classifier
from perturbflow.files.images import Array, open_images

LAYOUTS: dict[str, dict[str, Any]] = {
    "contiguous": {},
    "an image a chunk": {"chunks": 1},
    "16 images a chunk": {"chunks": 16},
    "an image a chunk, lzf, shuffled": {"chunks": 1, "compression": "lzf", "shuffle": True},
    "an image a chunk, gzip 1, shuffled": {"chunks": 1, "compression": "gzip", "compression_opts": 1, "shuffle": True},
    "an image a chunk, gzip 4, shuffled": {"chunks": 1, "compression": "gzip", "compression_opts": 4, "shuffle": True},
    "16 images a chunk, gzip 4, shuffled": {
        "chunks": 16,
        "compression": "gzip",
        "compression_opts": 4,
        "shuffle": True,
    },
}
RANDOM_BATCH = 32


@dataclass(frozen=True)
class Size:
    """n_attacked: images of an attack with and without a file. n_stored: of the layouts, float32."""

    n_attacked: int
    n_stored: int
    rounds: int


SIZES = {"cpu": Size(256, 2048, 6), "cuda": Size(20_000, 2048, 5)}


def run(device: torch.device) -> list[Result]:
    size = SIZES[device.type]
    return [*_attack(device, size), *_layouts(size)]


def _attack(device: torch.device, size: Size) -> list[Result]:
    """FGSM that runs to its limit: of all attacks the one that writes most for what it computes."""
    network = classifier("resnet18", device)
    attack = FGSM(step=0.255, max_steps=1, early_stop=False, batch_size=64)
    pictures = photographs(size.n_attacked)
    images = on_device(pictures, device)
    labels = predicted(network, images)
    with tempfile.TemporaryDirectory() as folder:
        data, checkpoint = f"{folder}/train.h5", f"{folder}/checkpoint.pt"
        write_data(data, pictures, labels.cpu().numpy(), N_CLASSES)
        save_classifier(Path(checkpoint), network, {})
        job = AttackJob({"train": data}, checkpoint, checkpoint, {"train": f"{folder}/set.h5"}, settings={}, seed=0)
        seconds = fastest(
            {
                "file": lambda: attack_to_files(job, attack, {checkpoint: network}, device),
                "plain": lambda: list(attack.stream(network, network, images, labels)),
            },
            size.rounds,
            device,
        )
    rates = {name: size.n_attacked / fastest_seconds for name, fastest_seconds in seconds.items()}
    return [
        Result(
            "files",
            "FGSM of one step, from file to file, digests of inputs included",
            rates["file"],
            "images/s",
            "in memory",
            rates["plain"],
            seconds["file"] / seconds["plain"],
            "<= 1.05",
        )
    ]


def _layouts(size: Size) -> list[Result]:
    """Size and speed of each layout; the page cache is warm, as it is for a file that the job before has written."""
    images = adversaries(photographs(size.n_stored))
    megabytes = images.nbytes / 1e6
    generator = np.random.default_rng(0)
    # Others each time: HDF5 keeps the chunk that it read last.
    ones = itertools.cycle(generator.permutation(size.n_stored).tolist())
    batches = itertools.cycle(
        [np.sort(rows) for rows in generator.permutation(size.n_stored).reshape(-1, RANDOM_BATCH)]
    )
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for layout, options in LAYOUTS.items():
            path = f"{folder}/set.h5"
            writing = _least(partial(_write, path, images, options), size.rounds)
            file_size = Path(path).stat().st_size / 1e6
            # Without HDF5's own cache, in which an image that is asked for again would be found unpacked.
            with h5py.File(path, rdcc_nbytes=0) as file:
                dataset = file["images"]
                reading = _least(partial(dataset.__getitem__, slice(None)), size.rounds)
                one = _least(partial(_read_next, dataset, ones), 10 * size.rounds)
                batch = _least(partial(_read_next, dataset, batches), 10 * size.rounds)
            results += [
                Result("files", f"{layout}: size", file_size, "MB", "as they are", megabytes, file_size / megabytes),
                Result("files", f"{layout}: writing", megabytes / writing, "MB/s"),
                Result("files", f"{layout}: reading", megabytes / reading, "MB/s"),
                Result("files", f"{layout}: one image", 1e3 * one, "ms"),
                Result("files", f"{layout}: {RANDOM_BATCH} images at random", 1e3 * batch, "ms"),
            ]
            if layout == "contiguous":
                stored = open_images(path)
                ours = _least(partial(_read_next, stored, batches), 10 * size.rounds)
                results.append(
                    Result(
                        "files",
                        f"{layout}: {RANDOM_BATCH} images at random by open_images",
                        1e3 * ours,
                        "ms",
                        "h5py",
                        1e3 * batch,
                        ours / batch,
                    )
                )
    return results


def _write(path: str, images: Array, options: dict[str, Any]) -> None:
    with h5py.File(path, "w") as file:
        chunked = {"chunks": (options["chunks"], *images.shape[1:])} if "chunks" in options else {}
        dataset = file.create_dataset("images", images.shape, images.dtype, **{**options, **chunked})
        for start in range(0, len(images), 256):
            dataset[start : start + 256] = images[start : start + 256]


def _read_next(images: Any, rows: Iterator[Any]) -> Array:
    return images[next(rows)]


def _least(function: Callable[[], Any], rounds: int) -> float:
    """Seconds of the fastest call."""
    seconds = []
    for _ in range(rounds):
        started = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - started)
    return min(seconds)
