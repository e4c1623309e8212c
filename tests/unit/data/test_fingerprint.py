"""What makes data stale: other pictures, and not where they lie, when they were copied or how one gets there."""

import json
import os
import shutil
import zipfile
from pathlib import Path

import h5py
import pytest
from PIL import Image

from perturbflow.data import fingerprint
from perturbflow.data.decoding import decode_splits_to_files
from perturbflow.data.fingerprint import COMPARED, digest_of_files, source_fingerprint

SPLITS = ("train", "val")
CODE = {"data.py": "0123"}


class Study:
    """Data files, made from a folder of pictures."""

    def __init__(self, folder):
        self.folder = folder
        self.pictures = folder / "pictures"
        self.results = folder / "results"
        self.files = {split: self.results / f"{split}.h5" for split in SPLITS}
        self.data = {
            "source": "image-folder",
            "download": True,
            "on_error": "fail",
            "image_size": 16,
            "classes": None,
            "images_per_class": {"train": None, "val": None},
        }

    def told(self, path=None, seed=0, code=CODE, **data):
        """The fingerprint, as it is asked for before a run."""
        return source_fingerprint(self.settings(path, **data), seed, code, self.files)

    def settings(self, path=None, **data):
        return {**self.data, "path": str(path or self.pictures), **data}

    def make(self, path=None, **data):
        """What Snakemake does: it asks, removes the files and runs a job, whose own process asks again."""
        given = self.told(path, **data)
        for file in self.files.values():
            file.unlink(missing_ok=True)
        assert self.told(path, **data) == given
        decode_splits_to_files(
            self.files, self.results / "left_out.csv", self.settings(path, **data), 0, {}, given, threads=1
        )
        assert self.told(path, **data) == given
        return given


def paint(path, color):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (16, 16), (color, 0, 0)).save(path)


@pytest.fixture
def study(tmp_path):
    for split in SPLITS:
        for label, name in enumerate(("ant", "bee")):
            for number in range(3):
                paint(tmp_path / "pictures" / split / name / f"{number}.png", 10 * label + number)
    (tmp_path / "pictures/train/ant/notes.txt").write_text("notes")
    (tmp_path / "pictures/about.txt").write_text("about")
    study = Study(tmp_path)
    study.made_from = study.make()
    return study


@pytest.fixture
def no_reading(monkeypatch):
    """Whoever compares what pictures hold fails."""
    monkeypatch.setattr(fingerprint, "_would_be_the_same", lambda *_: pytest.fail("pictures are compared"))


# ---- Stale


def add_a_picture(pictures):
    paint(pictures / "train/bee/new.png", 99)


def remove_a_picture(pictures):
    (pictures / "val/ant/0.png").unlink()


def change_a_picture(pictures):
    paint(pictures / "val/ant/0.png", 99)


def change_a_picture_and_not_its_size(pictures):
    file = pictures / "train/ant/0.png"
    content = bytearray(file.read_bytes())
    content[-20] ^= 1
    file.write_bytes(content)


def add_a_class(pictures):
    paint(pictures / "train/cat/0.png", 99)
    paint(pictures / "val/cat/0.png", 99)


def move_a_picture_to_another_class(pictures):
    (pictures / "train/ant/2.png").rename(pictures / "train/bee/3.png")


def rename_a_picture(pictures):
    (pictures / "train/ant/2.png").rename(pictures / "train/ant/3.png")


def break_the_layout(pictures):
    shutil.rmtree(pictures / "val/bee")


EDITS = [
    add_a_picture,
    remove_a_picture,
    change_a_picture,
    change_a_picture_and_not_its_size,
    add_a_class,
    move_a_picture_to_another_class,
    rename_a_picture,
    break_the_layout,
]


@pytest.mark.parametrize("edit", EDITS)
def test_an_edit_makes_stale(study, edit):
    edit(study.pictures)
    told = study.told()
    assert told not in (study.made_from, None)
    assert study.told() == told


def test_an_edit_is_stale_once_and_the_way_back_as_well(study):
    add_a_picture(study.pictures)
    edited = study.make()
    assert edited != study.made_from
    (study.pictures / "train/bee/new.png").unlink()
    assert study.told() == study.made_from


