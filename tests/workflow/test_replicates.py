"""A second training of a study: what it adds, where it lies, and that it makes nothing else stale."""

import json
from collections import Counter
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest

from perturbflow.results.replicates import seed_of_replicate
from tests.workflow.study import Study, tiny_config

pytestmark = pytest.mark.workflow

RESULTS = "results/tiny"
TARGETS = [f"{RESULTS}/{name}" for name in ("tables/table5.csv", "tables/amplification.csv", "figures/figure2.png")]


def configure(study: Study, *replicates: int) -> None:
    config = tiny_config()
    # Fewer jobs: what is said of two sets is said of three.
    del config["adversarial_sets"]["ifgsm"]
    config["replicates"] = [*replicates]
    study.configure(config)


@pytest.fixture(scope="module")
def two(finished_study: Study, tmp_path_factory: pytest.TempPathFactory) -> Study:
    """The tiny study with a second replicate, and the jobs that made the targets."""
    study = finished_study.copy_to(tmp_path_factory.mktemp("two") / "perturbflow")
    configure(study, 0, 1)
    study.first_run = study.run(*TARGETS)
    return study


@pytest.fixture
def study_of_two(two: Study, tmp_path: Path) -> Study:
    return two.copy_to(tmp_path / "perturbflow")


def of_replicate(job: str) -> bool:
    return "replicate=replicates/1/" in job


def test_another_replicate_makes_nothing_of_the_first_stale(study: Study) -> None:
    config = tiny_config()
    config["replicates"] = [0, 1]
    study.configure(config)
    planned = study.stale()
    shared = {job for job in planned if not of_replicate(job)}
    assert {job.split()[0] for job in shared} == {
        *("pool_measurements", "pool_interventions", "pool_study", "warnings"),
        *("table1", "table2", "table3", "table4", "table5", "attacks", "decision_planes", "amplification", "claims"),
        *("figure", "geometry_figure", "intervention_figure"),
    }
    # All that a study of one training does, but for the data and what the replicates share.
    again = {job for job in study_jobs(study) if not job.startswith(tuple(job.split()[0] for job in shared))} - {"data"}
    assert {job.replace("replicate=replicates/1/, ", "") for job in planned if of_replicate(job)} == again


def study_jobs(study: Study) -> Counter[str]:
    return study.stale("--forceall", "--config", "replicates=[0]")


def test_a_replicate_trains_and_measures_everything_once_more(two: Study) -> None:
    assert two.first_run == Counter(
        [
            *(
                f"{rule} replicate=replicates/1/, {wildcards}"
                for rule, wildcards in [
                    ("classifier", "classifier=resnet18"),
                    ("classifier", "classifier=resnetv2_50"),
                    ("denoiser", "denoiser=unet"),
                    ("adversarial", "adversarial_set=fgsm"),
                    ("control", "adversarial_set=noise"),
                    ("denoised", "denoiser=unet, adversarial_set=fgsm"),
                    ("denoised", "denoiser=unet, adversarial_set=noise"),
                    ("measure", "classifier=resnetv2_50, adversarial_set=fgsm"),
                    ("measure", "classifier=resnetv2_50, adversarial_set=noise"),
                    ("mean_squared_error", "adversarial_set=fgsm"),
                    ("mean_squared_error", "adversarial_set=noise"),
                ]
            ),
            "pool_measurements classifier=resnetv2_50",
            "table5",
            "amplification",
            "figure figure=figure2",
        ]
    )


