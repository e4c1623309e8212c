"""Training against the same steps on random tensors and against torchvision's way, and what each means to it."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from benchmarks.inputs import N_CLASSES, classifier, on_device, photographs
from benchmarks.results import Result
from benchmarks.timing import fastest, wait_for
from perturbflow.classifiers.training import train_classifier
from perturbflow.machine.devices import mixed_precision, select_precision
from perturbflow.training import Resumable

SETTINGS: dict[str, Any] = {
    "learning_rate": 1e-5,
    "weight_decay": 1e-5,
    "schedule": "constant",
    "max_epochs": 1,
    "target_train_accuracy": 2.0,  # never reached: the pass that measures it is not a step
    "crop_scale": [0.85, 1.0],
    "flip_probability": 0.5,
    "precision": "auto",
}


@dataclass(frozen=True)
class Size:
    """A training of ResNet-18 of so many batches, and the seeds with which accuracy on digits is compared."""

    batch: int
    n_batches: int
    rounds: int
    seeds: range = field(default=range(8))


SIZES = {"cpu": Size(32, 8, 3), "cuda": Size(64, 400, 3)}


def run(device: torch.device) -> list[Result]:
    size = SIZES[device.type]
    return [*_whole_epochs(device, size), *_ways(device, size), *_accuracy(device, size)]


def bare_steps(
    network: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], precision: torch.dtype, forward: Any = None
) -> None:
    """A step of Adam on each batch and nothing else."""
    forward = network.train() if forward is None else forward
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-5, weight_decay=1e-5, fused=True)
    for pixels, labels in batches:
        with mixed_precision(precision, pixels.device):
            logits = forward(pixels)
        loss = F.cross_entropy(logits.float(), labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()


def random_batches(device: torch.device, size: Size) -> list[tuple[Tensor, Tensor]]:
    """One batch of random pixels, channels last, as often as there are batches."""
    pixels = torch.rand(size.batch, 3, 64, 64, device=device).mul(255).contiguous(memory_format=torch.channels_last)
    return [(pixels, torch.randint(N_CLASSES, (size.batch,), device=device))] * size.n_batches


def _whole_epochs(device: torch.device, size: Size) -> list[Result]:
    network = classifier("resnet18", device, frozen=False)
    n_images = size.batch * size.n_batches
    pictures = photographs(n_images)
    images, labels = on_device(pictures, device), torch.randint(N_CLASSES, (n_images,), device=device)
    batches = random_batches(device, size)
    precision = select_precision("auto", device)
    with tempfile.TemporaryDirectory() as folder:
        loader = _torchvision_way(Path(folder) / "images", pictures, size)

        def ours() -> None:
            path = Path(folder) / "resume.pt"
            train_classifier(network, images, labels, {**SETTINGS, "batch_size": size.batch}, 0, Resumable(path, ""))
            path.unlink()

        def usual() -> None:
            loaded = ((pixels.to(device), expected.to(device)) for pixels, expected in loader)
            bare_steps(network, loaded, precision)

        seconds = fastest(
            {"ours": ours, "bare": lambda: bare_steps(network, batches, precision), "torchvision": usual},
            size.rounds,
            device,
        )
    rate = {name: n_images / fastest_seconds for name, fastest_seconds in seconds.items()}
    what = f"ResNet-18 at 128 px, an epoch of {size.n_batches} batches of {size.batch}, saved, in {_name(precision)}"
    return [
        Result("training", what, rate["ours"], "images/s", against, rate[name], seconds["ours"] / seconds[name], bound)
        for name, against, bound in (
            ("bare", "the same steps on random tensors", "<= 1.05"),
            ("torchvision", f"the same steps from ImageFolder, {os.cpu_count()} workers", ""),
        )
    ]


def _torchvision_way(folder: Path, pictures: Any, size: Size) -> DataLoader[Any]:
    """JPEG files with the same augmentation, image by image, from worker processes."""
    for number, picture in enumerate(pictures):
        path = folder / str(number % 10) / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(path)
    augmentation = v2.Compose(
        [
            v2.RandomResizedCrop(64, scale=(0.85, 1.0), ratio=(1.0, 1.0)),
            v2.RandomHorizontalFlip(0.5),
            v2.PILToTensor(),
            v2.ToDtype(torch.float32),
        ]
    )
    dataset = ImageFolder(str(folder), augmentation)
    return DataLoader(dataset, size.batch, shuffle=True, num_workers=os.cpu_count() or 1, drop_last=True)


def _ways(device: torch.device, size: Size) -> list[Result]:
    """What the order of memory, the number format and torch.compile give, each against the step without it."""
    auto = select_precision("auto", device)
    batches = random_batches(device, size)
    rows = [(pixels.contiguous(), labels) for pixels, labels in batches]
    ways: dict[str, Callable[[], Any]] = {}
    for name, form, given, precision in (
        ("float32", torch.contiguous_format, rows, torch.float32),
        ("float32, channels last", torch.channels_last, batches, torch.float32),
        (f"{_name(auto)}, channels last", torch.channels_last, batches, auto),
    ):
        network = classifier("resnet18", device, frozen=False).to(memory_format=form)
        ways[name] = partial(bare_steps, network, given, precision)
    seconds = fastest(ways, size.rounds, device)
    rate = {name: size.batch * size.n_batches / fastest_seconds for name, fastest_seconds in seconds.items()}
    results = [
        Result(
            "training",
            f"steps in {name}",
            rate[name],
            "images/s",
            f"in {before}",
            rate[before],
            rate[name] / rate[before],
        )
        for before, name in zip(list(ways), list(ways)[1:], strict=False)
    ]
    return [*results, *compiled_network(device, size, batches, auto)]


def compiled_network(
    device: torch.device, size: Size, batches: list[tuple[Tensor, Tensor]], precision: torch.dtype
) -> list[Result]:
    network = classifier("resnet18", device, frozen=False).train()
    forward = torch.compile(network, options={"fallback_random": True})
    started = time.perf_counter()
    bare_steps(network, batches[:1], precision, forward)
    wait_for(device)
    first = time.perf_counter() - started
    seconds = fastest(
        {
            "compiled": lambda: bare_steps(network, batches, precision, forward),
            "plain": lambda: bare_steps(network, batches, precision),
        },
        size.rounds,
        device,
    )
    gain = (seconds["plain"] - seconds["compiled"]) / size.n_batches
    n_images = size.batch * size.n_batches
    rates = n_images / seconds["compiled"], n_images / seconds["plain"]
    results = [
        Result("training", "steps by torch.compile", rates[0], "images/s", "without", rates[1], rates[0] / rates[1]),
        Result("training", "first step by torch.compile", first, "s"),
    ]
    if gain > 0:
        minutes = first / gain * seconds["compiled"] / size.n_batches / 60
        results.append(Result("training", "training after which torch.compile has paid back", minutes, "min"))
    return results


def _accuracy(device: torch.device, size: Size) -> list[Result]:
    """Accuracy after a fixed number of steps on digits, in the fast way and in plain float32, over some seeds."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.images))
    pictures = np.repeat((digits.images[order] * 15.9375).astype(np.uint8)[..., None], 3, axis=-1)
    pixels = F.interpolate(on_device(pictures, device).float(), (32, 32), mode="bilinear")
    labels = torch.from_numpy(digits.target[order]).to(device)
    fast = [_accuracy_of(pixels, labels, seed, "auto", torch.channels_last) for seed in size.seeds]
    plain = [_accuracy_of(pixels, labels, seed, "float32", torch.contiguous_format) for seed in size.seeds]
    error = float(np.hypot(np.std(fast, ddof=1), np.std(plain, ddof=1)) / len(size.seeds) ** 0.5)
    difference = abs(float(np.mean(fast) - np.mean(plain)))
    return [
        Result(
            "training",
            f"accuracy on 797 held-out digits, {len(size.seeds)} seeds, {_name(select_precision('auto', device))}, "
            "channels last; ratio: difference in standard errors",
            100 * float(np.mean(fast)),
            "%",
            "plain float32",
            100 * float(np.mean(plain)),
            difference / error if error else 0.0,
            "<= 2.5",
        )
    ]


def _accuracy_of(pixels: Tensor, labels: Tensor, seed: int, precision: str, form: torch.memory_format) -> float:
    network = classifier("resnet18", pixels.device, frozen=False, blocks=[1, 1, 1, 1], width=0.25)
    network.input_size = 32
    torch.manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.reset_parameters()
    network = network.to(memory_format=form)
    settings = {
        **SETTINGS,
        "learning_rate": 3e-3,
        "schedule": "one_cycle",
        "max_epochs": 8,
        "batch_size": 50,
        "precision": precision,
        "flip_probability": 0.0,
    }
    with tempfile.TemporaryDirectory() as folder:
        resumable = Resumable(Path(folder) / "resume.pt", "")
        train_classifier(network, pixels[:1000], labels[:1000], settings, seed, resumable)
    network.eval()
    with torch.no_grad():
        return float((network(pixels[1000:]).argmax(1) == labels[1000:]).float().mean())


def _name(precision: torch.dtype) -> str:
    return str(precision).removeprefix("torch.")
