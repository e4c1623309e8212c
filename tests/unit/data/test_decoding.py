"""From listed images to data files: what is decoded, what is told, and what is left out."""

import csv
import hashlib
import io
import json
import os
import sys
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from perturbflow.data import decoding
from perturbflow.data.decoding import decode_splits_to_files
from perturbflow.data.image_list import DataError, ImageList
from perturbflow.data.sources import list_splits
from perturbflow.files.images import open_images, read_split
from perturbflow.files.whole import sha256
from tests.inputs import decode

N_IMAGES = {"train": 4, "val": 2}


def picture(seed, size=(24, 24), mode="RGB", form="PNG"):
    """What the file of a random picture holds."""
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, form)
    return buffer.getvalue()


@pytest.fixture
def folder(tmp_path):
    """Pictures of two classes."""
    root = tmp_path / "pictures"
    for split, n_images in N_IMAGES.items():
        for label, name in enumerate(("ant", "bee")):
            (root / split / name).mkdir(parents=True)
            for image in range(n_images):
                (root / split / name / f"{image}.png").write_bytes(picture(100 * (split == "val") + 10 * label + image))
    return root


def settings(folder, **others):
    return {
        "source": "image-folder",
        "path": str(folder),
        "download": False,
        "on_error": "fail",
        "image_size": 16,
        "classes": None,
        "images_per_class": {"train": None, "val": None},
    } | others


def make(folder, results, threads=2, **others):
    """The data files of a folder, by split, and the rows of left_out.csv."""
    files = {split: results / f"{split}.h5" for split in N_IMAGES}
    data = settings(folder, **others)
    decode_splits_to_files(files, results / "left_out.csv", data, 0, {"on_error": data["on_error"]}, "1a.2b", threads)
    with open(results / "left_out.csv", newline="") as file:
        return files, list(csv.reader(file))


def images_of(names, read_bytes):
    return ImageList("it", names, np.zeros(len(names), np.int64), ["a"], read_bytes)


# ---- Pixels


def test_grayscale_is_repeated_and_alpha_dropped(folder):
    (folder / "train/ant/0.png").write_bytes(picture(3, mode="L"))
    Image.new("RGBA", (32, 32), (10, 20, 30, 0)).save(folder / "train/ant/1.png")
    split = decode(list_splits(settings(folder), 0)["train"], 32)
    gray = split.images[0]
    np.testing.assert_array_equal(gray, np.repeat(gray[..., :1], 3, axis=-1))
    assert gray.std() > 0
    assert (split.images[1] == (10, 20, 30)).all()


def test_threads_change_nothing(folder, monkeypatch):
    monkeypatch.setattr(decoding, "IMAGES_PER_TASK", 2)
    images = list_splits(settings(folder), 0)["train"]
    np.testing.assert_array_equal(decode(images, 16, threads=1).images, decode(images, 16, threads=4).images)


def test_a_thread_holds_few_images_where_they_are_large(folder, monkeypatch):
    images = list_splits(settings(folder), 0)["train"]
    stacked = []
    monkeypatch.setattr(decoding, "BYTES_PER_TASK", 2 * 3 * 24**2)
    monkeypatch.setattr(
        decoding.np, "stack", lambda arrays, stack=np.stack: stacked.append(len(arrays)) or stack(arrays)
    )
    for size, most in {24: 2, 100: 1}.items():
        stacked.clear()
        decode(images, size)
        assert max(stacked) == most and sum(stacked) == len(images.ids)


# ---- Files


def test_the_files_hold_what_is_listed_and_decoded(folder, tmp_path):
    files, left_out = make(folder, tmp_path / "data")
    for split, images in list_splits(settings(folder), 0).items():
        stored, decoded = read_split(files[split]), decode(images, 16)
        np.testing.assert_array_equal(stored.images, decoded.images)
        np.testing.assert_array_equal(stored.labels, decoded.labels)
        assert (stored.ids, stored.class_names) == (decoded.ids, decoded.class_names)
    assert left_out == [["split", "file", "reason"]]


