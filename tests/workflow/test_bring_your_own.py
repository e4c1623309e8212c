"""The examples of docs/bring-your-own.md, run as one study."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from perturbflow.planning.config import merge
from tests.workflow.study import Study, tiny_config

pytestmark = pytest.mark.workflow

MEASURED = ["pretrained", "convnext", "resnet26"]
ONLY_MADE = ["mobilenet", "small", "trained"]


def blocks(repository: Path, language: str) -> list[str]:
    page = (repository / "docs/bring-your-own.md").read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL)


def study_of_examples(repository: Path) -> dict[str, Any]:
    """The tiny study with all examples added; lists of classifiers are joined."""
    config = tiny_config()
    measured = list(config["measure"]["classifiers"])
    for block in blocks(repository, "yaml"):
        example = yaml.safe_load(block)
        measured += example.pop("measure", {}).get("classifiers", [])
        config = merge(config, example)
    config["measure"]["classifiers"] = measured
    config["figures"] = {"figure2": {"metrics": ["cosine"], "adversarial_sets": ["pgd"]}}  # all are too many for one
    return config


@pytest.fixture(scope="module")
def study_with_examples(repository: Path, finished_study: Study, tmp_path_factory: pytest.TempPathFactory) -> Study:
    """The study of the examples, of which each has run."""
    study = finished_study.copy_to(tmp_path_factory.mktemp("examples") / "perturbflow")
    for block in blocks(repository, "python"):
        name = re.match(r"# (\w+\.py)\n", block)
        assert name, "each Python example begins with the name of its file"
        (study.folder / name[1]).write_text(block, encoding="utf-8")
    specification = importlib.util.spec_from_file_location("my_networks", study.folder / "my_networks.py")
    assert specification and specification.loader
    networks = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(networks)
    torch.manual_seed(0)
    for name, n_classes in {"my_weights": 2, "my_five_classes": 5}.items():
        torch.save(networks.SmallNet(n_classes, width=8).state_dict(), study.folder / f"{name}.pth")
    study.configure(study_of_examples(repository))
    sets = ["deepfool", "pgd_sign", "pgd_gaussian", "ifgsm_adaptive", "ifgsm_png"]
    study.snakemake(
        *(f"results/tiny/distances/{name}/pgd.csv" for name in MEASURED),
        *(f"results/tiny/classifiers/{name}/accuracy.csv" for name in ONLY_MADE),
        *(f"results/tiny/adversarial/{name}/val.h5" for name in sets),
    )
    return study


def test_every_example_runs(study_with_examples: Study) -> None:
    results = study_with_examples.folder / "results/tiny"
    assert [len(pd.read_csv(results / f"classifiers/{name}/history.csv")) for name in ONLY_MADE] == [2, 2, 0]

    layers, kinds = {}, {}
    for name in MEASURED:
        distances = pd.read_csv(results / f"distances/{name}/pgd.csv", keep_default_na=False)
        assert set(distances["denoiser"]) == {"none", "unet", "median", "lgd"}
        assert np.isfinite(distances["normalized_euclidean_mean"].astype(float)).all()
        layers[name] = list(distances["layer"][distances["denoiser"] == "none"])
        kinds[name] = list(distances["kind"][distances["denoiser"] == "none"])
    assert layers["convnext"] == ["stage 1", "stage 2", "stage 3", "stage 4", "pool", "logits"]
    assert layers["resnet26"] == ["stem", "first stage", "middle of the third stage", "pooled", "logits"]
    predictions = pd.read_csv(results / "predictions/pretrained/pgd.csv.gz")
    assert set(predictions["label"]) == {0, 1} and set(predictions["predicted_clean"]) <= {*range(5)}
    logits = pd.read_csv(results / "distances/pretrained/pgd.csv").groupby("denoiser").last()
    assert set(logits["n_elements"]) == {5}
    assert kinds["resnet26"] == ["spatial", "spatial", "spatial", "pooled", "logits"]
    assert kinds["pretrained"] == ["spatial", "pooled", "logits"]

    with h5py.File(results / "adversarial/pgd/val.h5") as pgd, h5py.File(results / "data/val.h5") as data:
        change = pgd["images"][:] - data["images"][:]
        assert 0 < np.abs(change).max() <= 8.001
        with h5py.File(results / "adversarial/pgd_sign/val.h5") as noise:
            noise_change = noise["images"][:] - data["images"][:]
    norms, noise_norms = (np.linalg.norm(x.reshape(len(x), -1), axis=1) for x in (change, noise_change))
    np.testing.assert_allclose(noise_norms, norms, rtol=1e-4)


def test_a_set_of_whole_pixels_survives_its_image_files(study_with_examples: Study, repository: Path) -> None:
    study = study_with_examples
    (commands,) = blocks(repository, "sh")
    for command in commands.strip().splitlines():
        run = subprocess.run(
            [sys.executable, *command.split()[1:]], cwd=study.folder, capture_output=True, text=True, check=False
        )
        assert run.returncode == 0, run.stderr
    with (
        h5py.File(study.folder / "results/tiny/adversarial/ifgsm_png/val.h5") as before,
        h5py.File(study.folder / "ifgsm_png.h5") as after,
    ):
        assert len(list((study.folder / "ifgsm_png").rglob("*.png"))) == len(before["images"])
        for name in ("images", "index", "label", "steps", "succeeded", "already_misclassified"):
            assert np.array_equal(before[name][:], after[name][:]), name


WRONG = [
    [
        ("classifiers.convnext.architecture", "convnext_ato", "classifiers.convnext.architecture: .*convnext_atto"),
        ("classifiers.small.taps", ["features.1", "hed"], r"classifiers.small.taps.*hed.*head"),
        ("adversarial_sets.pgd.attack", "LinfPDG", "adversarial_sets.pgd.attack: .*LinfPGD"),
        ("denoisers.median.architecture", "my_denoiser:Median", "denoisers.median.architecture: .*my_denoiser"),
    ],
    [
        ("classifiers.small.architecture", "my_networks:SmalNet", "classifiers.small.architecture: .*SmallNet"),
        ("classifiers.trained.options", {"widht": 8}, "classifiers.trained.options.*widht"),
        ("adversarial_sets.pgd.options", {"step": 5}, "adversarial_sets.pgd.options.*steps"),
    ],
]


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: ", ".join(path for path, _, _ in wrong))
def test_what_is_wrong_is_refused_before_any_job(
    study_with_examples: Study, repository: Path, wrong: list[tuple[str, Any, str]]
) -> None:
    config = study_of_examples(repository)
    for path, value, _ in wrong:
        *parents, last = path.split(".")
        place = config
        for key in parents:
            place = place[key]
        place[last] = value
    study_with_examples.configure(config)
    run = study_with_examples.snakemake("--dry-run", check=False)
    assert run.returncode != 0
    for _, _, message in wrong:
        assert re.search(message, run.stdout), run.stdout
    assert "Job stats" not in run.stdout


def test_an_edit_of_ones_own_network_trains_it_anew(study_with_examples: Study, repository: Path) -> None:
    study = study_with_examples
    config, examples = (
        tiny_config(),
        study_of_examples(repository),
    )  # of these the one alone: it is all that is looked at
    config["classifiers"]["small"] = examples["classifiers"]["small"]
    study.configure(config)
    study.edit("my_networks.py", "stride=2", "stride=1")
    assert list(study.stale("results/tiny/classifiers/small/checkpoint.pt")) == ["classifier classifier=small"]
