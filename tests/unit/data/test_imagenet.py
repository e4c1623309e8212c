"""ImageNet as people have it: every layout is the same pictures in the same classes."""

import io
import os
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from perturbflow.data.fingerprint import digest_of_files
from perturbflow.data.image_list import DataError
from perturbflow.data.imagenet import OFFICIAL_ARCHIVES
from perturbflow.data.sources import SOURCES, list_splits
from perturbflow.planning.image_counts import count_images
from tests.inputs import decode
from tests.unit.data.test_sources import jpeg, settings, write

WORDS = {"n01440764": "tench, Tinca tinca", "n01443537": "goldfish, Carassius auratus", "n02119789": "kit fox"}
NAMES = ["n01440764 tench", "n01443537 goldfish", "n02119789 kit fox"]
DEVKIT_IDS = {"n02119789": 1, "n01440764": 2, "n01443537": 3}  # its own order
TRAIN = {
    name: {f"{name}_{number}.JPEG": jpeg(10 * label + number) for number in (2, 10, 7)}
    for label, name in enumerate(WORDS)
}
VAL_CLASSES = ["n02119789", "n01440764", "n01443537", "n01440764", "n02119789", "n01443537"]
VAL = {f"ILSVRC2012_val_{number:08}.JPEG": jpeg(100 + number) for number in range(1, 7)}


def tar(files: dict[str, bytes], mode: str = "w") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def devkit() -> bytes:
    """With meta.mat, in which a class above the others has children."""
    kind = [(name, "O") for name in ("ILSVRC2012_ID", "WNID", "words", "gloss", "num_children", "children")]
    rows = [(float(DEVKIT_IDS[name]), name, WORDS[name], "", 0.0, []) for name in DEVKIT_IDS]
    rows.append((4.0, "n00001740", "entity", "", 3.0, [1.0, 2.0, 3.0]))
    meta = io.BytesIO()
    savemat(meta, {"synsets": np.array(rows, kind)})
    truth = "".join(f"{DEVKIT_IDS[name]}\n" for name in VAL_CLASSES)
    folder = "ILSVRC2012_devkit_t12/data"
    texts = {"readme.txt": b"", "meta.mat": meta.getvalue(), "ILSVRC2012_validation_ground_truth.txt": truth.encode()}
    return tar({f"{folder}/{name}": content for name, content in texts.items()}, "w:gz")


def train_tar() -> bytes:
    return tar({f"{name}.tar": tar(pictures) for name, pictures in TRAIN.items()})


def kaggle_truth() -> str:
    boxes = [f"{Path(name).stem},{of} 85 1 499 272 " for name, of in zip(VAL, VAL_CLASSES, strict=True)]
    return "\n".join(["ImageId,PredictionString", *reversed(boxes)]) + "\n"


def put(folder: Path, pictures: dict[str, bytes]) -> None:
    for name, content in pictures.items():
        write(folder / name, content)


def put_train(folder: Path) -> None:
    for name, pictures in TRAIN.items():
        put(folder / name, pictures)


def put_sorted_val(folder: Path) -> None:
    for (name, content), of in zip(VAL.items(), VAL_CLASSES, strict=True):
        write(folder / of / name, content)


def archives(root: Path) -> Path:
    write(root / "ILSVRC2012_img_train.tar", train_tar())
    write(root / "ILSVRC2012_img_val.tar", tar(VAL))
    write(root / "ILSVRC2012_devkit_t12.tar.gz", devkit())
    return root


def archives_with_junk(root: Path) -> Path:
    archives(root)
    inner = {f"./{name}.tar": tar({"./._x.JPEG": b"junk", **pictures}) for name, pictures in TRAIN.items()}
    write(root / "ILSVRC2012_img_train.tar", tar({"._n01440764.tar": b"junk", **inner}))
    write(root / "ILSVRC2012_img_val.tar", tar({"./.DS_Store": b"", **{f"./val/{name}": VAL[name] for name in VAL}}))
    return root