def test_replicates_differ_in_their_random_numbers_alone(two: Study) -> None:
    files = [two.folder / RESULTS / folder / "adversarial/fgsm/val.h5" for folder in ("", "replicates/1")]
    with h5py.File(files[0]) as first, h5py.File(files[1]) as second:
        np.testing.assert_array_equal(first["index"], second["index"])
        assert (first["images"][:] != second["images"][:]).any()
        assert first.attrs["data_sha256"] == second.attrs["data_sha256"]
        seeds = [json.loads(file.attrs["config"])["seed"] for file in (first, second)]
        assert seeds == [0, seed_of_replicate(0, 1)]
    assert not (two.folder / RESULTS / "replicates/1/data").exists()
    measured = [
        pd.read_csv(two.folder / RESULTS / folder / "predictions/resnetv2_50/fgsm.csv.gz")["index"].tolist()
        for folder in ("", "replicates/1")
    ]
    assert measured[0] == measured[1]


def test_tables_and_figures_are_of_both(two: Study) -> None:
    table = pd.read_csv(two.folder / RESULTS / "tables/table5.csv")
    assert set(table["interval_covers"]) == {"2 trainings and images"}
    values = [
        pd.read_csv(two.folder / RESULTS / folder / "accuracy/resnetv2_50/fgsm.csv").set_index(["denoiser", "split"])
        for folder in ("", "replicates/1")
    ]
    for row in table[table["adversarial_set"] == "fgsm"].to_dict("records"):
        mean = np.mean([frame.loc[(row["denoiser"], "train"), "top1"] for frame in values])
        assert row["top1_train_pct"] == pytest.approx(100 * mean, rel=1e-5)
        assert row["top1_train_pct_ci_low"] <= row["top1_train_pct"] <= row["top1_train_pct_ci_high"]
    assert set(pd.read_csv(two.folder / RESULTS / "tables/amplification.csv")["interval_covers"]) == {
        "2 trainings and images"
    }
    assert "2 trainings and images" in (two.folder / RESULTS / "tables/table5.md").read_text(encoding="utf-8")


def test_a_study_of_one_training_says_so(finished_study: Study) -> None:
    tables = finished_study.folder / RESULTS / "tables"
    for name in ("amplification", "decision_planes"):
        assert set(pd.read_csv(tables / f"{name}.csv")["interval_covers"]) == {"images of one training"}
    for path in ("distances/resnetv2_50/fgsm.csv", "interventions/resnetv2_50/fgsm.csv"):
        assert set(pd.read_csv(tables.parent / path)["interval_covers"]) == {"images of one training"}


def test_tables_follow_when_a_replicate_is_taken_out_and_comes_back(study_of_two: Study) -> None:
    assert study_of_two.stale(*TARGETS) == Counter()
    configure(study_of_two, 0)
    assert study_of_two.stale(*TARGETS) == Counter(["table5", "amplification", "figure figure=figure2"])


def test_one_replicate_is_made_again_alone(study_of_two: Study) -> None:
    again = study_of_two.stale(*TARGETS, "--forcerun", f"{RESULTS}/replicates/1/classifiers/resnet18/checkpoint.pt")
    assert again["classifier replicate=replicates/1/, classifier=resnet18"] == 1
    shared = {"pool_measurements classifier=resnetv2_50", "table5", "amplification", "figure figure=figure2"}
    assert {job for job in again if not of_replicate(job)} == shared


def test_a_replicate_may_be_asked_for_by_its_path_alone(study: Study) -> None:
    planned = study.stale(f"{RESULTS}/replicates/7/distances/resnetv2_50/fgsm.csv")
    assert {job.split(" ")[0] for job in planned} == {"classifier", "adversarial", "denoiser", "denoised", "measure"}
    assert all("replicate=replicates/7/" in job for job in planned)


def test_replicates_in_shards_have_shards_of_their_own(finished_study: Study, tmp_path: Path) -> None:
    study = finished_study.copy_to(tmp_path / "perturbflow")
    config = tiny_config()
    config["compute"] |= {"batch_size": 4, "images_per_shard": 20}
    study.configure(config)
    planned = study.stale(f"{RESULTS}/replicates/1/adversarial/ifgsm/train.h5")
    shards = [
        job for job in planned if job.startswith("adversarial_shard replicate=replicates/1/, adversarial_set=ifgsm")
    ]
    assert len(shards) >= 3
