"""What trainings of classifiers and denoisers share: stages, optimizers, states to resume from."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from perturbflow.files.whole import whole_file
from perturbflow.machine.prefetch import behind
from perturbflow.machine.processes import ALONE, Processes

logger = logging.getLogger(__name__)

Row = dict[str, float]


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


class Steps:
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


def train_in_stages(
    model: nn.Module,
    stages: Sequence[Mapping[str, Any]],
    n_batches: int,
    run_epoch: Callable[[torch.Generator, Steps], Row],
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
            steps = Steps(model, stage, n_batches * stage["epochs"])
            if saved and n_done_before < len(history) < n_done_after:
                steps.load_state_dict(saved["steps"])
            while len(history) < n_done_after and not (history and is_enough(history[-1])):
                started = time.monotonic()
                learning_rate = steps.learning_rate
                model.train()
                measured = run_epoch(epoch_generator(seed, len(history), processes), steps)
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


def epoch_generator(seed: int, epoch: int, processes: Processes = ALONE) -> torch.Generator:
    """The random numbers of an epoch depend on its number alone, so that a resumed run draws the same ones.

    Dropout draws from torch's own generator, which is seeded along, in each process for its share of the batch.
    """

    def seed_of(*numbers: int) -> int:
        return int(np.random.SeedSequence(numbers).generate_state(1)[0])

    torch.manual_seed(seed_of(seed, epoch) if processes.is_first else seed_of(seed, epoch, processes.number))
    return torch.Generator().manual_seed(seed_of(seed, epoch))


def shuffled_batches(n_images: int, batch_size: int, generator: torch.Generator) -> tuple[Tensor, ...]:
    """A shuffled epoch in full batches; what is left over is another part of the data in every epoch."""
    order = torch.randperm(n_images, generator=generator)
    return order[: count_batches(n_images, batch_size) * batch_size].split(batch_size)


def count_batches(n_images: int, batch_size: int) -> int:
    """Batches of an epoch of `shuffled_batches`."""
    return max(1, n_images // batch_size)


def finite_mean(loss: Tensor) -> float:
    """The mean loss of an epoch. Raises FloatingPointError where the training has blown up."""
    value = float(loss)
    if not np.isfinite(value):
        raise FloatingPointError(f"the training loss became {value}; lower learning_rate in the config")
    return value


def compiled_network(network: nn.Module) -> nn.Module:
    """The network with its passes by torch.compile, and with the random numbers that dropout draws without it."""
    compiled: Any = torch.compile(network, options={"fallback_random": True})
    return compiled
