"""Sets that are made and denoised in shards: the same files, and jobs for what is missing or stale alone."""

import fcntl
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from perturbflow.files.whole import sha256
from tests.workflow.study import Study, copy_workflow, tiny_config

pytestmark = pytest.mark.workflow

BATCH_SIZE = 4
IMAGES_PER_SHARD = 28
SHARDS = ["split=train, rows=0-27", "split=train, rows=28-47", "split=val, rows=0-15"]  # of the 48 and 16 images
SETS = ["fgsm_v2", "pgd", "adaptive"]
DENOISED_SET = "denoised/unet/fgsm_v2"
FILES = [
    f"{folder}/{split}.h5"
    for folder in (*(f"adversarial/{name}" for name in SETS), DENOISED_SET)
    for split in ("train", "val")
]
TARGETS = [f"results/tiny/{name}" for name in FILES]


def config_of(images_per_shard: int | None) -> dict[str, Any]:
    """The tiny study with more sets, among them one of Foolbox's that draws random numbers and an adaptive one."""
    config = tiny_config()
    networks = {"attacker": "resnet18", "stopping_classifier": "resnetv2_50"}
    config["adversarial_sets"] |= {
        "fgsm_v2": {"attack": "fgsm", "step": 4.0, "max_steps": 6, **networks},
        "pgd": {"attack": "LinfPGD", "epsilon": 16.0, "options": {"steps": 3}, **networks},
        "adaptive": {"attack": "ifgsm", "denoiser": "unet", "step": 8.0, "max_steps": 3, **networks},
    }
    config["compute"] |= {"batch_size": BATCH_SIZE, "images_per_shard": images_per_shard}
    return config


def set_of(adversarial_set: str, shards: list[str] = SHARDS) -> list[str]:
    """The jobs of these shards, and the one that joins all."""
    return [
        *(f"adversarial_shard adversarial_set={adversarial_set}, {shard}" for shard in shards),
        f"join_adversarial adversarial_set={adversarial_set}",
    ]


def denoised(shards: list[str] = SHARDS) -> list[str]:
    """Likewise, of the denoised set."""
    return [
        *(f"denoised_shard denoiser=unet, adversarial_set=fgsm_v2, {shard}" for shard in shards),
        "join_denoised denoiser=unet, adversarial_set=fgsm_v2",
    ]


ALL = [*(job for name in SETS for job in set_of(name)), *denoised()]


def run(study: Study, *arguments: str, targets: list[str] = TARGETS) -> Counter[str]:
    """The jobs that make the targets, of shards with their rows and without their digests."""
    return without_digests(study.run(*arguments, *targets))


def without_digests(ran: Counter[str]) -> Counter[str]:
    return Counter(
        {re.sub(r"first=(\d+), last=(\d+), digest=\w+", r"rows=\1-\2", job): number for job, number in ran.items()}
    )


def make(finished_study: Study, folder: Path, images_per_shard: int | None) -> tuple[Study, Counter[str]]:
    """The tiny study with the additional sets, and the jobs that made them."""
    study = finished_study.copy_to(folder)
    study.configure(config_of(images_per_shard))
    return study, run(study)


@pytest.fixture(scope="module")
def whole(finished_study: Study, tmp_path_factory: pytest.TempPathFactory) -> Study:
    return make(finished_study, tmp_path_factory.mktemp("whole") / "perturbflow", None)[0]


@pytest.fixture(scope="module")
def made_in_shards(finished_study: Study, tmp_path_factory: pytest.TempPathFactory) -> tuple[Study, Counter[str]]:
    return make(finished_study, tmp_path_factory.mktemp("shards") / "perturbflow", IMAGES_PER_SHARD)


@pytest.fixture
def in_shards(made_in_shards: tuple[Study, Counter[str]], tmp_path: Path) -> Study:
    return made_in_shards[0].copy_to(tmp_path / "perturbflow")


def shard_files(study: Study) -> list[str]:
    """What is there of shards, without digests."""
    files = (study.folder / "results/tiny/shards").rglob("*.h5")
    return sorted(
        f"{file.parent.relative_to(study.folder / 'results/tiny/shards')}/{file.stem[:-13]}" for file in files
    )


def test_each_shard_is_a_job(made_in_shards: tuple[Study, Counter[str]]) -> None:
    study, ran = made_in_shards
    assert ran == Counter(ALL)
    assert shard_files(study) == []


