"""TinyImageNet in the layouts in which it circulates: all of them are the same images."""

import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

from perturbflow.data.image_list import DataError
from perturbflow.data.sources import list_splits
from tests.inputs import decode
from tests.unit.data.test_sources import jpeg, settings, write

WORDS = {"n01443537": "goldfish, Carassius auratus", "n01629819": "European fire salamander", "n01641577": "bullfrog"}
N_TRAIN, N_VAL = 4, 2


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """Three classes in the layout of the official zip file."""
    root = tmp_path / "tiny-imagenet-200"
    write(root / "wnids.txt", "".join(f"{name}\n" for name in reversed(WORDS)))
    write(root / "words.txt", "".join(f"{name}\t{words}\n" for name, words in WORDS.items()))
    write(root / "test/images/test_0.JPEG", jpeg(0))
    annotations = []
    for label, name in enumerate(WORDS):
        write(root / f"train/{name}/{name}_boxes.txt", f"{name}_0.JPEG\t0\t10\t63\t58\n")
        for image in range(N_TRAIN):
            write(root / f"train/{name}/images/{name}_{image}.JPEG", jpeg(10 * label + image))
        for image in range(N_VAL):
            write(root / f"val/images/val_{3 * image + label}.JPEG", jpeg(100 + 10 * label + image))
            annotations.append(f"val_{3 * image + label}.JPEG\t{name}\t0\t0\t62\t62\n")
    write(root / "val/val_annotations.txt", "".join(annotations))
    return root


def taken(path: Path, **others: object) -> dict[str, tuple[list[str], list[int], list[str], np.ndarray]]:
    """What a study takes of each split: names of files, labels, names of classes and pixels."""
    splits = list_splits(settings("tiny-imagenet", path, **others), 0)
    decoded = {split: decode(images, 64) for split, images in splits.items()}
    return {
        split: ([name.split("/")[-1] for name in one.ids], one.labels.tolist(), one.class_names, one.images)
        for split, one in decoded.items()
    }


def sort_val(root: Path, below: str = "", copy: bool = False) -> None:
    """As scripts do it that everybody copies."""
    for line in (root / "val/val_annotations.txt").read_text().splitlines():
        file, name, *_ = line.split("\t")
        folder = root / "val" / name / below
        folder.mkdir(parents=True, exist_ok=True)
        (shutil.copy if copy else shutil.move)(root / "val/images" / file, folder / file)


def sorted_without_annotations(root: Path) -> Path:
    sort_val(root)
    (root / "val/val_annotations.txt").unlink()
    shutil.rmtree(root / "val/images")
    return root


def sorted_with_annotations(root: Path) -> Path:
    sort_val(root, "images")
    return root


def copied_into_class_folders(root: Path) -> Path:
    sort_val(root, copy=True)
    return root


def val_without_images_folder(root: Path) -> Path:
    for file in (root / "val/images").iterdir():
        shutil.move(file, root / "val" / file.name)
    (root / "val/images").rmdir()
    return root


def train_without_images_folders(root: Path) -> Path:
    for name in WORDS:
        for file in (root / f"train/{name}/images").iterdir():
            shutil.move(file, root / "train" / name / file.name)
        (root / f"train/{name}/images").rmdir()
        (root / f"train/{name}/{name}_boxes.txt").unlink()
    return root


def folder_around_it(root: Path) -> Path:
    outer = root.parent / "download/tiny"
    shutil.move(root, outer / "tiny-imagenet-200")
    return outer.parent


def unpacked_twice(root: Path) -> Path:
    shutil.copytree(root, root.parent / "copy")
    shutil.move(root.parent / "copy", root / "tiny-imagenet-200")
    return root


def with_junk_of_a_mac(root: Path) -> Path:
    for folder in (root, root / "val/images", *(root / "train").iterdir()):
        write(folder / ".DS_Store", "junk")
        write(folder / "._val_0.JPEG", "junk")
    write(root / "__MACOSX/train/._n01443537", "junk")
    return root


def windows_texts(root: Path) -> Path:
    for file in ("wnids.txt", "words.txt", "val/val_annotations.txt"):
        write(root / file, b"\xef\xbb\xbf" + (root / file).read_bytes().replace(b"\n", b"\r\n"))
    return root


def without_wnids(root: Path) -> Path:
    (root / "wnids.txt").unlink()
    return root


def pack(root: Path, prefix: str, folders: bool = False) -> Path:
    file = root.parent / "packed.zip"
    with zipfile.ZipFile(file, "w") as archive:
        for path in sorted(root.rglob("*")):
            if folders or path.is_file():
                archive.write(path, f"{prefix}{path.relative_to(root).as_posix()}")
    shutil.rmtree(root)
    return file


