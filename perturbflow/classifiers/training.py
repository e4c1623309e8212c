"""Training of classifiers (Section 2.2 of the paper)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from perturbflow.classifiers.accuracy import accuracy
from perturbflow.files.images import Images
from perturbflow.machine.batches import ready_for
from perturbflow.machine.devices import mixed_precision, select_precision
from perturbflow.machine.prefetch import ahead
from perturbflow.machine.processes import ALONE, Processes
from perturbflow.training import (
    Resumable,
    Row,
    Steps,
    compiled_network,
    count_batches,
    finite_mean,
    shuffled_batches,
    train_in_stages,
)

# The clean training accuracy costs a pass over the data: it is measured once the running accuracy, which is on
# augmented images and lags behind, comes this close to the target.
CLOSE_TO_TARGET = 0.05

CLASSIFIER_HISTORY = (
    "stage",
    "epoch",
    "learning_rate",
    "train_loss",
    "train_accuracy",
    "clean_train_accuracy",
    "seconds",
)


def augment(
    pixels: Tensor,
    crop_scale: Sequence[float],
    flip_probability: float,
    generator: torch.Generator,
    processes: Processes = ALONE,
) -> Tensor:
    """Random square crop, resized back to the same size, and random horizontal flip, a whole batch at once.

    pixels: (B, C, H, W) of any type, 0..255. crop_scale: range of the crop's share of the image's area (the paper:
    0.85 to 1.0). generator: of the CPU, so that every device draws the same numbers. processes: of several each is
    given its share of the batch, and draws for the whole. Returns float32 (B, C, H, W).
    """
    draws = processes.share(torch.rand(4, len(pixels) * processes.count, generator=generator))
    low, high = crop_scale
    side = (low + (high - low) * draws[0]).sqrt()
    flip = torch.where(draws[1] < flip_probability, -1.0, 1.0)
    theta = torch.zeros(len(pixels), 2, 3)
    theta[:, 0, 0] = side * flip
    theta[:, 1, 1] = side
    theta[:, :, 2] = (1 - side)[:, None] * (2 * draws[2:4].T - 1)
    grid = F.affine_grid(
        theta.to(pixels.device), [len(pixels), pixels.shape[1], *pixels.shape[2:]], align_corners=False
    )
    return F.grid_sample(pixels.float(), grid, mode="bilinear", padding_mode="border", align_corners=False)


def train_classifier(
    classifier: nn.Module,
    images: Tensor | Images,
    labels: Tensor,
    settings: Mapping[str, Any],
    seed: int,
    resumable: Resumable,
    after_epoch: Callable[[list[Row]], None] = lambda history: None,
    compiled: bool = False,
    processes: Processes = ALONE,
) -> list[Row]:
    """Train as Section 2.2 of the paper, until the clean training accuracy or the number of epochs is reached.

    images: uint8 (N, 3, H, W) on the device of the classifier, or (N, H, W, 3) elsewhere, of which a thread reads what
    the next batches need. labels: int64 (N,), on the device of the classifier. settings: the config's `training`.
    after_epoch is called with the history so far. compiled: let torch.compile make the passes. processes: those that
    train together, all called with the same arguments; each takes its share of every batch.
    Returns the history, a row an epoch: stage (1), epoch, learning_rate, train_loss, train_accuracy (running, on the
    augmented images), clean_train_accuracy (NaN where it was not measured) and seconds.
    """
    device = labels.device
    precision = select_precision(settings["precision"], device)
    n_batches = count_batches(len(images), settings["batch_size"])
    target = settings["target_train_accuracy"]
    stage = {**settings, "epochs": settings["max_epochs"]}
    forward = processes.replicated(compiled_network(classifier) if compiled else classifier)

    def run_epoch(generator: torch.Generator, steps: Steps) -> Row:
        loss_sum = torch.zeros((), device=device)
        n_correct = torch.zeros((), device=device)
        batches = [processes.share(rows) for rows in shuffled_batches(len(images), settings["batch_size"], generator)]
        for unchanged, expected in _in_turn(images, labels, batches):
            pixels = augment(unchanged, settings["crop_scale"], settings["flip_probability"], generator, processes)
            with mixed_precision(precision, device):
                logits = forward(pixels)
            loss = F.cross_entropy(logits.float(), expected)
            steps.down(loss)
            loss_sum += loss.detach()
            n_correct += (logits.detach().argmax(1) == expected).float().mean()
        processes.agree_on_buffers(classifier)
        loss_sum, n_correct = processes.mean(loss_sum, n_correct)
        measured = {
            "train_loss": finite_mean(loss_sum / n_batches),
            "train_accuracy": float(n_correct / n_batches),
            "clean_train_accuracy": float("nan"),
        }
        if measured["train_accuracy"] >= target - CLOSE_TO_TARGET:
            measured["clean_train_accuracy"] = accuracy(
                classifier.eval(), images, labels, settings["batch_size"], processes
            )
        return measured

    return train_in_stages(
        classifier,
        [stage],
        n_batches,
        run_epoch,
        lambda row: row["clean_train_accuracy"] >= target,
        seed,
        resumable,
        after_epoch,
        processes,
    )


def _in_turn(images: Tensor | Images, labels: Tensor, batches: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
    """uint8 (B, 3, H, W) and int64 (B,) of the rows of each batch, on the device of the labels."""
    if isinstance(images, Tensor):
        for rows in batches:
            rows = rows.to(labels.device)
            yield images[rows], labels[rows]
        return
    stored: Images = images
    device = labels.device

    def load(rows: Tensor) -> tuple[Tensor, Tensor]:
        return rows, ready_for(device, stored[rows.numpy()])

    for rows, batch in ahead(load, batches):
        yield batch.to(device, non_blocking=True).permute(0, 3, 1, 2), labels[rows.to(device)]
