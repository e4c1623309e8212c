"""Training of classifiers and denoisers, resumable at every epoch with the result of an undisturbed run."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from perturbflow.classifiers.accuracy import top1, top1_of_array
from perturbflow.files.images import Array, Images, Selected
from perturbflow.files.whole import whole_file
from perturbflow.machine.batches import pixels_of, ready_for
from perturbflow.machine.devices import mixed_precision, select_precision
from perturbflow.machine.prefetch import ahead, behind
from perturbflow.machine.processes import ALONE, Processes

logger = logging.getLogger(__name__)

# The clean training accuracy costs a pass over the data: it is measured once the running accuracy, which is on
# augmented images and lags behind, comes this close to the target.
CLOSE_TO_TARGET = 0.05

Row = dict[str, float]

CLASSIFIER_HISTORY = (
    "stage",
    "epoch",
    "learning_rate",
    "train_loss",
    "train_accuracy",
    "clean_train_accuracy",
    "seconds",
)
DENOISER_HISTORY = ("stage", "epoch", "learning_rate", "train_loss", "train_mse_px2", "seconds")
"""Columns of the histories, which a training of no epoch has as well."""


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


class Resumable:
    """The state of a training on disk, written whole after each epoch.

    fingerprint: a text of all that the training depends on. A file with another one is not resumed but replaced.
    """

    def __init__(self, path: Path, fingerprint: str) -> None:
        self.path = path
        self.fingerprint = fingerprint

    def load(self) -> dict[str, Any] | None:
        """The saved state, or nothing where there is none of this training."""
        if not self.path.exists():
            return None
        try:
            state: Any = torch.load(self.path, map_location="cpu", weights_only=True)
        except Exception as error:  # of many kinds, depending on where the file is damaged
            logger.warning("%s cannot be read (%s); the training starts again.", self.path, type(error).__name__)
            return None
        if not isinstance(state, dict) or state.get("fingerprint") != self.fingerprint:
            logger.warning("%s is of a training with other settings or data; it starts again.", self.path)
            return None
        logger.info("resumed from %s after epoch %d", self.path, state["epoch"])
        return state

    def save(self, **state: Any) -> None:
        """Write the state, replacing that of the epoch before."""
        with whole_file(self.path) as temporary:
            torch.save({**state, "fingerprint": self.fingerprint}, temporary)

    @contextmanager
    def saving(self) -> Iterator[Callable[..., None]]:
        """Give a function like `save` that returns as soon as it has copied the state.

        A thread writes it while the next epoch is trained. The block ends when all is written.
        """
        with behind(lambda state: self.save(**state), depth=1) as write_behind:
            yield lambda **state: write_behind(_on_host(state))

    def discard(self) -> None:
        """Remove the file; the training's results are safe elsewhere."""
        self.path.unlink(missing_ok=True)


def _on_host(state: Any) -> Any:
    """A copy of nested dicts and lists with all tensors on the CPU."""
    if isinstance(state, Tensor):
        return state.detach().to("cpu", copy=True)
    if isinstance(state, dict):
        return {key: _on_host(value) for key, value in state.items()}
    return [_on_host(value) for value in state] if isinstance(state, list) else state


class _Steps:
    """The optimizer of a stage: Adam with L2 regularisation, as the paper trains everything."""

    def __init__(self, model: nn.Module, stage: Mapping[str, Any], n_steps: int) -> None:
        self.optimizer = torch.optim.Adam(
            model.parameters(), lr=stage["learning_rate"], weight_decay=stage["weight_decay"], fused=True
        )
        self.schedule: torch.optim.lr_scheduler.LRScheduler = (
            torch.optim.lr_scheduler.OneCycleLR(
                self.optimizer, stage["learning_rate"], total_steps=n_steps, cycle_momentum=False
            )
            if stage["schedule"] == "one_cycle"
            else torch.optim.lr_scheduler.ConstantLR(self.optimizer, factor=1.0)
        )

    @property
    def learning_rate(self) -> float:
        """Of the next step."""
        return float(self.schedule.get_last_lr()[0])

    def down(self, loss: Tensor) -> None:
        """One step down the gradient of the loss."""
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        self.schedule.step()

    def state_dict(self) -> dict[str, Any]:
        return {"optimizer": self.optimizer.state_dict(), "schedule": self.schedule.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])


