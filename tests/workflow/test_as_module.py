"""The workflow as a module of another one, and run from another folder."""

import copy
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import h5py
import pytest
import yaml

from tests.workflow.study import Study, copy_workflow, jobs, tiny_config
from tests.workflow.test_snakefile import outputs

pytestmark = pytest.mark.workflow

DATA = "results/tiny/data/train.h5"


class OtherProject:
    """A folder with a workflow of its own, and perturbflow below it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.perturbflow = folder / "workflows/perturbflow"
        self.perturbflow.parent.mkdir()
        copy_workflow(self.perturbflow)

    def write(self, snakefile: str, config: dict[str, Any]) -> None:
        """The workflow, with `{module}` in place of the file of perturbflow's, and the config that it names."""
        text = snakefile.replace("{module}", str(self.perturbflow / "Snakefile"))
        (self.folder / "Snakefile").write_text(text, encoding="utf-8")
        (self.folder / "study.yaml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")

    def snakemake(self, *arguments: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "snakemake", *arguments, "--cores", "1"],
            cwd=folder or self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )


@pytest.fixture
def project(tmp_path: Path) -> OtherProject:
    return OtherProject(tmp_path)


WITH_PREFIX = """
configfile: "study.yaml"

before = repr(config)


rule summary:
    input:
        "robustness/results/tiny/tables/table2.md",
        "robustness/results/tiny/figures/figure3.svg",
    output:
        "summary.txt",
    shell:
        "cat {input} > {output}"


module perturbflow:
    snakefile:
        "{module}"
    config:
        config["study"]
    prefix:
        "robustness"


use rule * from perturbflow as perturbflow_*


use rule table2 from perturbflow as perturbflow_table2 with:
    priority: 5


assert repr(config) == before
"""


def test_a_module_with_a_prefix(project: OtherProject, finished_study: Study) -> None:
    """Everything that the study makes lies under the prefix; what it is given does not."""
    config = tiny_config()
    config["compute"] |= {"batch_size": 4, "images_per_shard": 24}
    with_weights = copy.deepcopy(config)
    with_weights["classifiers"]["resnet18"] |= {"weights": "mine.pt", "label": "Mine"}
    shutil.copy2(finished_study.folder / "results/tiny/classifiers/resnet18/checkpoint.pt", project.folder / "mine.pt")
    project.write(WITH_PREFIX, {"study": with_weights, "samples": [1, 2]})

    plan = project.snakemake("--dry-run")
    assert plan.returncode == 0, plan.stdout
    assert {path for path in outputs(plan) if not path.startswith("robustness/results/tiny/")} == {"summary.txt"}
    assert "input: robustness/results/tiny/data/train.h5, robustness/results/tiny/data/val.h5, mine.pt\n" in plan.stdout
    assert "input: workflows/perturbflow/resources/paper/table2.csv" in plan.stdout
    assert jobs(plan.stdout).keys() >= {"summary", "perturbflow_data", "perturbflow_table2"}
    shards = [
        job for job in jobs(plan.stdout) if "perturbflow_adversarial_shard adversarial_set=fgsm, split=train" in job
    ]
    assert len(shards) == 2

    project.write(WITH_PREFIX, {"study": config, "samples": [1, 2]})  # without weights: to look at them takes seconds
    made = project.snakemake(f"robustness/{DATA}")
    assert made.returncode == 0, made.stdout
    assert (project.folder / "robustness/results/tiny/logs/data.log").exists()
    with h5py.File(project.folder / "robustness" / DATA) as data:
        assert data["images"].shape == (48, 32, 32, 3)
    assert not (project.folder / "results").exists()


WITHOUT = """
configfile: "study.yaml"


module perturbflow:
    snakefile:
        "{module}"
    config:
        config


use rule * from perturbflow
"""


def test_what_was_made_from_another_folder_is_up_to_date_under_a_module(project: OtherProject) -> None:
    """A run of one target prints no folder of tables or figures that are not there."""
    elsewhere = project.folder / "elsewhere"
    elsewhere.mkdir()
    project.write(WITHOUT, tiny_config())
    snakefile = str(project.perturbflow / "Snakefile")
    run = project.snakemake(
        "-s", snakefile, DATA, "--directory", str(project.folder), "--configfile", "../study.yaml", folder=elsewhere
    )
    assert run.returncode == 0, run.stdout
    assert jobs(run.stdout) == Counter(["data"])
    assert "Tables:" not in run.stdout and "Figures:" not in run.stdout
    assert [*elsewhere.iterdir()] == []

    again = project.snakemake(DATA)
    assert again.returncode == 0, again.stdout
    assert "Nothing to be done" in again.stdout


def test_a_whole_study_is_up_to_date_under_a_module(study: Study) -> None:
    (study.folder / "other.smk").write_text(
        WITHOUT.replace("study.yaml", "config/tiny.yaml").replace("{module}", "Snakefile"), encoding="utf-8"
    )
    assert study.stale("--snakefile", "other.smk") == Counter()
    shutil.rmtree(study.folder / "results/tiny/tables")
    assert "table1" in study.stale("--snakefile", "other.smk")


LITERAL = """
module robustness:
    snakefile:
        "{module}"
    config:
        {config}


use rule * from robustness
"""


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ('{"run": "x", "sead": 1}', "module robustness: sead: unknown key; did you mean 'seed'?\n"),
        ("{}", "module robustness: there is no config; write `config: config` in the module"),
    ],
)
def test_mistakes_name_the_module(config: str, message: str, project: OtherProject) -> None:
    project.write(LITERAL.replace("{config}", config), {})
    run = project.snakemake("--dry-run")
    assert run.returncode == 1
    assert message in run.stdout
    assert "Traceback" not in run.stdout