def archives_in_the_folders_of_splits(root: Path) -> Path:
    archives(root)
    for split in ("train", "val"):
        (root / split).mkdir()
        shutil.move(root / f"ILSVRC2012_img_{split}.tar", root / split)
    return root


def archives_of_classes(root: Path) -> Path:
    for name, pictures in TRAIN.items():
        write(root / f"train/{name}.tar", tar(pictures))
    write(root / "ILSVRC2012_img_val.tar", tar(VAL))
    write(root / "ILSVRC2012_devkit_t12.tar.gz", devkit())
    return root


def archives_of_classes_beside_that_of_val(root: Path) -> Path:
    archives_of_classes(root)
    for file in (root / "train").iterdir():
        shutil.move(file, root)
    (root / "train").rmdir()
    return root


def archives_half_unpacked(root: Path) -> Path:
    archives_of_classes(root)
    (root / "train/n01440764.tar").unlink()
    put(root / "train/n01440764", TRAIN["n01440764"])
    write(root / "train/n01443537/n01443537_2.JPEG", TRAIN["n01443537"]["n01443537_2.JPEG"])  # broken off
    return root


def kaggle(root: Path) -> Path:
    put_train(root / "ILSVRC/Data/CLS-LOC/train")
    put(root / "ILSVRC/Data/CLS-LOC/val", VAL)
    write(root / "ILSVRC/Data/CLS-LOC/test/ILSVRC2012_test_00000001.JPEG", jpeg(0))
    write(root / "ILSVRC/Annotations/CLS-LOC/val/ILSVRC2012_val_00000001.xml", "<annotation/>")
    write(root / "ILSVRC/ImageSets/CLS-LOC/val.txt", "ILSVRC2012_val_00000001 1\n")
    write(root / "LOC_val_solution.csv", kaggle_truth())
    write(root / "LOC_synset_mapping.txt", "".join(f"{name} {words}\n" for name, words in WORDS.items()))
    return root


def kaggle_ilsvrc(root: Path) -> Path:
    return kaggle(root) / "ILSVRC"


def kaggle_data(root: Path) -> Path:
    return kaggle(root) / "ILSVRC/Data"


def kaggle_cls_loc(root: Path) -> Path:
    return kaggle(root) / "ILSVRC/Data/CLS-LOC"


def folders(root: Path) -> Path:
    put_train(root / "train")
    put_sorted_val(root / "val")
    write(root / "val/n01440764/._ILSVRC2012_val_00000002.JPEG", "junk")
    return root


def flat_val(root: Path) -> Path:
    put_train(root / "train")
    put(root / "val", VAL)
    return root


def unpacked_devkit(root: Path) -> Path:
    with tarfile.open(fileobj=io.BytesIO(devkit())) as archive:
        archive.extractall(flat_val(root), filter="data")
    return root


def texts_of_the_devkit_alone(root: Path) -> Path:
    unpacked_devkit(root)
    for file in (root / "ILSVRC2012_devkit_t12/data").iterdir():
        shutil.move(file, root)
    shutil.rmtree(root / "ILSVRC2012_devkit_t12")
    return root


def val_txt_with_indices(root: Path) -> Path:
    numbers = [list(WORDS).index(name) for name in VAL_CLASSES]
    write(
        flat_val(root) / "val.txt", "".join(f"{name} {number}\r\n" for name, number in zip(VAL, numbers, strict=True))
    )
    return root


def csv_in_the_folder_of_val(root: Path) -> Path:
    lines = [f'"val/{name}","{of}"' for name, of in zip(VAL, VAL_CLASSES, strict=True)]
    write(flat_val(root) / "val/val_labels.csv", "﻿file,label\n" + "\n".join(lines))
    return root


def ids_in_order(root: Path) -> Path:
    write(flat_val(root) / "imagenet_2012_validation_synset_labels.txt", "\n".join(VAL_CLASSES))
    return root


LAYOUTS = [
    archives,
    archives_with_junk,
    archives_in_the_folders_of_splits,
    archives_of_classes,
    archives_of_classes_beside_that_of_val,
    archives_half_unpacked,
    kaggle,
    kaggle_ilsvrc,
    kaggle_data,
    kaggle_cls_loc,
    folders,
    unpacked_devkit,
    texts_of_the_devkit_alone,
    val_txt_with_indices,
    csv_in_the_folder_of_val,
    ids_in_order,
]