@pytest.mark.parametrize("name", FILES)
def test_the_files_do_not_depend_on_shards(name: str, whole: Study, made_in_shards: tuple[Study, Counter[str]]) -> None:
    path = f"results/tiny/{name}"
    with h5py.File(whole.folder / path) as expected, h5py.File(made_in_shards[0].folder / path) as found:
        assert dict(found.attrs) == dict(expected.attrs)
        assert set(found) == set(expected)
        for dataset in expected:
            assert found[dataset].dtype == expected[dataset].dtype
            assert found[dataset].chunks is None
            np.testing.assert_array_equal(found[dataset][:], expected[dataset][:], err_msg=dataset)
    # So what is made of them has equal digests in its attributes.
    assert sha256(made_in_shards[0].folder / path) == sha256(whole.folder / path)


def test_shards_are_planned_before_there_are_data(in_shards: Study) -> None:
    shutil.rmtree(in_shards.folder / "results")
    planned = run(in_shards, "--dry-run")
    trained = ["classifier classifier=resnet18", "classifier classifier=resnetv2_50", "denoiser denoiser=unet"]
    assert planned == Counter([*ALL, "data", *trained, *set_of("fgsm")])


def test_a_finished_study_does_nothing_when_it_is_to_be_cut(study: Study) -> None:
    config = tiny_config()
    config["compute"]["images_per_shard"] = config["compute"]["batch_size"]
    study.configure(config)
    assert study.run() == Counter()


@pytest.mark.parametrize("images_per_shard", [8, None])
def test_a_study_in_shards_does_nothing_when_it_is_cut_otherwise(
    in_shards: Study, images_per_shard: int | None
) -> None:
    in_shards.configure(config_of(images_per_shard))
    assert run(in_shards) == Counter()


def test_an_edit_of_a_set_makes_its_shards_anew(in_shards: Study) -> None:
    config = config_of(IMAGES_PER_SHARD)
    config["adversarial_sets"]["pgd"]["epsilon"] = 8.0
    in_shards.configure(config)
    assert run(in_shards, "--dry-run") == Counter(set_of("pgd"))


def test_a_new_checkpoint_makes_the_shards_anew(in_shards: Study) -> None:
    with (in_shards.folder / "results/tiny/classifiers/resnetv2_50/checkpoint.pt").open("ab") as checkpoint:
        checkpoint.write(b" ")
    assert run(in_shards, "--dry-run") == Counter(ALL)
    in_shards.configure(config_of(None))
    whole_sets = [f"adversarial adversarial_set={name}" for name in SETS]
    assert run(in_shards, "--dry-run") == Counter([*whole_sets, "denoised denoiser=unet, adversarial_set=fgsm_v2"])


def test_shards_of_a_size_that_comes_back_are_not_stale(in_shards: Study) -> None:
    """Snakemake remembers what the shards of that size were made with, before the set changed."""
    target = ["results/tiny/adversarial/pgd/train.h5"]
    config = config_of(None)
    config["adversarial_sets"]["pgd"]["epsilon"] = 8.0
    in_shards.configure(config)
    assert run(in_shards, targets=target) == Counter(["adversarial adversarial_set=pgd"])
    config["compute"]["images_per_shard"] = IMAGES_PER_SHARD
    in_shards.configure(config)
    assert run(in_shards, targets=target) == Counter()


def test_the_batch_size_is_a_part_of_a_set_where_it_changes_the_images(tmp_path: Path) -> None:
    study = Study(tmp_path / "perturbflow")
    copy_workflow(study.folder)
    names = ["pgd", "sparse"]

    def planned(batch_size: int) -> dict[str, set[str]]:
        config = config_of(IMAGES_PER_SHARD)
        config["adversarial_sets"]["sparse"] = config["adversarial_sets"]["pgd"] | {"attack": "SparseL1DescentAttack"}
        config["compute"]["batch_size"] = batch_size
        study.configure(config)
        output = study.snakemake("--dry-run", *(f"results/tiny/adversarial/{name}/val.h5" for name in names)).stdout
        return {
            name: {*re.findall(rf"^    output: .*/shards/adversarial/{name}/(.*)$", output, re.M)} for name in names
        }

    first, second = planned(4), planned(2)
    assert first["pgd"] == second["pgd"] and len(first["pgd"]) == len(SHARDS)
    assert not first["sparse"] & second["sparse"]