def zip_of_a_mac(root: Path) -> Path:
    file = pack(root, "tiny-imagenet-200/", folders=True)
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("__MACOSX/tiny-imagenet-200/._wnids.txt", "junk")
        archive.writestr("__MACOSX/tiny-imagenet-200/train/n01443537/images/._n01443537_0.JPEG", "junk")
        archive.writestr("tiny-imagenet-200/.DS_Store", "junk")
        archive.writestr("tiny-imagenet-200/train/.DS_Store", "junk")
    return file


def zip_of_a_folder_around_it(root: Path) -> Path:
    return pack(sorted_without_annotations(root), "data/tiny-imagenet-200/")


def zip_with_backslashes(root: Path) -> Path:
    file = root.parent / "packed.zip"
    with zipfile.ZipFile(file, "w") as archive:
        for path in sorted(path for path in root.rglob("*") if path.is_file()):
            archive.writestr(str(path.relative_to(root.parent)).replace("/", "\\"), path.read_bytes())
    shutil.rmtree(root)
    return file


def folder_with_the_zip(root: Path) -> Path:
    file = pack(root, "tiny-imagenet-200/")
    (root.parent / "download").mkdir()
    shutil.move(file, root.parent / "download/tiny-imagenet-200.zip")
    return root.parent / "download"


@pytest.mark.parametrize(
    "layout",
    [
        sorted_without_annotations,
        sorted_with_annotations,
        copied_into_class_folders,
        val_without_images_folder,
        train_without_images_folders,
        folder_around_it,
        unpacked_twice,
        with_junk_of_a_mac,
        windows_texts,
        without_wnids,
        zip_of_a_mac,
        zip_of_a_folder_around_it,
        zip_with_backslashes,
        folder_with_the_zip,
    ],
)
def test_every_layout_gives_the_same_images(tiny, layout):
    expected = taken(tiny)
    assert expected["train"][2] == ["n01443537 goldfish", "n01629819 European fire salamander", "n01641577 bullfrog"]
    found = taken(layout(tiny))
    for split in ("train", "val"):
        assert found[split][:3] == expected[split][:3]
        np.testing.assert_array_equal(found[split][3], expected[split][3])


def test_classes_that_the_data_set_does_not_name_have_the_names_of_timm(tiny):
    (tiny / "words.txt").unlink()
    for path in (*tiny.rglob("*01641577*"), tiny / "wnids.txt", tiny / "val/val_annotations.txt"):
        if path.is_file() and path.suffix == ".txt":
            path.write_text(path.read_text().replace("n01641577", "n99999999"))
    (tiny / "train/n01641577").rename(tiny / "train/n99999999")
    names = list_splits(settings("tiny-imagenet", tiny), 0)["val"].class_names
    assert names == ["n01443537 goldfish", "n01629819 European fire salamander", "n99999999"]


@pytest.mark.parametrize("layout", [sorted_without_annotations, without_wnids, None])
def test_one_split_needs_nothing_of_the_other(tiny, layout):
    expected = taken(tiny)
    root = layout(tiny) if layout else tiny
    shutil.move(root / "train", root.parent / "train")
    assert list(taken(root, splits=["val"])) == ["val"]
    assert taken(root, splits=["val"])["val"][:3] == expected["val"][:3]
    shutil.rmtree(root / "val")
    shutil.move(root.parent / "train", root / "train")
    assert taken(root, splits=["train"])["train"][:3] == expected["train"][:3]


def test_several_data_sets_in_one_folder_are_named(tiny):
    shutil.copytree(tiny, tiny.parent / "tiny-imagenet-200 (1)")
    with pytest.raises(DataError, match=r"several data sets, in tiny-imagenet-200, tiny-imagenet-200 \(1\): name one"):
        list_splits(settings("tiny-imagenet", tiny.parent), 0)


def test_a_text_in_utf_16_is_named(tiny):
    write(tiny / "wnids.txt", (tiny / "wnids.txt").read_text().encode("utf-16"))
    with pytest.raises(DataError, match=r"tiny-imagenet-200/wnids\.txt is not a text in UTF-8"):
        list_splits(settings("tiny-imagenet", tiny), 0)


def test_another_data_set_is_told_from_it(tmp_path):
    write(tmp_path / "hub/data/train-00000-of-00001.parquet", "x")
    write(tmp_path / "pictures/training/cat/0.jpg", jpeg(0))
    with pytest.raises(FileNotFoundError, match=r"it holds data/\. It holds parquet files: write source: parquet"):
        list_splits(settings("tiny-imagenet", tmp_path / "hub"), 0)
    with pytest.raises(FileNotFoundError, match="a folder train/: it holds training/"):
        list_splits(settings("tiny-imagenet", tmp_path / "pictures"), 0)
