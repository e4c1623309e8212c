"""What goes wrong on a cluster: a job is cancelled, takes too much memory, or outlives its Snakemake."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import psutil
import pytest

from tests.slurm.cluster import run, wait_until
from tests.slurm.study import ON_SLURM, SNAKEMAKE, ClusterStudy, assert_same_file, study_with_gpus, text_of

pytestmark = pytest.mark.workflow

N_EPOCHS = 20
CLASSIFIER = Path("classifiers/resnet18")
CHECKPOINT = f"results/tiny/{CLASSIFIER}/checkpoint.pt"
LOG = Path("logs/classifiers/resnet18.log")

# Put behind each epoch: the training surely lasts until it is disturbed, however slow the machine is just then.
AFTER_EPOCH = "                    after_epoch(history)\n"
HELD = f"""\
                    while len(history) == {N_EPOCHS // 2} and Path("held").exists():
                        time.sleep(0.05)
"""


@pytest.fixture(scope="module")
def trained_without_slurm(
    new_study: ClusterStudy, tmp_path_factory: pytest.TempPathFactory
) -> tuple[ClusterStudy, ClusterStudy]:
    """A study with its data alone, and one with a classifier; the training can be held in its middle."""
    with_data = new_study.copy_to(tmp_path_factory.mktemp("with_data") / "perturbflow")
    with_data.edit("perturbflow/training.py", AFTER_EPOCH, AFTER_EPOCH + HELD)
    config = study_with_gpus()
    # So low a rate that the training accuracy never ends it.
    config["classifier_defaults"]["training"] |= {"max_epochs": N_EPOCHS, "learning_rate": 1e-7, "batch_size": 4}
    with_data.configure(config)
    with_data.run("results/tiny/data/train.h5")
    trained = with_data.copy_to(tmp_path_factory.mktemp("trained") / "perturbflow")
    trained.run(CHECKPOINT)
    assert len(pd.read_csv(trained.results / CLASSIFIER / "history.csv")) == N_EPOCHS
    return with_data, trained


@pytest.fixture
def untrained(trained_without_slurm: tuple[ClusterStudy, ClusterStudy], tmp_path: Path) -> ClusterStudy:
    """A study whose training does not get beyond its middle until it is let go."""
    study = trained_without_slurm[0].copy_to(tmp_path / "perturbflow")
    (study.folder / "held").touch()
    return study


def let_go(study: ClusterStudy) -> None:
    (study.folder / "held").unlink()


@pytest.fixture
def trained(trained_without_slurm: tuple[ClusterStudy, ClusterStudy]) -> ClusterStudy:
    return trained_without_slurm[1]


def assert_same_training(found: ClusterStudy, expected: ClusterStudy) -> None:
    """The same files with the same weights, and nothing half-written beside them."""
    for study in (found, expected):
        files = sorted(path.name for path in (study.results / CLASSIFIER).iterdir())
        assert files == ["accuracy.csv", "checkpoint.pt", "history.csv"]
    for name in files:
        assert_same_file(found.results / CLASSIFIER / name, expected.results / CLASSIFIER / name)


@contextmanager
def killed_at_the_end(process: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def wait_for_an_epoch(study: ClusterStudy) -> None:
    """Wait until a training has saved its state."""
    wait_until((study.results / CLASSIFIER / "resume.pt").exists, 300, "no epoch has ended")


def wait_for_the_end_of(process: psutil.Process) -> None:
    def has_ended() -> bool:
        try:
            return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True

    wait_until(has_ended, 60, f"{process} has not ended")


def resumed_after(study: ClusterStudy) -> int:
    """After which epoch the training went on, from its log."""
    (line,) = [
        line for line in (study.results / LOG).read_text(encoding="utf-8").splitlines() if "resumed from" in line
    ]
    return int(line.split()[-1])


def test_a_cancelled_training_goes_on_from_its_last_epoch(untrained: ClusterStudy, trained: ClusterStudy) -> None:
    with killed_at_the_end(untrained.start_on_slurm(CHECKPOINT)) as snakemake:
        wait_for_an_epoch(untrained)
        (job,) = untrained.slurm_jobs()
        training = process_that_writes(untrained, LOG)

        run("scancel", str(job.number))

        wait_for_the_end_of(training)
        let_go(untrained)
        untrained.finish(snakemake)

    assert [job["JobState"] for job in untrained.ended_slurm_jobs()] == ["CANCELLED", "COMPLETED"]
    assert 1 <= resumed_after(untrained) < N_EPOCHS
    assert_same_training(untrained, trained)


def test_a_job_over_its_memory_is_repeated_with_more(untrained: ClusterStudy, trained: ClusterStudy) -> None:
    # More than Snakemake takes, less than Snakemake and torch take; and then ten times as much.
    resources = ["classifier:slurm_partition=gpu", "classifier:mem_mb=250 if attempt == 1 else 2500"]

    with killed_at_the_end(untrained.start_on_slurm(CHECKPOINT, "--set-resources", *resources)) as snakemake:
        # SLURM looks at the memory now and then: the first job is held until it has seen it.
        wait_until(lambda: len(untrained.slurm_jobs()) == 2, 300, "the job is not repeated")
        let_go(untrained)
        untrained.finish(snakemake)

    first, second = untrained.ended_slurm_jobs()
    assert (first["MinMemoryNode"], second["MinMemoryNode"]) == ("250M", "2500M")
    assert (first["JobState"], second["JobState"]) == ("FAILED", "COMPLETED")
    assert "Exceeded job memory limit" in Path(first["StdOut"]).read_text(encoding="utf-8")
    assert_same_training(untrained, trained)


@pytest.mark.parametrize("end_of_the_first", ["by itself", "by scancel"])
def test_a_job_that_outlives_its_snakemake_keeps_the_next_one_waiting(
    untrained: ClusterStudy, trained: ClusterStudy, end_of_the_first: str
) -> None:
    with killed_at_the_end(untrained.start_on_slurm(CHECKPOINT)) as snakemake:
        wait_for_an_epoch(untrained)
        (first,) = untrained.slurm_jobs()
        training = process_that_writes(untrained, LOG)
        snakemake.kill()
        snakemake.wait()
    subprocess.run([*SNAKEMAKE, *ON_SLURM, "--unlock"], cwd=untrained.folder, check=True, timeout=120)

    with killed_at_the_end(untrained.start_on_slurm(CHECKPOINT)) as snakemake:
        log = untrained.results / LOG
        wait_until(lambda: "waits" in text_of(log), 300, "the second does not wait")
        assert f"scancel {first.number}\n" in log.read_text(encoding="utf-8")
        assert [job["JobState"] for job in untrained.slurm_jobs()] == ["RUNNING", "RUNNING"]
        if end_of_the_first == "by scancel":
            run("scancel", str(first.number))
            wait_for_the_end_of(training)
        let_go(untrained)
        untrained.finish(snakemake)

    states = ["COMPLETED" if end_of_the_first == "by itself" else "CANCELLED", "COMPLETED"]
    assert [job["JobState"] for job in untrained.ended_slurm_jobs()] == states
    assert "That job has ended" in (untrained.results / LOG).read_text(encoding="utf-8")
    if end_of_the_first == "by scancel":
        assert 1 <= resumed_after(untrained) < N_EPOCHS
    assert_same_training(untrained, trained)


def process_that_writes(study: ClusterStudy, log: Path) -> psutil.Process:
    """The process of the job with this log, from the words in which its lock names it."""
    words = (study.results / log).with_name(f".{log.name}.lock").read_text(encoding="utf-8").split()
    return psutil.Process(int(words[words.index("(process") + 1]))