def _train_in_stages(
    model: nn.Module,
    stages: Sequence[Mapping[str, Any]],
    n_batches: int,
    run_epoch: Callable[[torch.Generator, _Steps], Row],
    is_enough: Callable[[Row], bool],
    seed: int,
    resumable: Resumable,
    after_epoch: Callable[[list[Row]], None],
    processes: Processes,
) -> list[Row]:
    """Run the epochs of each stage with an optimizer of its own, from where the saved state stands.

    run_epoch trains one epoch and says what it measured, the same in all processes; the first of them saves the state,
    which does not tell how many they were. Returns the history, a row an epoch.
    """
    saved = resumable.load()
    history: list[Row] = saved["history"] if saved else []
    if saved:
        model.load_state_dict(saved["model"])
    n_done_before = 0
    with resumable.saving() as save:
        for number, stage in enumerate(stages, start=1):
            if not stage["epochs"]:
                continue
            n_done_after = n_done_before + stage["epochs"]
            steps = _Steps(model, stage, n_batches * stage["epochs"])
            if saved and n_done_before < len(history) < n_done_after:
                steps.load_state_dict(saved["steps"])
            while len(history) < n_done_after and not (history and is_enough(history[-1])):
                started = time.monotonic()
                learning_rate = steps.learning_rate
                model.train()
                measured = run_epoch(_epoch_generator(seed, len(history), processes), steps)
                history.append(
                    {
                        "stage": number,
                        "epoch": len(history) + 1,
                        "learning_rate": learning_rate,
                        **measured,
                        "seconds": time.monotonic() - started,
                    }
                )
                if processes.is_first:
                    save(model=model.state_dict(), steps=steps.state_dict(), epoch=len(history), history=history)
                    after_epoch(history)
            n_done_before = n_done_after
    return history


def _epoch_generator(seed: int, epoch: int, processes: Processes = ALONE) -> torch.Generator:
    """The random numbers of an epoch depend on its number alone, so that a resumed run draws the same ones.

    Dropout draws from torch's own generator, which is seeded along, in each process for its share of the batch.
    """

    def seed_of(*numbers: int) -> int:
        return int(np.random.SeedSequence(numbers).generate_state(1)[0])

    torch.manual_seed(seed_of(seed, epoch) if processes.is_first else seed_of(seed, epoch, processes.number))
    return torch.Generator().manual_seed(seed_of(seed, epoch))


def _batches(n_images: int, batch_size: int, generator: torch.Generator) -> tuple[Tensor, ...]:
    """A shuffled epoch in full batches; what is left over is another part of the data in every epoch."""
    order = torch.randperm(n_images, generator=generator)
    return order[: _n_batches(n_images, batch_size) * batch_size].split(batch_size)