def test_a_file_tells_what_it_was_made_from(folder, tmp_path):
    files, _ = make(folder, tmp_path / "data")
    with h5py.File(files["val"]) as file:
        attributes = dict(file.attrs)
        ids = file["id"].asstr()[:].tolist()
    assert json.loads(attributes["config"]) == {"data": {"on_error": "fail"}, "seed": 0}
    assert attributes["source_fingerprint"] == "1a.2b"
    assert attributes["listed_sha256"] == list_splits(settings(folder), 0)["val"].listed_sha256()
    digests = [hashlib.sha256((folder / name).read_bytes()).digest() for name in ids]
    assert attributes["pictures_sha256"] == hashlib.sha256(b"".join(digests)).hexdigest()


@pytest.mark.parametrize("on_error", ["fail", "skip"])
def test_equal_pictures_give_equal_files(folder, tmp_path, on_error, monkeypatch):
    monkeypatch.setattr(decoding, "IMAGES_PER_TASK", 2)
    (folder / "train/ant/0.png").write_bytes(picture(0) if on_error == "fail" else b"bad")
    one, _ = make(folder, tmp_path / "one", threads=1, on_error=on_error)
    other, _ = make(folder, tmp_path / "other", threads=4, on_error=on_error)
    for split in N_IMAGES:
        assert sha256(one[split]) == sha256(other[split])


# ---- What cannot be decoded


def test_all_pictures_that_cannot_be_decoded_are_told_at_once(folder, tmp_path):
    for name, content in {"train/ant/1.png": b"no picture", "train/bee/3.png": b"", "val/bee/0.png": b"%!PS"}.items():
        (folder / name).write_bytes(content)
    Image.fromarray(np.full((9, 9), 40_000, np.uint16)).save(folder / "train/ant/2.png")
    with pytest.raises(DataError, match=r"^Pictures that cannot be decoded: 4\. .* data\.on_error: skip") as error:
        make(folder, tmp_path / "data")
    assert str(error.value).splitlines()[1:] == [
        f"{folder}/train/ant/1.png: in no format of a picture",
        f"{folder}/train/ant/2.png: over 8 bits a channel (I;16); convert it to 8 bits",
        f"{folder}/train/bee/3.png: an empty file",
        f"{folder}/val/bee/0.png: in no format of a picture",
    ]
    assert not list((tmp_path / "data").iterdir())


def test_a_message_names_twenty(folder, tmp_path):
    for number in range(25):
        (folder / f"train/ant/x{number:02}.png").write_text("no picture")
    with pytest.raises(DataError) as error:
        make(folder, tmp_path / "data")
    lines = str(error.value).splitlines()
    assert lines[0].startswith("Pictures that cannot be decoded: 25.")
    assert len(lines) == 22 and lines[-1] == "and 5 more"


def test_what_cannot_be_decoded_is_skipped_and_named(folder, tmp_path):
    files, _ = make(folder, tmp_path / "whole")
    whole = read_split(files["train"])
    (folder / "train/ant/1.png").write_text("no picture")
    (folder / "val/bee/0.png").write_bytes((folder / "val/bee/0.png").read_bytes()[:90])
    files, left_out = make(folder, tmp_path / "data", on_error="skip")
    train, val = (read_split(files[split]) for split in N_IMAGES)
    np.testing.assert_array_equal(train.images, np.delete(whole.images, 1, axis=0))
    np.testing.assert_array_equal(open_images(files["train"])[:], train.images)
    assert train.labels.tolist() == [0] * 3 + [1] * 4 and val.labels.tolist() == [0, 0, 1]
    assert train.ids == [name for name in whole.ids if name != "train/ant/1.png"]
    assert [row[:2] for row in left_out[1:]] == [["train", "train/ant/1.png"], ["val", "val/bee/0.png"]]
    assert left_out[1][2] == "in no format of a picture" and left_out[2][2]
    assert files["train"].stat().st_size < whole.images.nbytes + 20_000


