"""What the Snakefile makes of a config, seen in dry runs."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

pytestmark = pytest.mark.workflow


def dry_run(repository: Path, folder: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """`snakemake --dry-run` in `folder`, so that nothing of this run is left in the repository."""
    command = [sys.executable, "-m", "snakemake", "--snakefile", repository / "Snakefile", "--directory", folder]
    return subprocess.run(
        [*command, "--cores", "1", "--dry-run", *arguments],
        cwd=repository,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def outputs(run: subprocess.CompletedProcess[str]) -> list[str]:
    """All outputs that a dry run would make."""
    lines = re.findall(r"^ +output: (.*)$", run.stdout, re.MULTILINE)
    return [output for line in lines for output in line.split(", ")]


def test_the_default_is_the_papers_study(repository: Path, tmp_path: Path) -> None:
    run = dry_run(repository, tmp_path)

    assert run.returncode == 0, run.stdout
    assert "profiles/default for setting" in run.stdout
    for wanted in (
        "tables/table1.csv",
        "tables/table5.md",
        "tables/table7.csv",
        "tables/claims.md",
        "figures/figure2.svg",
        "figures/figure6.png",
        "figures/geometry/vgg19.svg",
        "figures/interventions/densenet201_conv.png",
        "distances/vgg19/fgsm_v2.csv",
    ):
        assert f"results/tiny-imagenet/{wanted}" in outputs(run)


def test_a_config_file_replaces_the_papers_study(repository: Path, tmp_path: Path) -> None:
    config = tmp_path / "mine.yaml"
    study = yaml.safe_load((repository / "config/demo.yaml").read_text(encoding="utf-8"))
    study["run"] = "mine"
    study["measure"]["metrics"].remove("angle")
    config.write_text(yaml.safe_dump(study, sort_keys=False), encoding="utf-8")

    run = dry_run(repository, tmp_path, "--configfile", config, "--config", "seed=7")

    assert run.returncode == 0, run.stdout
    assert outputs(run)
    assert all(output.startswith("results/mine/") for output in outputs(run))
    assert not any("adaptive" in output for output in outputs(run))  # which the paper's config has
    # The figure shows the angle at every layer; the table is of the logits alone.
    assert not any("geometry" in output for output in outputs(run))
    assert "results/mine/tables/decision_planes.csv" in outputs(run)


def test_mistakes_are_told_without_a_traceback(repository: Path, tmp_path: Path) -> None:
    run = dry_run(repository, tmp_path, "--config", "sead=1", "seed=-1")

    assert run.returncode == 1
    assert "config.yaml: sead: unknown key; did you mean 'seed'?\n" in run.stdout
    assert "config.yaml: seed: must be at least 0, got -1\n" in run.stdout
    assert "Traceback" not in run.stdout


def test_one_file_may_be_asked_for_and_a_single_key_changed(repository: Path, tmp_path: Path) -> None:
    wanted = "results/other/distances/vgg19/fgsm_v2.csv"
    run = dry_run(repository, tmp_path, wanted, "--config", "run=other")

    assert run.returncode == 0, run.stdout
    assert wanted in outputs(run)
    assert not any("densenet201" in output for output in outputs(run))


def test_a_file_of_an_unknown_classifier_is_refused(repository: Path, tmp_path: Path) -> None:
    run = dry_run(repository, tmp_path, "results/tiny-imagenet/distances/vgg91/fgsm_v2.csv")

    assert run.returncode == 1
    assert "No rule to produce results/tiny-imagenet/distances/vgg91/fgsm_v2.csv" in run.stdout