@pytest.mark.parametrize(
    "other", [{"image_size": 32}, {"on_error": "skip"}, {"seed": 1}, {"code": {"data.py": "4567"}}, {"classes": 2}]
)
def test_another_config_or_code_reads_no_pictures(study, other, no_reading):
    (study.folder / "moved").mkdir()
    moved = shutil.copytree(study.pictures, study.folder / "moved/pictures", copy_function=shutil.copy)
    assert study.told(moved, **other) != study.made_from


# ---- Not stale


@pytest.mark.parametrize("spelling", ["pictures", "./pictures", "pictures/../pictures/", "link"])
def test_another_spelling_is_the_same(study, spelling, monkeypatch, no_reading):
    monkeypatch.chdir(study.folder)
    (study.folder / "link").symlink_to("pictures")
    assert study.told(spelling) == study.made_from


def test_another_place_is_the_same(study, no_reading):
    moved = study.pictures.rename(study.folder / "elsewhere")
    assert study.told(moved) == study.made_from


def test_files_that_no_image_comes_from_do_not_count(study, no_reading):
    (study.pictures / "about.txt").write_text("something else")
    (study.pictures / "results").mkdir()
    (study.pictures / "results/new.h5").write_text("made by the workflow itself")
    (study.pictures / "train/ant/.DS_Store").write_text("hidden")
    assert study.told() == study.made_from


def test_a_copy_with_other_times_is_compared_once(study, monkeypatch):
    copy = shutil.copytree(study.pictures, study.folder / "copy", copy_function=shutil.copy)
    for number, file in enumerate(copy.rglob("*.png")):
        os.utime(file, (number, number))
    assert study.told(copy) == study.made_from
    monkeypatch.setattr(fingerprint, "_would_be_the_same", lambda *_: pytest.fail("pictures are compared"))
    assert study.told(copy) == study.made_from
    assert study.told() == study.made_from


def test_data_that_are_made_anew_from_a_copy_are_up_to_date(study):
    """The answer before the job, that of the job's own process and the one after it are the same."""
    copy = shutil.copytree(study.pictures, study.folder / "copy", copy_function=shutil.copy)
    assert study.told(copy) == study.made_from
    assert study.make(copy) == study.made_from
    smaller = study.make(copy, classes=2, image_size=32)
    assert smaller != study.made_from


def test_a_picture_that_is_not_taken_changes_nothing(study):
    few = {"images_per_class": {"train": 1, "val": 1}}
    made_from = study.make(**few)
    with h5py.File(study.files["train"]) as file:
        taken = set(file["id"].asstr()[:])
    other = next(file for file in (study.pictures / "train/ant").glob("*.png") if f"train/ant/{file.name}" not in taken)
    paint(other, 99)
    assert study.told(**few) == made_from


def test_enlarged_data_see_the_edit_that_smaller_ones_did_not(study):
    """The subset of one image a class does not see the new picture; all images do, and they see that it goes again."""
    few = {"images_per_class": {"train": 1, "val": 1}}
    study.make(**few)
    (study.pictures / "train/ant/notes.txt").write_text("more notes")
    study.told(**few)
    add_a_picture(study.pictures)
    enlarged = study.make()
    (study.pictures / "train/bee/new.png").unlink()
    assert study.told() not in (enlarged, study.made_from)


def test_a_source_that_is_gone_is_that_of_the_data(study):
    shutil.rmtree(study.pictures)
    assert study.told() == study.made_from
    assert study.told(image_size=32) != study.made_from
    for file in study.files.values():
        file.unlink()
    assert study.told() != study.made_from


def test_what_was_downloaded_meanwhile_is_what_the_data_were_made_from(study):
    away = study.pictures.rename(study.folder / "away")
    for file in study.files.values():
        file.unlink()
    given = study.told()
    away.rename(study.pictures)
    decode_splits_to_files(study.files, study.results / "left_out.csv", study.settings(), 0, {}, given, threads=1)
    assert study.told() == given
    add_a_picture(study.pictures)
    assert study.told() != given