def test_a_skipped_picture_that_is_mended_is_another_source(folder, tmp_path):
    told = []
    for content in (b"no picture", b"nor this"):
        (folder / "train/ant/1.png").write_bytes(content)
        files, _ = make(folder, tmp_path / "data", on_error="skip")
        with h5py.File(files["train"]) as file:
            told.append((file.attrs["listed_sha256"], file.attrs["pictures_sha256"]))
    assert told[0][0] == told[1][0] and told[0][1] != told[1][1]


def test_a_class_that_loses_all_its_images_is_refused(folder, tmp_path):
    for number in range(N_IMAGES["val"]):
        (folder / f"val/bee/{number}.png").write_text("no picture")
    with pytest.raises(DataError, match=r"no image of class bee is left, such as val/bee/0\.png"):
        make(folder, tmp_path / "data", on_error="skip")
    assert not list((tmp_path / "data").iterdir())


@pytest.mark.parametrize("on_error", ["fail", "skip"])
def test_a_file_that_cannot_be_read_is_no_picture_to_skip(folder, tmp_path, on_error):
    (folder / "train/ant/x.png").symlink_to("nowhere")
    with pytest.raises(DataError, match=r"train/ant/x\.png cannot be read \(.*No such file"):
        make(folder, tmp_path / "data", on_error=on_error)


@pytest.mark.skipif(sys.platform == "darwin", reason="file names are Unicode there")
def test_names_that_are_no_text_are_told(folder, tmp_path):
    picture, other = (
        Path(os.fsdecode(os.fsencode(folder / "train/ant") + name)) for name in (b"/\xff.png", b"/\xff.txt")
    )
    (folder / "train/ant/0.png").rename(picture)
    with pytest.raises(DataError, match=r"the name 'train/ant/\\udcff\.png' is not in UTF-8; rename it"):
        make(folder, tmp_path / "data")
    picture.rename(other)
    assert make(folder, tmp_path / "data")[1][1][1] == "train/ant/\\udcff.txt"


def test_a_damaged_member_of_an_archive_is_named(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("0.png", picture(0))
    content = bytearray((tmp_path / "a.zip").read_bytes())
    content[200:208] = bytes(8)
    (tmp_path / "a.zip").write_bytes(content)
    with zipfile.ZipFile(tmp_path / "a.zip") as archive, pytest.raises(DataError, match=r"it/0\.png cannot be read"):
        decode(images_of(["0.png"], archive.read), 16)


# ---- What is no picture


def test_other_files_in_the_class_folders_are_named(folder, tmp_path, caplog):
    for name in (
        "train/ant/notes.txt",
        "train/ant/.hidden",
        "train/bee/film.mp4",
        "train/bee/more.mp4",
        "val/ant/README",
    ):
        (folder / name).write_text("something")
    (folder / "train/ant/below").mkdir()
    (folder / "train/ant/below/page.pdf").write_text("something")
    (folder / "about.txt").write_text("something")
    files, left_out = make(folder, tmp_path / "data")
    assert left_out[1:] == [
        ["train", "train/ant/below/page.pdf", ".pdf is no suffix of a picture"],
        ["train", "train/ant/notes.txt", ".txt is no suffix of a picture"],
        ["train", "train/bee/film.mp4", ".mp4 is no suffix of a picture"],
        ["train", "train/bee/more.mp4", ".mp4 is no suffix of a picture"],
        ["val", "val/ant/README", "no suffix"],
    ]
    assert len(read_split(files["train"]).ids) == 2 * N_IMAGES["train"]
    assert "Files left out: 2 (.mp4 is no suffix of a picture), such as train/bee/film.mp4" in caplog.messages


def test_a_class_of_other_files_alone_says_which(folder, tmp_path):
    for number in range(N_IMAGES["train"]):
        (folder / f"train/bee/{number}.png").rename(folder / f"train/bee/{number}.svg")
    with pytest.raises(
        DataError, match=r"no images of class bee in train; .* Left out are train/bee/0\.svg \(\.svg is no"
    ):
        make(folder, tmp_path / "data")
