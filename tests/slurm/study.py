"""The small study of tests/workflow, on a cluster."""

import os
import re
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import torch

from tests.slurm.cluster import run, wait_until
from tests.workflow.study import Study, tiny_config

# As a user would, but with less waiting: this cluster answers at once, and its file system shows a file at once.
SNAKEMAKE = [sys.executable, "-m", "snakemake", "--configfile", "config/tiny.yaml"]
ON_SLURM = ["--workflow-profile", "profiles/slurm", "--slurm-init-seconds-before-status-checks", "3"]


def study_with_gpus() -> dict[str, Any]:
    """The small study's config, in which networks ask for a GPU; as there is none, torch computes on the CPU."""
    config = tiny_config()
    config["compute"] |= {"device": "auto", "batch_size": 16}
    return config


class ClusterStudy(Study):
    """A study whose jobs can go through SLURM."""

    def start_on_slurm(self, *arguments: str) -> subprocess.Popen[str]:
        """Start Snakemake, which prints into the file `printed`."""
        # A job without a GPU would be given the variable, and say that it has one.
        environment = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
        with (self.folder / "printed").open("w") as printed:
            return subprocess.Popen(
                [*SNAKEMAKE, *ON_SLURM, *arguments],
                cwd=self.folder,
                env=environment,
                stdout=printed,
                stderr=subprocess.STDOUT,
                text=True,
            )

    def run_on_slurm(self, *arguments: str, seconds: float = 900) -> str:
        """Run Snakemake to its end, which has to be a good one, and give what it printed."""
        return self.finish(self.start_on_slurm(*arguments), seconds)

    def finish(self, snakemake: subprocess.Popen[str], seconds: float = 600) -> str:
        """Wait for the good end of Snakemake, and give what it printed."""
        try:
            return_code = snakemake.wait(seconds)
        finally:
            snakemake.kill()
            snakemake.wait()
        printed = (self.folder / "printed").read_text(encoding="utf-8")
        assert return_code == 0, printed
        return printed

    def copy_to(self, folder: Path) -> "ClusterStudy":
        return ClusterStudy(super().copy_to(folder).folder)

    @property
    def results(self) -> Path:
        return self.folder / "results/tiny"

    def slurm_jobs(self) -> "list[SlurmJob]":
        """All that SLURM was asked to do for this study, in its order."""
        jobs = [
            SlurmJob(line) for line in run("scontrol", "show", "job", "--oneliner").splitlines() if "JobId=" in line
        ]
        return sorted((job for job in jobs if job["WorkDir"] == str(self.folder)), key=lambda job: job.number)

    def ended_slurm_jobs(self) -> "list[SlurmJob]":
        """The same, once all have ended: a job that no Snakemake watches may be the last to do so."""
        wait_until(lambda: all(job.has_ended for job in self.slurm_jobs()), 120, "SLURM's jobs have not ended")
        return self.slurm_jobs()


@dataclass(frozen=True)
class SlurmJob:
    """A job as `scontrol show job` describes it: `job["JobState"]`."""

    line: str

    def __getitem__(self, key: str) -> str:
        found = re.search(rf"(?:^|\s){re.escape(key)}=(\S*)", self.line)
        return found[1] if found else ""

    @property
    def number(self) -> int:
        return int(self["JobId"])

    @property
    def has_ended(self) -> bool:
        return self["JobState"] not in ("PENDING", "CONFIGURING", "RUNNING", "SUSPENDED", "COMPLETING")

    @property
    def rule(self) -> str:
        """The name that the plugin gave it, without its wildcards: rule_<rule>_wildcards_<wildcards>."""
        return self["Comment"].removeprefix("rule_").split("_wildcards_")[0]


def text_of(log: Path) -> str:
    """What is in a log; nothing while there is none, as in the moment in which a job replaces another's."""
    try:
        return log.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""


def rules(jobs: Counter[str]) -> Counter[str]:
    """How many jobs each rule had, from their names with wildcards."""
    counted: Counter[str] = Counter()
    for name, number in jobs.items():
        counted[name.split(" ")[0]] += number
    return counted


def assert_same_results(found: Path, expected: Path) -> None:
    """Every file of two folders of results holds the same, bit for bit, but for the logs and the seconds it took."""
    files = [
        {path.relative_to(folder) for path in folder.rglob("*") if path.is_file() and "logs" not in path.parts}
        for folder in (found, expected)
    ]
    assert files[0] == files[1]
    assert files[0]
    for file in sorted(files[0]):
        assert_same_file(found / file, expected / file)


def assert_same_file(found: Path, expected: Path) -> None:
    if found.suffix == ".h5":
        with h5py.File(found) as one, h5py.File(expected) as other:
            assert _attributes(one) == _attributes(other), found
            assert set(one) == set(other), found
            for name in one:
                assert one[name].dtype == other[name].dtype, (found, name)
                np.testing.assert_array_equal(one[name][:], other[name][:], f"{found}: {name}")
    elif found.suffix == ".pt":
        _assert_same_state(torch.load(found, weights_only=True), torch.load(expected, weights_only=True), str(found))
    elif found.name == "history.csv":
        one, other = (pd.read_csv(path, dtype=str).drop(columns="seconds") for path in (found, expected))
        pd.testing.assert_frame_equal(one, other)
    else:
        assert found.read_bytes() == expected.read_bytes(), found


def _attributes(file: h5py.File) -> dict[str, str]:
    return {name: str(value) for name, value in file.attrs.items()}


def _assert_same_state(found: Any, expected: Any, where: str) -> None:
    assert type(found) is type(expected), where
    if isinstance(found, dict):
        assert list(found) == list(expected), where
        for key in found:
            _assert_same_state(found[key], expected[key], f"{where}, {key}")
    elif isinstance(found, torch.Tensor):
        torch.testing.assert_close(found, expected, rtol=0, atol=0, equal_nan=True, msg=lambda text: f"{where}: {text}")
    else:
        assert found == expected, where
