"""What the workflow costs beside computing: dry runs, the scripts' start-up and imports, and its part of the demo."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

from benchmarks.results import Result

ROOT = Path(__file__).resolve().parents[1]
ROUNDS = 3
# The last line of a job's log, see perturbflow/machine/job.py.
CPU_SECONDS = re.compile(r"CPU seconds: ([\d.]+) in all, ([\d.]+) of start-up and imports; .*\n\Z")


@dataclass(frozen=True)
class Run:
    """A process that ended: seconds that passed, and CPU seconds of it and of all processes below it."""

    seconds: float
    cpu_seconds: float


def run(device: torch.device) -> list[Result]:
    """The demo and its configuration stay on the CPU, whatever the device."""
    with tempfile.TemporaryDirectory() as folder:
        return [*dry_runs(Path(folder)), *imports(), *demo(Path(folder))]


def dry_runs(folder: Path) -> list[Result]:
    """`snakemake -n`: Snakemake's start, the config and its checks, the digests of the code, and the graph of jobs."""
    large = folder / "large.yaml"
    large.write_text(yaml.safe_dump(large_study(20, 20, 4), sort_keys=False), encoding="utf-8")
    results = []
    for study, config, limit in (
        ("the paper's study", ROOT / "config/config.yaml", 5.0),
        ("20 classifiers, 20 sets, 4 denoisers", large, 20.0),
    ):
        runs = [execute(snakemake(folder, config, "--dry-run")) for _ in range(ROUNDS)]
        seconds = min(run.seconds for run in runs)
        what = f"snakemake -n, {study}"
        results.append(Result("workflow", what, seconds, "s", "limit", limit, seconds / limit, "<= 1"))
    return results


def large_study(n_classifiers: int, n_sets: int, n_denoisers: int) -> dict[str, Any]:
    """The paper's study with more of everything; all classifiers are measured, on all sets, behind all denoisers."""
    study: dict[str, Any] = yaml.safe_load((ROOT / "config/config.yaml").read_text(encoding="utf-8"))
    for kind, n in (("classifiers", n_classifiers), ("adversarial_sets", n_sets), ("denoisers", n_denoisers)):
        originals = list(study[kind].values())
        copies = {f"more_{number}": originals[number % len(originals)] for number in range(n - len(originals))}
        study[kind] |= copies
        assert len(study[kind]) == n
    study["measure"]["classifiers"] = list(study["classifiers"])
    return study


def imports() -> list[Result]:
    """CPU seconds of each script before its `main`."""
    results = []
    for script in sorted((ROOT / "workflow/scripts").glob("*.py")):
        command = [sys.executable, "-c", import_statements(script)]
        seconds = min(execute(command).cpu_seconds for _ in range(ROUNDS))
        results.append(Result("workflow", f"start-up and imports, {script.name}", seconds, "CPU s"))
    return results


def import_statements(script: Path) -> str:
    """The import statements of a file, without all else."""
    body = ast.parse(script.read_text(encoding="utf-8")).body
    return "\n".join(ast.unparse(node) for node in body if isinstance(node, ast.Import | ast.ImportFrom))


def demo(folder: Path) -> list[Result]:
    """Run the demo and add up what its jobs' logs say; what they do not say is Snakemake's and the shells'."""
    whole = execute(snakemake(folder, ROOT / "config/demo.yaml"))
    jobs = [cpu_seconds(log) for log in sorted((folder / "results/demo/logs").rglob("*.log"))]
    in_jobs, import_seconds = map(sum, zip(*jobs, strict=True))
    snakemake_seconds = whole.cpu_seconds - in_jobs
    share = (import_seconds + snakemake_seconds) / whole.cpu_seconds

    def part(what: str, seconds: float, bound: str = "") -> Result:
        total = whole.cpu_seconds
        return Result("workflow", f"demo: {what}", seconds, "CPU s", "the whole demo", total, seconds / total, bound)

    return [
        Result("workflow", f"demo: {len(jobs)} jobs", whole.seconds, "s"),
        part("start-up and imports", import_seconds),
        part("Snakemake and shells", snakemake_seconds),
        part("all but computing", share * whole.cpu_seconds),
    ]


def cpu_seconds(log: Path) -> tuple[float, float]:
    """Of a job: in all, and of start-up and imports. Raises ValueError where its log has none."""
    found = CPU_SECONDS.search(log.read_text(encoding="utf-8"))
    if not found:
        raise ValueError(f"{log} does not end with the job's CPU seconds")
    in_all, import_seconds = map(float, found.groups())
    return in_all, import_seconds


def snakemake(folder: Path, config: Path, *arguments: str) -> list[str]:
    """The command that runs a study in `folder` on all cores."""
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--directory", str(folder)]
    return [*command, "--configfile", str(config), "--cores", "all", *arguments]


def execute(command: Sequence[str]) -> Run:
    """Run a command in the repository. Raises RuntimeError, with what it printed, where it fails."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with tempfile.TemporaryFile("w+") as output:
        started = time.perf_counter()
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT)
        # Not `process.wait()`: this one tells what the process and all below it took.
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.perf_counter() - started
        if process.returncode:
            output.seek(0)
            raise RuntimeError(f"{' '.join(command)} failed:\n{output.read()[-5000:]}")
    return Run(seconds, usage.ru_utime + usage.ru_stime)
