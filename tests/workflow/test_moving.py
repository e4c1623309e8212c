"""A study that is copied to another place, as docs/moving.md tells. Every test really asks Snakemake."""

import os
import shutil
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from tests.workflow.study import COPIED, Study, tiny_config
from tests.workflow.test_rerun import OF_ALL_SETS, of_set

pytestmark = pytest.mark.workflow

# Snakemake knows small files by their checksums. With this it knows none, as none of the large files of a real study.
LARGE_FILES = ("--max-checksum-file-size", "0")
METADATA = ".snakemake/metadata"


def clone(study: Study, folder: Path) -> Study:
    """The code and config without any results, every file new."""
    folder.mkdir()
    for name in COPIED:
        source = study.folder / name
        if source.is_dir():
            shutil.copytree(source, folder / name, copy_function=shutil.copy)
        else:
            shutil.copy(source, folder / name)
    return Study(folder)


def bring(study: Study, name: str, target: Study, copy: Callable[[str, str], Any] = shutil.copy2) -> None:
    """Copy a folder of a study into another, by default with times as `rsync -a` and `cp -a` do."""
    shutil.rmtree(target.folder / name, ignore_errors=True)
    shutil.copytree(study.folder / name, target.folder / name, copy_function=copy)


def lose_times(study: Study) -> None:
    """Give all results new times, in the worst order that a copy may take: what was made first is newest."""
    files = sorted((path for path in (study.folder / "results").rglob("*") if path.is_file()), key=modified)
    now = time.time()
    for seconds, file in enumerate(files):
        os.utime(file, (now - seconds, now - seconds))


def modified(path: Path) -> int:
    return path.stat().st_mtime_ns


def edit_of_a_step() -> tuple[dict[str, Any], Counter[str]]:
    """A config with another step of one attack, and the jobs that this makes stale, as in test_rerun.py."""
    config = tiny_config()
    config["adversarial_sets"]["ifgsm"]["step"] = 4.0
    return config, Counter([*of_set("ifgsm"), "table2", "table4", "attacks", *OF_ALL_SETS])


def test_results_alone_are_up_to_date_in_a_new_clone(finished_study: Study, tmp_path: Path) -> None:
    moved = clone(finished_study, tmp_path / "clone")
    bring(finished_study, "results", moved)
    assert modified(moved.folder / "resources/paper/table1.csv") > modified(
        moved.folder / "results/tiny/tables/table1.csv"
    )
    config, follows = edit_of_a_step()
    moved.configure(config)
    assert moved.stale(*LARGE_FILES) == Counter()  # nothing tells with what the results were made

    moved.configure(tiny_config())
    moved.snakemake("--touch", "--forceall")
    moved.configure(config)
    assert moved.stale(*LARGE_FILES) == follows


def test_with_the_metadata_an_edit_reruns_what_it_does_at_home(finished_study: Study, tmp_path: Path) -> None:
    moved = clone(finished_study, tmp_path / "clone")
    bring(finished_study, "results", moved)
    bring(finished_study, METADATA, moved)
    config, follows = edit_of_a_step()
    moved.configure(config)
    assert moved.stale(*LARGE_FILES) == follows


def test_a_copy_that_lost_its_times_is_touched(finished_study: Study, tmp_path: Path) -> None:
    moved = clone(finished_study, tmp_path / "clone")
    bring(finished_study, "results", moved)
    bring(finished_study, METADATA, moved)
    lose_times(moved)
    assert moved.stale() == Counter()
    assert moved.stale(*LARGE_FILES).keys() >= {"classifier classifier=resnet18", "denoiser denoiser=unet", "table1"}

    before = {path: path.read_bytes() for path in (moved.folder / "results").rglob("*.csv")}
    moved.snakemake("--touch", *LARGE_FILES)
    assert all(path.read_bytes() == text for path, text in before.items())
    config, follows = edit_of_a_step()
    moved.configure(config)
    assert moved.stale(*LARGE_FILES) == follows


def test_half_a_study_that_lost_times_and_metadata_is_touched(finished_study: Study, tmp_path: Path) -> None:
    moved = clone(finished_study, tmp_path / "clone")
    bring(finished_study, "results", moved)
    for folder in ("denoised", "mse", "accuracy", "distances", "predictions", "interventions", "tables", "figures"):
        shutil.rmtree(moved.folder / "results/tiny" / folder)
    lose_times(moved)
    assert "classifier classifier=resnet18" in moved.stale()

    moved.snakemake("--touch", "--forceall")
    missing = moved.stale(*LARGE_FILES)
    assert missing.keys() >= {"denoised denoiser=unet, adversarial_set=fgsm", "table1"}
    assert not {name.split()[0] for name in missing} & {"data", "classifier", "adversarial", "control", "denoiser"}