def expected(split: str) -> list[tuple[str, str]]:
    """Names of the files and of the classes, in order."""
    of = (
        zip(VAL, VAL_CLASSES, strict=True)
        if split == "val"
        else ((file, name) for name in TRAIN for file in TRAIN[name])
    )
    return sorted(((file, NAMES[list(WORDS).index(name)]) for file, name in of), key=lambda pair: (pair[1], pair[0]))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_pictures_in_the_same_classes(layout, tmp_path):
    splits = list_splits(settings("imagenet", layout(tmp_path / "imagenet")), 0)
    assert list(splits) == ["train", "val"]
    contents = {**VAL, **{file: content for pictures in TRAIN.values() for file, content in pictures.items()}}
    for split, images in splits.items():
        assert images.class_names == NAMES
        found = [(name.split("/")[-1], NAMES[label]) for name, label in zip(images.ids, images.labels, strict=True)]
        assert found == expected(split)
        decoded = decode(images, 64, threads=2)
        for row, (file, _) in enumerate(found):
            original = decode_bytes(contents[file])
            np.testing.assert_array_equal(decoded.images[row], original)


def decode_bytes(content: bytes) -> np.ndarray:
    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(content)))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_val_needs_nothing_of_train(layout, tmp_path):
    path = layout(tmp_path / "imagenet")
    for file in sorted(tmp_path.rglob("*train*")):
        shutil.rmtree(file) if file.is_dir() else file.unlink(missing_ok=True)
    for file in sorted(tmp_path.rglob("n*.tar")):
        file.unlink()
    if layout is val_txt_with_indices:  # which classes are counted, is no longer told by train/
        write(path / "synset_words.txt", "".join(f"{name} {words}\n" for name, words in WORDS.items()))
    images = list_splits(settings("imagenet", path, splits=["val"]), 0)["val"]
    assert images.class_names == NAMES
    assert [name.split("/")[-1] for name in images.ids] == [file for file, _ in expected("val")]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_sizes_are_told_without_opening_archives(layout, tmp_path):
    sizes = SOURCES["imagenet"].class_sizes(settings("imagenet", layout(tmp_path / "imagenet")))
    has_folders = any((tmp_path / "imagenet").rglob("train/n0*/"))
    assert sizes.n_classes in ((3, 2) if has_folders else (1000,))
    assert not sizes.all_equal and sizes.largest["train"] >= 3 and sizes.largest["val"] >= 2


def test_the_official_archives_are_counted_without_being_listed(tmp_path):
    data = settings("imagenet", tmp_path)
    for split, (n_bytes, n_pictures) in OFFICIAL_ARCHIVES.items():
        with open(tmp_path / f"ILSVRC2012_img_{split}.tar", "wb") as file:
            file.truncate(n_bytes)  # a hole
        assert count_images(tmp_path / "none.h5", {}, data, 0, split) == n_pictures
    put_train(tmp_path / "train")  # is read in its place
    write(tmp_path / "ILSVRC2012_img_val.tar", tar(VAL))
    write(tmp_path / "ILSVRC2012_devkit_t12.tar.gz", devkit())
    assert [count_images(tmp_path / "none.h5", {}, data, 0, split) for split in ("train", "val")] == [9, 6]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_edit_of_whatever_is_read_is_seen(layout, tmp_path):
    data = settings("imagenet", layout(tmp_path / "imagenet"))
    seen = {digest_of_files(SOURCES["imagenet"].files(data))}
    passed_over = {"test", "Annotations", "ImageSets", "readme.txt"}
    read = [file for file in sorted(tmp_path.rglob("[!.]*")) if file.is_file() and not passed_over & {*file.parts}]
    for file in read:
        os.utime(file, (1, 1))
        seen.add(digest_of_files(SOURCES["imagenet"].files(data)))
    assert len(seen) == len(read) + 1