def test_a_zip_file_is_the_folder_that_it_holds(study):
    tiny = study.folder / "tiny-imagenet-200"
    annotations = []
    for label, name in enumerate(("n01", "n02")):
        for number in range(2):
            paint(tiny / f"train/{name}/images/{name}_{number}.JPEG", 20 * label + number)
            paint(tiny / f"val/images/val_{2 * label + number}.JPEG", 20 * label + number)
            annotations.append(f"val_{2 * label + number}.JPEG\t{name}\n")
    (tiny / "wnids.txt").write_text("n01\nn02\n")
    (tiny / "words.txt").write_text("n01\tant\nn02\tbee\n")
    (tiny / "val/val_annotations.txt").write_text("".join(annotations))
    made_from = study.make(tiny, source="tiny-imagenet")
    with zipfile.ZipFile(tiny.with_suffix(".zip"), "w") as archive:
        for file in tiny.rglob("*"):
            archive.write(file, file.relative_to(study.folder))
    assert study.told(tiny.with_suffix(".zip"), source="tiny-imagenet") == made_from
    shutil.rmtree(tiny)
    assert study.told(tiny, source="tiny-imagenet") == made_from  # the zip file beside it
    paint(tiny / "train/n01/images/n01_0.JPEG", 99)
    assert study.told(tiny, source="tiny-imagenet") != made_from


def test_a_source_without_files_has_one_fingerprint(study, no_reading):
    told = [study.told(source="digits", path=path) for path in ("nowhere", study.pictures)]
    assert told[0] == told[1] != study.told(source="digits", seed=1)


# ---- Data files and answers that are not as they were left


def test_data_files_that_do_not_agree_or_tell_nothing_are_stale(study, no_reading):
    with h5py.File(study.files["val"], "a") as file:
        file.attrs["source_fingerprint"] = "another"
    made_with, _ = study.made_from.split(".")
    assert study.told() == study.made_from  # that of the source now, which has not changed
    add_a_picture(study.pictures)
    assert study.told() != study.made_from and study.told().startswith(made_with)
    study.files["train"].write_text("damaged")
    assert study.told().startswith(made_with)


def test_answers_that_are_lost_are_found_again(study):
    copy = shutil.copytree(study.pictures, study.folder / "copy", copy_function=shutil.copy)
    assert study.told(copy) == study.made_from
    answers = study.results / COMPARED
    assert json.loads(answers.read_text())
    for content in ("", "{"):
        answers.write_text(content)
        assert study.told(copy) == study.made_from


def test_a_study_without_data_leaves_nothing(tmp_path, study, no_reading):
    study.files = {split: tmp_path / "new" / f"{split}.h5" for split in SPLITS}
    assert study.told() == study.made_from
    assert not (tmp_path / "new").exists()


# ---- The digest of files


def test_links_to_nothing_and_to_themselves_end(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/nothing").symlink_to("nowhere")
    (tmp_path / "folder/itself").symlink_to("itself")
    before = digest_of_files({"": tmp_path / "folder"})
    (tmp_path / "folder/file").touch()
    assert digest_of_files({"": tmp_path / "folder"}) != before
    assert digest_of_files({"": tmp_path / "nowhere"}) != before


def test_names_sizes_and_times_of_files_count(tmp_path):
    file = tmp_path / "folder/below/file"
    file.parent.mkdir(parents=True)
    told = set()
    for content, time in (("a", 1), ("b", 2), ("ccc", 2)):
        file.write_text(content)
        os.utime(file, (time, time))
        told.add(digest_of_files({"": tmp_path / "folder"}))
    file.rename(file.with_name("other"))
    told.add(digest_of_files({"": tmp_path / "folder"}))
    (tmp_path / "folder/below").rename(tmp_path / "folder/beside")
    told.add(digest_of_files({"": tmp_path / "folder"}))
    assert len(told) == 5
    told.add(digest_of_files({"": tmp_path / "folder/beside/other"}))
    assert len(told) == 6
    assert digest_of_files({"": Path(tmp_path / "folder")}) in told
