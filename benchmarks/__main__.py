"""Run benchmarks and print their table: `python -m benchmarks [stage ...] [--device auto|cpu|cuda]`."""

from __future__ import annotations

import argparse
import multiprocessing
import platform
from pathlib import Path

import torch

from benchmarks.results import load, record, table
from benchmarks.stages import STAGES, n_cores, run_stage
from perturbflow.machine.devices import prepare

PAGE = Path("docs/performance.md")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("stages", nargs="*", metavar="stage", help=f"of {', '.join(STAGES)}; all where none is named")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--record", action="store_true", help=f"write all that was ever measured here into {PAGE}")
    arguments = parser.parse_args()
    if unknown := set(arguments.stages) - set(STAGES):
        parser.error(f"unknown stage {', '.join(sorted(unknown))}; known: {', '.join(STAGES)}")
    device = prepare(arguments.device, n_cores()).type
    folder = Path("results/benchmarks") / device
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for stage in arguments.stages or STAGES:
        print(f"{stage} ...", flush=True)
        files.append(folder / f"{stage}.json")
        # Of its own process: what one stage leaves in memory, caches and settings does not meet the next.
        process = multiprocessing.get_context("spawn").Process(
            target=run_stage, args=(stage, device, n_cores(), files[-1])
        )
        process.start()
        process.join()
        if process.exitcode:
            raise SystemExit(f"stage {stage} failed; its traceback is above")
    print(f"\n{machine(device)}\n")
    print(table(result for file in files for result in load(file)))
    if arguments.record:
        measured = [file for stage in STAGES if (file := folder / f"{stage}.json").exists()]
        results = table(result for file in measured for result in load(file))
        record(PAGE, device, f"{machine(device)}\n\n{results}")


def machine(device: str) -> str:
    """What it was measured on, in a line."""
    described = torch.cuda.get_device_name() if device == "cuda" else _processor()
    return f"{described}, {n_cores()} cores, Python {platform.python_version()}, torch {torch.__version__}"


def _processor() -> str:
    """The processor's name as Linux gives it, else as Python does."""
    information = Path("/proc/cpuinfo")
    lines = information.read_text(encoding="utf-8").splitlines() if information.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


if __name__ == "__main__":
    main()