def test_a_study_goes_on_under_another_profile_and_back(finished_study: Study, tmp_path: Path) -> None:
    wanted = "results/tiny/mse/noise.csv"
    laptop = clone(finished_study, tmp_path / "laptop")
    bring(finished_study, "results", laptop)
    bring(finished_study, METADATA, laptop)
    results = laptop.folder / "results/tiny"
    (results / "warnings.csv").unlink()
    for folder in results.iterdir():
        if folder.name not in ("data", "classifiers", "adversarial", "denoisers"):
            shutil.rmtree(folder)
    (results / "adversarial/noise/val.h5").unlink()
    noise = "adversarial_set=noise"
    missing = Counter([f"control {noise}", f"denoised denoiser=unet, {noise}", f"mean_squared_error {noise}"])

    cluster = clone(laptop, tmp_path / "cluster")
    bring(laptop, "results", cluster)
    bring(laptop, METADATA, cluster)
    config = tiny_config()
    config["compute"] |= {"threads": 2, "batch_size": 7, "longest_job_hours": 2}
    cluster.configure(config)
    # The cluster's profile, with jobs that run here.
    profile = ("--workflow-profile", "profiles/slurm", "--executor", "local", "--latency-wait", "5", *LARGE_FILES)
    assert cluster.run(*profile, wanted) == missing
    assert cluster.stale(*profile, wanted) == Counter()

    bring(cluster, "results", laptop)
    bring(cluster, METADATA, laptop)
    assert laptop.stale(*LARGE_FILES, wanted) == Counter()


def test_another_number_of_the_papers_reruns_the_tables_that_show_it(study: Study) -> None:
    table = study.folder / "resources/paper/table4.csv"
    table.write_text(table.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    assert study.stale() == Counter(["table4", "claims"])


def test_weights_are_known_by_what_they_hold(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    """One file by its path, another of a Python package, which moves."""
    config = tiny_config()
    config["classifiers"]["resnet18"]["weights"] = "mine.pth"
    config["classifiers"]["resnetv2_50"]["weights"] = "package:some-nets/models/theirs.pth"
    study.configure(config)
    names = ("resnet18", "resnetv2_50")
    checkpoints = [f"results/tiny/classifiers/{name}/checkpoint.pt" for name in names]
    states = [torch.load(study.folder / path, weights_only=True)["network"] for path in checkpoints]
    site, elsewhere = study.folder / "site", study.folder / "other-site"
    mine, theirs = study.folder / "mine.pth", site / "some_nets/models/theirs.pth"
    theirs.parent.mkdir(parents=True)
    for file, state in zip((mine, theirs), states, strict=True):
        torch.save(state, file)
    monkeypatch.setenv("PYTHONPATH", str(site))
    both = Counter(f"classifier classifier={name}" for name in names)
    assert study.run("--touch", *checkpoints) == both  # as if they had been made from these

    os.utime(mine)
    assert modified(mine) > modified(study.folder / checkpoints[0])
    site.rename(elsewhere)
    monkeypatch.setenv("PYTHONPATH", str(elsewhere))
    assert study.stale(*LARGE_FILES, *checkpoints) == Counter()

    for file, state in zip((mine, elsewhere / "some_nets/models/theirs.pth"), states, strict=True):
        torch.save({name: tensor + 1 for name, tensor in state.items()}, file)
        os.utime(file, (0, 0))
    assert study.stale(*checkpoints) == both

    # Where the checkpoints are there, nothing needs what they were made from.
    os.utime(mine)
    mine.unlink()
    monkeypatch.delenv("PYTHONPATH")
    assert study.stale() == Counter()


def test_pictures_are_known_by_what_they_hold(study: Study, tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    for number in range(12):
        split, name = "train" if number % 3 else "val", "ant" if number % 2 else "bee"
        (pictures / split / name).mkdir(parents=True, exist_ok=True)
        Image.new("L", (32, 32), number).save(pictures / split / name / f"{number}.png")
    (pictures / "train/ant/damaged.png").touch()
    everything = {"classes": None, "images_per_class": {}}
    data, left_out = "results/tiny/data/train.h5", study.folder / "results/tiny/data/left_out.csv"

    def configure(path: Path | str) -> None:
        source = {"source": "image-folder", "path": str(path), "on_error": "skip", "image_size": 32, **everything}
        study.configure({**tiny_config(), "data": source})

    configure(pictures)
    assert study.run(data) == Counter(["data"])
    assert left_out.read_text(encoding="utf-8").splitlines()[1:] == ["train,train/ant/damaged.png,an empty file"]

    copy = shutil.copytree(pictures, study.folder / "copy", copy_function=shutil.copy)
    assert modified(copy / "train/ant/1.png") != modified(pictures / "train/ant/1.png")
    configure("./copy")
    assert study.stale(data) == Counter()
    Image.new("L", (32, 32), 99).save(copy / "train/ant/99.png")
    assert study.stale(data) == Counter(["data"])
    shutil.rmtree(copy)
    assert study.stale(data) == Counter()