def test_names_are_those_of_timm_where_the_data_set_has_none(tmp_path):
    images = list_splits(settings("imagenet", folders(tmp_path)), 0)["val"]
    assert images.class_names == NAMES
    assert not list(tmp_path.rglob("*.txt"))


REFUSED = {
    "nothing": (
        lambda root: root.mkdir(),
        FileNotFoundError,
        r"is not a folder with ILSVRC2012_img_train\.tar.*it is empty",
    ),
    "nowhere": (lambda root: None, FileNotFoundError, r"imagenet \(data\.path\) does not exist"),
    "compressed": (
        lambda root: write(root / "imagenet_object_localization_patched2019.tar.gz", b"x"),
        FileNotFoundError,
        r"Unpack imagenet_object_localization_patched2019\.tar\.gz",
    ),
    "truth missing": (
        flat_val,
        FileNotFoundError,
        r"val holds pictures in no class folder, such as .*00000001\.JPEG, and nothing tells their classes: put "
        r"ILSVRC2012_devkit_t12\.tar\.gz, LOC_val_solution\.csv, or a val\.txt",
    ),
    "two truths": (
        lambda root: (ids_in_order(root), write(root / "val.txt", "x n01440764")),
        DataError,
        r"might all tell the classes",
    ),
    "a picture more": (
        lambda root: write(kaggle(root) / "ILSVRC/Data/CLS-LOC/val/ILSVRC2012_val_00000099.JPEG", jpeg(0)),
        DataError,
        r"LOC_val_solution\.csv has no line for ILSVRC2012_val_00000099\.JPEG",
    ),
    "a picture less": (
        lambda root: (kaggle(root) / "ILSVRC/Data/CLS-LOC/val/ILSVRC2012_val_00000003.JPEG").unlink(),
        FileNotFoundError,
        r"val lacks 1 pictures of .*LOC_val_solution\.csv, such as ILSVRC2012_val_00000003",
    ),
    "numbers without their meaning": (
        lambda root: (texts_of_the_devkit_alone(root) / "meta.mat").unlink(),
        FileNotFoundError,
        r"numbers the classes as the devkit's meta\.mat does, which is not there",
    ),
    "numbers in order": (
        lambda root: write(flat_val(root) / "val_labels.txt", "0\n1\n2\n0\n1\n2\n"),
        DataError,
        r"val_labels\.txt: '0' gives no class that can be told",
    ),
    "numbers from 1": (
        lambda root: write(flat_val(root) / "val.txt", "".join(f"{name} 3\n" for name in VAL)),
        DataError,
        r"val\.txt: 'ILSVRC2012_val_00000001\.JPEG 3' gives no class .* of which 3 are known",
    ),
    "a class less": (
        lambda root: shutil.rmtree(folders(root) / "train/n01443537"),
        DataError,
        r"train has no class n01443537, which .*val has",
    ),
    "other names": (
        lambda root: [write(root / f"{split}/cat/0.JPEG", jpeg(0)) for split in ("train", "val")],
        DataError,
        r"train/cat/0\.JPEG lies below no WordNet id",
    ),
    "validation": (
        lambda root: shutil.move(folders(root) / "val", root / "validation"),
        FileNotFoundError,
        r"holds no val/, but validation/: rename that to val, or link to it: ln -s validation val",
    ),
    "half downloaded": (
        lambda root: write(archives(root) / "ILSVRC2012_img_val.tar", tar(VAL)[:3000]),
        DataError,
        r"ILSVRC2012_img_val\.tar is not a whole tar archive .*unexpected end of data",
    ),
    "zip": (
        lambda root: write(root, b"x"),
        FileNotFoundError,
        r"imagenet \(data\.path\) is a file; it must be a folder with ILSVRC2012_img_train\.tar",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_read_is_refused_with_the_way_out(case, tmp_path):
    make, error, message = REFUSED[case]
    make(tmp_path / "imagenet")
    with pytest.raises(error, match=message):
        list_splits(settings("imagenet", tmp_path / "imagenet"), 0)