@pytest.fixture(scope="module")
def interrupted_study(made_in_shards: tuple[Study, Counter[str]], tmp_path_factory: pytest.TempPathFactory) -> Study:
    study = made_in_shards[0].copy_to(tmp_path_factory.mktemp("interrupted") / "perturbflow")
    interrupt_after_a_shard(study)
    return study


@pytest.fixture
def interrupted(interrupted_study: Study, tmp_path: Path) -> Study:
    return interrupted_study.copy_to(tmp_path / "perturbflow")


def interrupt_after_a_shard(study: Study) -> None:
    """Denoise a set anew, and kill Snakemake with its jobs when the first shard is done and the others have begun."""
    target = f"results/tiny/{DENOISED_SET}/train.h5"
    (study.folder / target).unlink()
    folder = study.folder / f"results/tiny/logs/shards/{DENOISED_SET}"
    logs = [next(folder.glob(f"{name}.*.log")) for name in ("train/28-47", "val/0-15")]
    command = [sys.executable, "-m", "snakemake", "--configfile", "config/tiny.yaml"]
    with (
        kept_waiting(logs),
        subprocess.Popen(
            [*command, "--cores", str(len(SHARDS)), target],
            cwd=study.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        ) as process,
    ):
        limit = threading.Timer(300, os.killpg, (process.pid, signal.SIGKILL))
        limit.start()
        try:
            printed = until_the_end_of_a_shard(process)
            assert printed.endswith("(Rule: denoised_shard)\n"), printed
            while not all(map(waits, logs)):
                assert limit.is_alive(), "the other shards have not begun"
                time.sleep(0.05)
        finally:
            limit.cancel()
            os.killpg(process.pid, signal.SIGKILL)
    study.snakemake("--unlock")


@contextmanager
def kept_waiting(logs: list[Path]) -> Iterator[None]:
    """While open, jobs with these logs wait before they do anything, as for another job with the same log."""
    with ExitStack() as stack:
        for log in logs:
            lock = stack.enter_context(log.with_name(f".{log.name}.lock").open("r+"))
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


def until_the_end_of_a_shard(process: subprocess.Popen[str]) -> str:
    """What Snakemake prints until the first shard is done, or until its own end."""
    assert process.stdout
    printed = ""
    for line in process.stdout:
        printed += line
        if line.startswith("Finished jobid:"):
            break
    return printed


def waits(log: Path) -> bool:
    try:
        return "waits for the end of" in log.read_text(encoding="utf-8")
    except FileNotFoundError:  # while the job replaces the log
        return False


def test_an_interrupted_set_makes_the_missing_shards(interrupted: Study, whole: Study) -> None:
    target = f"results/tiny/{DENOISED_SET}/train.h5"
    assert shard_files(interrupted) == [f"{DENOISED_SET}/train/0-27"]
    assert run(interrupted, targets=[target]) == Counter(denoised(SHARDS[1:]))
    assert shard_files(interrupted) == []
    with h5py.File(whole.folder / target) as expected, h5py.File(interrupted.folder / target) as found:
        np.testing.assert_array_equal(found["images"][:], expected["images"][:])


def test_nothing_is_left_of_an_interrupted_set_whose_code_was_edited(interrupted: Study) -> None:
    target = f"results/tiny/{DENOISED_SET}/train.h5"
    interrupted.edit("perturbflow/denoisers/denoised_set.py", ".clamp(0, 255)", ".clamp(0, 0)")
    assert run(interrupted, targets=[target]) == Counter(denoised())
    assert shard_files(interrupted) == []
    with h5py.File(interrupted.folder / target) as found:
        assert not found["images"][:].any()


def test_data_of_another_number_of_images_than_planned(in_shards: Study) -> None:
    """As where images come between planning and reading; the next run plans with the data that are there."""
    target = f"results/tiny/{DENOISED_SET}/val.h5"
    (in_shards.folder / target).unlink()
    in_shards.edit("workflow/rules/shards.smk", "    return count_images(", "    return BATCH + count_images(")
    in_shards.edit("workflow/rules/shards.smk", "from functools", f"BATCH = {BATCH_SIZE}\nfrom functools")
    wrong = in_shards.snakemake(target, check=False)
    assert wrong.returncode != 0
    assert "has 16 images; asked for 0..19. Run again." in wrong.stdout
    in_shards.edit("workflow/rules/shards.smk", "BATCH + ", "")
    assert run(in_shards, targets=[target]) == Counter(denoised(SHARDS[1:]))
