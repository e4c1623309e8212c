"""CONTRIBUTING.md's six tasks, all of them done to one copy of the workflow, and a study of what they add."""

import re
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tests.workflow.study import Study, copy_workflow, jobs, tiny_config

pytestmark = pytest.mark.workflow

PAGE = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text(encoding="utf-8")


def blocks(task: str) -> list[str]:
    """The code of a section, in order."""
    section = PAGE.split(f"\n## {task}\n")[1].split("\n## ")[0]
    return re.findall(r"```(?:python|rst)\n(.*?)```", section, re.DOTALL)


def add(study: Study, path: str, block: str, before: str | None = None, after: str | None = None) -> None:
    """Put a block into a file: before or after a text that stands there once, else at the end."""
    file = study.folder / path
    text = file.read_text(encoding="utf-8") if file.exists() else ""
    if mark := before or after:
        assert text.count(mark) == 1, mark
        text = text.replace(mark, f"{block}\n\n{mark}" if before else f"{mark}{block}")
    else:
        text = f"{text}\n\n{block}" if text else block
    file.write_text(text, encoding="utf-8")


def extend(study: Study) -> None:
    """Everything that the page says, and nothing else."""
    vocabulary = "perturbflow/vocabulary.py"
    attack, attack_entry = blocks("An attack")
    add(study, "perturbflow/attacks/gradient_sign.py", attack)
    add(study, vocabulary, attack_entry, after="\nATTACKS = {\n")
    classifier, classifier_entry = blocks("A classifier")
    add(study, "perturbflow/classifiers/architectures.py", classifier)
    add(study, vocabulary, classifier_entry, after="\nCLASSIFIERS = {\n")
    metric, metric_entry = blocks("A metric")
    add(study, "perturbflow/measuring/metrics.py", metric, before="@tap_to_tap\ndef gain")
    add(study, vocabulary, metric_entry, after="\nMETRICS = {\n")
    module, rule, caption = blocks("A table")
    add(study, "perturbflow/tables/worst_sets.py", module)
    add(study, "workflow/rules/tables.smk", rule, before="def module_of(table):")
    add(study, "workflow/report/worst_sets.rst", caption)
    source, source_entry = blocks("A source of images")
    add(study, "perturbflow/data/sources.py", source)
    add(study, vocabulary, source_entry, after="\nSOURCES = {\n")


def flowers(folder: Path) -> None:
    """17 kinds of 80 pictures, as the source of the page has them."""
    for kind in range(17):
        (folder / f"{kind:02}").mkdir(parents=True)
        pixels = np.full((8, 8, 3), 14 * kind, np.uint8)
        for number in range(80):
            pixels[number % 8, number // 10] = 255
            Image.fromarray(pixels).save(folder / f"{kind:02}/{number:02}.png")


def study_of_what_is_new() -> dict[str, Any]:
    config = tiny_config()
    config["data"] |= {"source": "flowers", "path": "flowers", "images_per_class": {"train": 16, "val": 4}}
    wide = {"architecture": "wide_resnet50_2", "options": {"blocks": [1, 1, 1, 1]}, "training": {"max_epochs": 1}}
    config["classifiers"] = {"wide": wide}
    scaled = {"attack": "scale_invariant_fgsm", "attacker": "wide", "stopping_classifier": "wide"}
    config["adversarial_sets"] = {"scaled": {**scaled, "step": 8.0, "max_steps": 2}}
    config["measure"] |= {"classifiers": ["wide"], "images": 8, "metrics": ["normalized_euclidean", "largest_change"]}
    for key in ("interventions", "denoisers", "tables"):
        del config[key]
    config["figures"] = {"largest": {"metrics": ["largest_change"]}}
    return config


def test_what_the_page_adds_is_there(tmp_path: Path) -> None:
    copy_workflow(tmp_path / "perturbflow")
    study = Study(tmp_path / "perturbflow")
    extend(study)
    flowers(study.folder / "flowers")
    study.configure(study_of_what_is_new())
    tables = [f"results/tiny/tables/{name}.md" for name in ("worst_sets", "table2")]
    figure = "results/tiny/figures/largest.svg"
    study.snakemake(*tables, figure)

    results = study.folder / "results/tiny"
    with h5py.File(results / "data/train.h5") as data, h5py.File(results / "adversarial/scaled/train.h5") as scaled:
        assert data["images"].shape == (32, 32, 32, 3)
        assert {name.split("/")[0] for name in data["id"].asstr()} <= {f"{kind:02}" for kind in range(17)}
        assert 0 < abs(scaled["images"][:] - data["images"][:]).max() <= 16 + 1e-4
    distances = pd.read_csv(results / "distances/wide/scaled.csv")
    assert distances["layer"].tolist()[:4] == ["1 conv", "1 bottlenecks", "1 avg pool", "1 FC"]
    assert (distances["largest_change_mean"] > 0).all()
    worst, made = ((study.folder / table).read_text(encoding="utf-8") for table in tables)
    assert "| Worst on" in worst and "| scaled" in worst
    assert "Scale-invariant FGSM" in made
    assert "largest change" in (study.folder / figure).read_text(encoding="utf-8")

    # What a figure shows is its module's affair.
    study.edit("perturbflow/figures/propagation.py", "_FEW_LINES = 16", "_FEW_LINES = 15")
    assert [*jobs(study.snakemake("--dry-run", *tables, figure).stdout)] == ["figure figure=largest"]
