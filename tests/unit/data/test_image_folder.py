"""What the source `image-folder` says of folders that are nearly what it reads, and what else it reads."""

import shutil
import zipfile
from pathlib import Path

import pytest

from perturbflow.data.image_list import DataError
from perturbflow.data.sources import list_splits
from tests.unit.data.test_sources import jpeg, settings, write


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    root = tmp_path / "pictures"
    for split, n_images in (("train", 3), ("val", 2)):
        for name in ("ant", "cat"):
            for image in range(n_images):
                write(root / split / name / f"{image}.jpg", jpeg(image))
    return root


def listed(path: Path, **others: object) -> dict[str, list[str]]:
    return {split: images.ids for split, images in list_splits(settings("image-folder", path, **others), 0).items()}


@pytest.mark.parametrize("split", ["train", "val"])
def test_one_split_needs_nothing_of_the_other(split, pictures):
    expected = listed(pictures)[split]
    for other in {"train", "val"} - {split}:
        shutil.rmtree(pictures / other)
    assert listed(pictures, splits=[split]) == {split: expected}


@pytest.mark.parametrize("prefix", ["", "pictures/", "set/pictures/"])
def test_a_zip_file_is_read_as_it_is(prefix, pictures):
    expected = listed(pictures)
    file = pictures.with_suffix(".zip")
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("__MACOSX/train/cat/._0.jpg", "junk")
        for path in pictures.rglob("*.jpg"):
            archive.write(path, prefix + path.relative_to(pictures).as_posix())
    assert listed(file) == expected


@pytest.mark.parametrize(
    ("split", "found"),
    [
        ("val", "validation"),
        ("val", "valid"),
        ("val", "test"),
        ("val", "Val"),
        ("val", "val_images"),
        ("train", "training"),
        ("train", "TRAIN"),
    ],
)
def test_a_split_of_another_name_is_told(split, found, pictures):
    (pictures / split).rename(pictures / found)
    message = rf"pictures holds no {split}/, but {found}/: rename that to {split}, or link to it: ln -s {found} {split}"
    with pytest.raises(FileNotFoundError, match=message):
        listed(pictures)
    (pictures / split).symlink_to(found)
    assert len(listed(pictures)["train"]) == 6


def test_of_several_names_the_likeliest_is_told(pictures):
    (pictures / "val").rename(pictures / "test")
    shutil.copytree(pictures / "test", pictures / "valid")
    with pytest.raises(FileNotFoundError, match="holds no val/, but valid/"):
        listed(pictures)


def hold_parquet(pictures: Path) -> Path:
    write(pictures.parent / "hub/data/train-00000-of-00001.parquet", "x")
    return pictures.parent / "hub"


def hold_tiny_imagenet(pictures: Path) -> Path:
    for file in list((pictures / "val").rglob("*.jpg")):
        write(pictures / "val/images" / f"{file.parent.name}_{file.name}", jpeg(0))
    for name in ("ant", "cat"):
        shutil.rmtree(pictures / "val" / name)
    return pictures


def hold_imagenet(pictures: Path) -> Path:
    write(pictures.parent / "imagenet/ILSVRC2012_img_val.tar", "x")
    return pictures.parent / "imagenet"


def hold_classes_alone(pictures: Path) -> Path:
    return pictures / "train"


def be_around(pictures: Path) -> Path:
    return pictures.parent


def be_an_archive(pictures: Path) -> Path:
    write(pictures.parent / "pictures.rar", "x")
    return pictures.parent / "pictures.rar"


def hold_an_archive(pictures: Path) -> Path:
    write(pictures.parent / "download/pictures.tar.gz", "x")
    return pictures.parent / "download"


def be_a_zip_of_something_else(pictures: Path) -> Path:
    with zipfile.ZipFile(pictures.parent / "other.zip", "w") as archive:
        archive.writestr("papers/one.pdf", "x")
    return pictures.parent / "other.zip"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (hold_parquet, "It holds parquet files: write source: parquet"),
        (hold_tiny_imagenet, "no class folders but images/; of TinyImageNet write source: tiny-imagenet"),
        (hold_imagenet, "It looks like ImageNet: write source: imagenet"),
        (hold_classes_alone, r"train/<class>/ and val/<class>/: it holds ant/, cat/\."),
        (be_around, r"it holds pictures/\. Write path: .*/pictures$"),
        (be_an_archive, r"is a file; it must be a folder, or a zip file of one"),
        (hold_an_archive, r"Unpack pictures\.tar\.gz"),
        (be_a_zip_of_something_else, r"it holds papers/\."),
    ],
)
def test_what_is_not_read_is_refused_with_the_way_out(make, message, pictures):
    with pytest.raises((FileNotFoundError, DataError), match=message):
        listed(make(pictures))
