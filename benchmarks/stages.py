"""The stages that are measured, each by a module of its name with a function `run`."""

from __future__ import annotations

import importlib
import os
from pathlib import Path

from benchmarks.results import save
from perturbflow.machine.devices import prepare

STAGES = ("attack", "distances", "training", "denoisers", "files", "workflow", "growth", "throughput")


def run_stage(stage: str, device: str, threads: int, file: Path) -> None:
    """Run one stage's benchmarks and save their results. Modules of other stages are not imported."""
    os.environ.setdefault("TQDM_DISABLE", "1")  # jobs that are measured would draw their progress into the table
    selected = prepare(device, threads)
    save(importlib.import_module(f"benchmarks.{stage}").run(selected), file)


def n_cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
