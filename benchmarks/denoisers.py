"""Training a denoiser from files, and denoising into them, against the same in memory; and the memory of both."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.inputs import write_images
from benchmarks.results import Result
from benchmarks.timing import fastest, peak_memory
from perturbflow.denoisers.denoised_set import denoise, denoise_to_file
from perturbflow.denoisers.networks import build_denoiser
from perturbflow.denoisers.training import train_denoiser
from perturbflow.files.images import open_images
from perturbflow.machine.devices import prepare
from perturbflow.training import Resumable

MIX = {"fgsm_v1": 0.05, "fgsm_v2": 0.30, "ifgsm_v1": 0.05, "ifgsm_v2": 0.30, "mifgsm": 0.30}


@dataclass(frozen=True)
class Size:
    """width: of the U-Net. n_images: of each set, for the time. few and many: for the memory, with a tiny network."""

    width: int
    batch: int
    n_images: int
    rounds: int
    few: int
    many: int


SIZES = {"cpu": Size(64, 32, 96, 4, 1_000, 8_000), "cuda": Size(64, 32, 20_000, 3, 1_000, 8_000)}


def run(device: torch.device) -> list[Result]:
    size = SIZES[device.type]
    with tempfile.TemporaryDirectory() as folder:
        results = _rates(Path(folder), size, device)
    if device.type == "cpu":
        results += _memory(size)
    return results


def unet(width: int, device: torch.device) -> nn.Module:
    """An untrained U-Net."""
    torch.manual_seed(0)
    return build_denoiser("unet", width).to(device).to(memory_format=torch.channels_last)


def train_epoch(network: nn.Module, sets: Mapping[str, Any], batch: int, device: torch.device, path: Path) -> None:
    """One epoch on the sets, the clean images first, with its state saved at `path`."""
    clean, *adversarial = sets.values()
    stage = {"epochs": 1, "learning_rate": 1e-5, "weight_decay": 1e-5, "schedule": "constant"}
    settings = {"mix": MIX, "batch_size": batch, "precision": "auto", "stages": [stage]}
    named = dict(zip(MIX, adversarial, strict=True))
    train_denoiser(network, clean, named, settings, 0, device, Resumable(path, ""))
    path.unlink()


def _rates(folder: Path, size: Size, device: torch.device) -> list[Result]:
    files = write_images(folder, tuple(MIX), size.n_images)
    stored = {name: open_images(file) for name, file in files.items()}
    in_memory = {name: images[:] for name, images in stored.items()}
    network = unet(size.width, device)
    resume, adversarial, output = folder / "resume.pt", str(files["fgsm_v2"]), str(folder / "denoised.h5")

    def only_denoise() -> None:
        network.eval()
        for _ in denoise(network, in_memory["fgsm_v2"], 256, device):
            pass

    def from_file_to_file() -> None:
        denoise_to_file(network.eval(), adversarial, output, 256, device, {})

    seconds = fastest(
        {
            "training": partial(train_epoch, network, stored, size.batch, device, resume),
            "training in memory": partial(train_epoch, network, in_memory, size.batch, device, resume),
            "denoising": from_file_to_file,
            "denoising in memory": only_denoise,
        },
        size.rounds,
        device,
    )
    return [
        Result(
            "denoisers",
            f"U-Net of width {size.width} at 64 px, {what}",
            size.n_images / seconds[what.split()[0]],
            "images/s",
            "in memory",
            size.n_images / seconds[f"{what.split()[0]} in memory"],
            seconds[what.split()[0]] / seconds[f"{what.split()[0]} in memory"],
            "<= 1.05",
        )
        for what in ("training from five sets' files", "denoising from file to file")
    ]


def _memory(size: Size) -> list[Result]:
    peaks: dict[str, dict[int, float]] = {"training": {}, "denoising": {}}
    for n_images in (size.few, size.many):
        with tempfile.TemporaryDirectory() as folder:
            files = write_images(Path(folder), tuple(MIX), n_images)
            peaks["training"][n_images] = peak_memory(train_from_files, files, Path(folder) / "resume.pt")
            peaks["denoising"][n_images] = peak_memory(denoise_file, str(files["fgsm_v2"]), f"{folder}/denoised.h5")
    gigabytes = size.many * len(MIX) * 64 * 64 * 3 * 4 / 1e9
    return [
        Result(
            "denoisers",
            f"peak memory of {what} with {size.many} images a set, {gigabytes:.1f} GB in all",
            peak_by_size[size.many],
            "MiB",
            f"with {size.few}",
            peak_by_size[size.few],
            peak_by_size[size.many] / peak_by_size[size.few],
            "<= 1.05",
        )
        for what, peak_by_size in peaks.items()
    ]


def train_from_files(files: Mapping[str, Path], resume: Path) -> None:
    """An epoch with a network so small that thousands of images take seconds."""
    device = prepare("cpu", 2)
    train_epoch(unet(2, device), {name: open_images(file) for name, file in files.items()}, 32, device, resume)


def denoise_file(adversarial: str, output: str) -> None:
    """Denoise a set with a network as small."""
    device = prepare("cpu", 2)
    denoise_to_file(unet(2, device).eval(), adversarial, output, 256, device, {})
