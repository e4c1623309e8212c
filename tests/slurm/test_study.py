"""A whole study through SLURM: what went where, and that it makes what a run without SLURM makes."""

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.slurm.study import (
    ClusterStudy,
    SlurmJob,
    assert_same_file,
    assert_same_results,
    rules,
    study_with_gpus,
)
from tests.workflow.study import jobs

pytestmark = pytest.mark.workflow

ON_A_GPU = {
    *("classifier", "denoiser", "measure", "intervene"),
    *("adversarial", "adversarial_shard", "denoised", "denoised_shard"),
}


@dataclass(frozen=True)
class Finished:
    """A study that ran through SLURM, what Snakemake printed, and SLURM's jobs."""

    study: ClusterStudy
    printed: str
    slurm_jobs: list[SlurmJob]


@pytest.fixture(scope="module")
def finished(new_study: ClusterStudy, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    study = new_study.copy_to(tmp_path_factory.mktemp("on_slurm") / "perturbflow")
    return Finished(study, study.run_on_slurm(seconds=1800), study.ended_slurm_jobs())


def test_every_job_goes_through_sbatch_and_succeeds_at_once(finished: Finished, local_study: ClusterStudy) -> None:
    assert jobs(finished.printed) == local_study.first_run
    assert {job["JobState"] for job in finished.slurm_jobs} == {"COMPLETED"}
    assert Counter(job.rule for job in finished.slurm_jobs) == rules(local_study.first_run)


def test_jobs_that_run_networks_get_a_gpu_and_others_none(finished: Finished) -> None:
    given = assert_gpus_for_networks_alone(finished.study.results / "logs", finished.slurm_jobs)
    # Two jobs that wait for the same data alone run side by side.
    assert {given[job.number] for job in finished.slurm_jobs if job.rule == "classifier"} == {"0", "1"}


def assert_gpus_for_networks_alone(logs: Path, slurm_jobs: list[SlurmJob]) -> dict[int, str]:
    """The GPU that each job was given, by its number in SLURM; "none" for jobs that run no network."""
    given = {job.number: gpus_in_log(logs, job) for job in slurm_jobs}
    for job in slurm_jobs:
        if job.rule in ON_A_GPU:
            assert job["Partition"] == "gpu"
            assert job["TresPerJob"] in ("gres:gpu:1", "gres/gpu:1")  # depending on SLURM's release
            assert given[job.number] in ("0", "1")
        else:
            assert (job["Partition"], job["TresPerJob"]) == ("cpu", "")
            assert given[job.number] == "none"
    return given


def gpus_in_log(logs: Path, job: SlurmJob) -> str:
    """What the first line of a job's own log says about its GPUs."""
    first_lines = [log.read_text(encoding="utf-8").splitlines()[0] for log in logs.rglob("*.log")]
    (found,) = [
        match[1] for line in first_lines if (match := re.search(rf"SLURM job {job.number} on \S+, GPUs: (.*)$", line))
    ]
    return found


def test_results_are_those_of_a_run_without_slurm(finished: Finished, local_study: ClusterStudy) -> None:
    assert_same_results(finished.study.results, local_study.results)


def test_a_study_goes_on_without_slurm(finished: Finished, tmp_path: Path) -> None:
    study = finished.study.copy_to(tmp_path / "perturbflow")
    assert not study.run()


def test_shards_are_jobs_of_their_own_and_make_the_same_sets(
    copy_of_local_study: ClusterStudy, local_study: ClusterStudy
) -> None:
    study = copy_of_local_study
    config = study_with_gpus()
    config["compute"]["images_per_shard"] = 32
    study.configure(config)
    files = [f"{folder}/ifgsm/{split}.h5" for folder in ("adversarial", "denoised/unet") for split in ("train", "val")]
    for file in files:
        (study.results / file).unlink()

    study.run_on_slurm(*(f"results/tiny/{file}" for file in files))

    # 48 images of the training split, 16 of the other; one job joins both splits of a set.
    n_jobs = {"adversarial_shard": 3, "join_adversarial": 1, "denoised_shard": 3, "join_denoised": 1}
    slurm_jobs = study.ended_slurm_jobs()
    assert Counter(job.rule for job in slurm_jobs) == n_jobs
    assert_gpus_for_networks_alone(study.results / "logs", slurm_jobs)
    for file in files:
        assert_same_file(study.results / file, local_study.results / file)
