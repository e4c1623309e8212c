"""Train a denoiser from sets that together are larger than memory: `python -m benchmarks.larger_than_memory FOLDER`.

Writes five sets of TinyImageNet's size, 24.6 GB, into the folder and removes them at the end.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import torch

from benchmarks.denoisers import MIX, train_epoch, unet
from benchmarks.inputs import adversaries, photographs
from benchmarks.results import Result, table
from benchmarks.timing import peak_memory
from perturbflow.files.images import image_writer, open_images
from perturbflow.machine.devices import prepare

BLOCK = 1000


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.larger_than_memory", description=__doc__)
    parser.add_argument("folder", type=Path, help="where there is room for the sets")
    parser.add_argument("--images", type=int, default=100_000, help="of each set, a multiple of 1,000")
    parser.add_argument("--width", type=int, default=16, help="of the U-Net; the paper's is 64")
    arguments = parser.parse_args()
    files = {name: arguments.folder / f"{name}.h5" for name in ("clean", *MIX)}
    try:
        for name, file in files.items():
            write(file, arguments.images, None if name == "clean" else list(files).index(name))
        gigabytes = sum(file.stat().st_size for name, file in files.items() if name != "clean") / 1e9
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
        print(f"five sets, {gigabytes:.1f} GB; memory of the machine, {memory:.1f} GB", flush=True)
        rates = arguments.folder / "seconds.txt"
        small, peak = (peak_memory(train, files, arguments.width, few, rates) for few in (True, False))
        in_memory, stored = (float(line) for line in rates.read_text().split())
        what = f"U-Net of width {arguments.width} at 64 px, an epoch of {gigabytes:.1f} GB"
        against = f"{BLOCK} in memory"
        rate = Result("denoisers", what, stored, "images/s", against, in_memory, in_memory / stored, "<= 1.05")
        memory_needed = Result("denoisers", f"{what}, peak memory", peak, "MiB", against, small, peak / small)
        print(table([rate, memory_needed]))
    finally:
        for file in [*files.values(), arguments.folder / "seconds.txt"]:
            file.unlink(missing_ok=True)


def write(file: Path, n_images: int, seed: int | None) -> None:
    """The same thousand images again and again: what they show is of no importance here."""
    clean = photographs(BLOCK)
    block = clean if seed is None else adversaries(clean, seed=seed)
    with image_writer(file, n_images, block.shape[1:], str(block.dtype), {}) as written:
        for start in range(0, n_images, BLOCK):
            written["images"][start : start + BLOCK] = block


def train(files: dict[str, Path], width: int, few: bool, rates: Path) -> None:
    """An epoch on all images from the files, or on few in memory; its images a second go into the file of rates."""
    device = prepare("cpu", len(os.sched_getaffinity(0)))
    sets = {name: open_images(file) for name, file in files.items()}
    torch.manual_seed(0)
    network = unet(width, device)
    in_memory = {name: images[:BLOCK] for name, images in sets.items()}
    train_epoch(network, in_memory, 32, device, rates.with_suffix(".pt"))  # what only the first batches take
    seconds = []
    for _ in range(5 if few else 1):
        started = time.perf_counter()
        train_epoch(network, in_memory if few else sets, 32, device, rates.with_suffix(".pt"))
        seconds.append(time.perf_counter() - started)
    with rates.open("a", encoding="utf-8") as file:
        print((BLOCK if few else len(sets["clean"])) / min(seconds), file=file)


if __name__ == "__main__":
    main()
