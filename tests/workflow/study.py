"""A small study in a folder of its own, to run and to change."""

import copy
import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock

ROOT = Path(__file__).parents[2]
COPIED = ["Snakefile", "config", "envs", "perturbflow", "profiles", "resources", "workflow"]


def tiny_config() -> dict[str, Any]:
    """A study of the smallest size that has every rule but that of guided denoisers, which test_bring_your_own.py has.

    The attacker, one classifier, two sets and a control, one denoiser. That is trained on one of the sets only, so that
    the other can change without it.
    """
    config: dict[str, Any] = copy.deepcopy(yaml.safe_load((ROOT / "config/demo.yaml").read_text(encoding="utf-8")))
    config["run"] = "tiny"
    config["data"] |= {"classes": 2, "images_per_class": {"train": 24, "val": 8}, "image_size": 32}
    config["classifier_defaults"]["input_size"] = 32
    config["classifier_defaults"]["training"] |= {"max_epochs": 2, "batch_size": 8, "precision": "float32"}
    small = {"blocks": [1, 1, 1, 1], "width": 0.125}
    config["classifiers"] = {name: {"architecture": name, "options": small} for name in ("resnet18", "resnetv2_50")}
    config["adversarial_sets"] = {
        "fgsm": {
            "attack": "fgsm",
            "attacker": "resnet18",
            "stopping_classifier": "resnet18",
            "step": 8.0,
            "max_steps": 2,
        },
        "ifgsm": {"attack": "ifgsm", "attacker": "resnet18", "stopping_classifier": None, "step": 8.0, "max_steps": 2},
        "noise": {"attack": "sign_noise", "norm_of": "fgsm"},
    }
    config["denoisers"] = {
        "unet": {
            **config["denoisers"]["unet"],
            "width": 4,
            "batch_size": 8,
            "precision": "float32",
            "mix": {"fgsm": 1.0},
            "stages": [{"epochs": 1, "learning_rate": 1e-3, "weight_decay": 0.0, "schedule": "constant"}],
        }
    }
    config["measure"] |= {"classifiers": ["resnetv2_50"], "images": 16}
    config["interventions"] = {"adversarial_sets": ["fgsm"], "images": 8, "fractions": [1.0]}
    config["tables"] = {"table1": {"classifier": "resnetv2_50", "denoiser": "unet"}}
    config["figures"] = {"figure2": {"metrics": ["normalized_euclidean"]}, "figure3": {"metrics": ["cosine"]}}
    return config


def copy_workflow(folder: Path) -> None:
    """Make a folder with the workflow in it, and no results."""
    folder.mkdir()
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, folder / name)


class Study:
    """A copy of the workflow in a folder of its own, with its config and its results."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.first_run: Counter[str] = Counter()

    def configure(self, config: dict[str, Any]) -> None:
        (self.folder / "config/tiny.yaml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")

    def edit(self, path: str, old: str, new: str) -> None:
        """Replace a text that must occur in a file of the workflow."""
        file = self.folder / path
        text = file.read_text(encoding="utf-8")
        assert old in text, f"{path} has no {old!r}"
        file.write_text(text.replace(old, new, 1), encoding="utf-8")

    def snakemake(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        result = subprocess.run(
            [sys.executable, "-m", "snakemake", "--configfile", "config/tiny.yaml", "--cores", "2", *arguments],
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=900,
        )
        if check:
            assert result.returncode == 0, result.stdout
        return result

    def run(self, *arguments: str) -> Counter[str]:
        """Run and say which jobs ran, as `rule wildcard=value, ...`."""
        return jobs(self.snakemake(*arguments).stdout)

    def stale(self, *arguments: str) -> Counter[str]:
        """The jobs that would run."""
        return jobs(self.snakemake("--dry-run", *arguments).stdout)

    def copy_to(self, folder: Path) -> "Study":
        """A copy in which files have the same times, so that nothing in it is stale."""
        shutil.copytree(self.folder, folder, symlinks=True)
        return Study(folder)


def made_once(name: str, basetemp: Path, make: Callable[[Study], Counter[str]]) -> Study:
    """A study that the first of several test processes to ask for it makes, while the others wait.

    basetemp: the folder for temporary files of this process. make: gives the study its files, and the jobs that ran.
    """
    shared = basetemp.parent if "PYTEST_XDIST_WORKER" in os.environ else basetemp
    study, ran = Study(shared / name), shared / f"{name}.json"
    with FileLock(shared / f"{name}.lock"):
        if not ran.exists():
            shutil.rmtree(study.folder, ignore_errors=True)  # what a process left that failed
            ran.write_text(json.dumps(make(study)), encoding="utf-8")
    study.first_run = Counter(json.loads(ran.read_text(encoding="utf-8")))
    return study


def jobs(output: str) -> Counter[str]:
    """The jobs in what Snakemake printed, but for `all`."""
    found = re.findall(r"^(?:local)?(?:rule|checkpoint) (\w+):\n((?:    .*\n)*)", output, re.MULTILINE)
    named = []
    for rule, block in found:
        wildcards = re.search(r"^    wildcards: (.*)$", block, re.MULTILINE)
        # That of replicate 0 is empty, and is not named.
        named.append(f"{rule} {re.sub(r'replicate=(, |$)', '', wildcards[1])}".strip() if wildcards else rule)
    return Counter(name for name in named if name != "all")