def _n_batches(n_images: int, batch_size: int) -> int:
    return max(1, n_images // batch_size)


def _finite(loss: Tensor) -> float:
    """The mean loss of an epoch. Raises FloatingPointError where the training has blown up."""
    value = float(loss)
    if not np.isfinite(value):
        raise FloatingPointError(f"the training loss became {value}; lower learning_rate in the config")
    return value


def _compiled(network: nn.Module) -> nn.Module:
    """The network with its passes by torch.compile, and with the random numbers that dropout draws without it."""
    compiled: Any = torch.compile(network, options={"fallback_random": True})
    return compiled


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
    n_batches = _n_batches(len(images), settings["batch_size"])
    target = settings["target_train_accuracy"]
    stage = {**settings, "epochs": settings["max_epochs"]}
    forward = processes.replicated(_compiled(classifier) if compiled else classifier)

    def run_epoch(generator: torch.Generator, steps: _Steps) -> Row:
        loss_sum = torch.zeros((), device=device)
        n_correct = torch.zeros((), device=device)
        batches = [processes.share(rows) for rows in _batches(len(images), settings["batch_size"], generator)]
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
            "train_loss": _finite(loss_sum / n_batches),
            "train_accuracy": float(n_correct / n_batches),
            "clean_train_accuracy": float("nan"),
        }
        if measured["train_accuracy"] >= target - CLOSE_TO_TARGET:
            measured["clean_train_accuracy"] = accuracy(
                classifier.eval(), images, labels, settings["batch_size"], processes
            )
        return measured

    return _train_in_stages(
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


def accuracy(
    classifier: nn.Module, images: Tensor | Images, labels: Tensor, batch_size: int, processes: Processes = ALONE
) -> float:
    """Top-1 accuracy, 0..1, of which each process measures its share. Images and labels as for `train_classifier`."""
    rows = processes.rows(len(images))
    n_rows = rows.stop - rows.start
    if not n_rows:
        share = 0.0
    elif isinstance(images, Tensor):
        share = top1(classifier, images[rows], labels[rows], batch_size)
    else:
        part = Selected(images, np.arange(rows.start, rows.stop))
        share = top1_of_array(classifier, part, labels[rows].cpu().numpy(), batch_size, labels.device)
    return processes.total(round(share * n_rows), labels.device) / len(images)


def assign_sets(n_images: int, mix: Mapping[str, float], generator: torch.Generator) -> Tensor:
    """For each place in a batch the number of the set that its image comes from, in the proportions of `mix`.

    The proportions are met in every batch up to one image, and exactly in the mean: the places are cut at
    offset + cumulative share, with a random offset, and shuffled. int64 (n_images,).
    """
    shares = torch.tensor(list(mix.values()), dtype=torch.float64).cumsum(0)
    places = torch.arange(n_images, dtype=torch.float64)
    offset = torch.rand(1, generator=generator, dtype=torch.float64)
    numbers = torch.searchsorted(shares / shares[-1], (places + offset) / n_images, right=True)
    return numbers.clamp_(max=len(mix) - 1)[torch.randperm(n_images, generator=generator)]


def _mixed_batches(
    n_images: int, batch_size: int, mix: Mapping[str, float], generator: torch.Generator, processes: Processes
) -> Iterator[tuple[Array, Array]]:
    """The rows of this process's share of each batch of an epoch, and the number of the set that each comes from."""
    for rows in _batches(n_images, batch_size, generator):
        yield processes.share(rows).numpy(), processes.share(assign_sets(len(rows), mix, generator)).numpy()


DenoiserLoss = Callable[[Tensor, Tensor], Tensor]
"""Loss of a batch from the denoised and the clean pixels, (B, 3, H, W) float32 each, 0..255."""


def train_denoiser(
    denoiser: nn.Module,
    clean: Images,
    adversarial: Mapping[str, Images],
    settings: Mapping[str, Any],
    seed: int,
    device: torch.device,
    resumable: Resumable,
    after_epoch: Callable[[list[Row]], None] = lambda history: None,
    loss_of: DenoiserLoss = F.mse_loss,
    compiled: bool = False,
    processes: Processes = ALONE,
) -> list[Row]:
    """Train as Section 2.3 of the paper: sets mixed in each batch, by default mean squared error against the clean
    image.

    clean: uint8 (N, H, W, 3). adversarial: for each set of `settings["mix"]` float32 (N, H, W, 3), row by row the
    adversary of the same clean image. A thread reads from both what the next batches need. settings: the config of
    the denoiser; its stages follow each other, each with an optimizer of its own. loss_of: a mean over the batch.
    compiled: let torch.compile make the denoiser's passes. processes: as for `train_classifier`. Returns the history, a
    row an epoch: stage, epoch, learning_rate, train_loss (in the loss's own unit), train_mse_px2 (pixels squared) and
    seconds.
    """
    precision = select_precision(settings["precision"], device)
    mix = settings["mix"]
    sets = [adversarial[name] for name in mix]
    forward = processes.replicated(_compiled(denoiser) if compiled else denoiser)
    n_batches = _n_batches(len(clean), settings["batch_size"])

    def load(batch: tuple[Array, Array]) -> tuple[Tensor, Tensor]:
        rows, origin = batch
        attacked = np.empty((len(rows), *clean.shape[1:]), dtype=np.float32)
        for number, images in enumerate(sets):
            attacked[origin == number] = images[rows[origin == number]]
        return ready_for(device, attacked), ready_for(device, clean[rows])

    def run_epoch(generator: torch.Generator, steps: _Steps) -> Row:
        loss_sum = torch.zeros((), device=device)
        squared_error_sum = torch.zeros((), device=device)
        batches = _mixed_batches(len(clean), settings["batch_size"], mix, generator, processes)
        for attacked, originals in ahead(load, batches):
            with mixed_precision(precision, device):
                denoised = forward(pixels_of(attacked, device)).float()
            expected = pixels_of(originals, device)
            loss = loss_of(denoised, expected)
            steps.down(loss)
            loss_sum += loss.detach()
            squared_error_sum += F.mse_loss(denoised.detach(), expected)
        processes.agree_on_buffers(denoiser)
        loss_sum, squared_error_sum = processes.mean(loss_sum, squared_error_sum)
        return {"train_loss": _finite(loss_sum / n_batches), "train_mse_px2": float(squared_error_sum / n_batches)}

    return _train_in_stages(
        denoiser, settings["stages"], n_batches, run_epoch, lambda row: False, seed, resumable, after_epoch, processes
    )
