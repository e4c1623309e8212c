"""The sources that a study's clean images come from; each lists the images of both splits without decoding any.

The workflow asks here before every job what a source says of itself: Pillow and scikit-learn are imported where images
are opened.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from perturbflow.data.download import RemoteFile, download
from perturbflow.data.image_list import SPLITS, DataError, ImageList, take_subset
from perturbflow.data.tree import Tree, open_tree

TINY_IMAGENET = RemoteFile(
    "http://cs231n.stanford.edu/tiny-imagenet-200.zip", 248_100_043, "90528d7ca1a48142e341f4ef8d21d0de"
)


def list_splits(data: Mapping[str, Any], seed: int) -> dict[str, ImageList]:
    """The images that a study takes, {"train": ..., "val": ...}, with the same classes in both.

    data: the config's `data`. The draw depends on `seed`, on the classes and on the ids alone, not on the
    order of files on disk. For one seed, a smaller subset is part of every larger one.
    Raises FileNotFoundError or DataError, naming the file, class or key, where the source breaks its layout
    or holds fewer classes or images than `data.classes` and `data.images_per_class` ask for.
    """
    splits = SOURCES[data["source"]].list_images(data, seed)
    return {
        split: take_subset(images, split, data["classes"], data["images_per_class"][split], seed)
        for split, images in splits.items()
    }


def data_slice(data: Mapping[str, Any]) -> dict[str, Any]:
    """What the images depend on of the config's `data`: not where they lie, which is one thing wherever it is."""
    return {key: value for key, value in data.items() if key not in ("download", "path")}


@dataclass(frozen=True)
class ClassSizes:
    """How many images a source has.

    largest: images of its largest class, by split. all_equal: whether each of its classes has as many.
    """

    n_classes: int
    largest: Mapping[str, int]
    all_equal: bool = False


@dataclass(frozen=True)
class Source:
    """A source of images, and what has to be known of it before they are there.

    list_images: takes the config's `data` and the seed, and lists all images of both splits.
    class_sizes: takes the config's `data` and tells the sizes within a moment, however many images there are.
    needs_path: whether `data.path` has to be given.
    files: takes the config's `data` and tells the files that the images come from, and folders that hold such, each by
        a name that is the same wherever it lies.
    download_bytes: what it downloads where it is not there yet and `data.download` allows.
    """

    list_images: Callable[[Mapping[str, Any], int], dict[str, ImageList]]
    class_sizes: Callable[[Mapping[str, Any]], ClassSizes]
    needs_path: bool = True
    files: Callable[[Mapping[str, Any]], dict[str, Path]] = lambda data: {"": Path(data["path"])}
    download_bytes: int = 0


def tiny_imagenet(data: Mapping[str, Any], seed: int) -> dict[str, ImageList]:
    """TinyImageNet: 200 classes, 500 training and 50 validation images each, 64x64.

    `data.path` is the unpacked folder or the official zip file, which is read as it is. Where it does not
    exist, a tiny-imagenet-200.zip beside it is used, and downloaded first if `data.download` allows.
    The classes are in the order of their sorted WordNet ids, unlike wnids.txt. A class name is its WordNet
    id and its first synonym in words.txt: "n01443537 goldfish". An image's id is its path in the folder.
    """
    path = Path(data["path"])
    tree = open_tree(_find_tiny_imagenet(path, data["download"]))
    wordnet_ids = sorted(tree.lines("wnids.txt"))
    train = _group_by_class(tree, "train")
    _match_classes(train, wordnet_ids, f"{tree.name}/train", "wnids.txt")
    validation: dict[str, list[str]] = {wordnet_id: [] for wordnet_id in wordnet_ids}
    annotations = _read_annotations(tree)
    for file in tree.images("val"):
        wordnet_id = annotations.pop(PurePosixPath(file).name, None)
        if wordnet_id is None:
            raise DataError(f"{tree.name}/{file} has no line in val/val_annotations.txt; remove it or add the line.")
        if wordnet_id not in validation:
            raise DataError(
                f"{tree.name}/val/val_annotations.txt gives {file} the class {wordnet_id}, which is not in wnids.txt."
            )
        validation[wordnet_id].append(file)
    if annotations:
        raise FileNotFoundError(
            f"{tree.name}/val/images lacks {len(annotations)} images of val_annotations.txt, "
            f"such as {next(iter(annotations))}; unpack the data set again."
        )
    class_names = _name_classes(tree, wordnet_ids)
    groups = {"train": train, "val": validation}
    # Annotations and boxes are the data set's own.
    left_out = {
        split: {file: why for file, why in tree.left_out(split).items() if not file.endswith(".txt")}
        for split in SPLITS
    }
    return {split: _list_images(tree, split, groups[split], class_names, left_out[split]) for split in SPLITS}


def image_folder(data: Mapping[str, Any], seed: int) -> dict[str, ImageList]:
    """Pictures in `data.path`, in a folder for each split and class: train/<class>/..., val/<class>/...

    The classes are in the order of their sorted folder names. An image's id is its path in `data.path`.
    Files without the suffix of a picture are left out, hidden ones without a word.
    """
    path = Path(data["path"])
    if not path.is_dir():
        raise FileNotFoundError(f"{path} (data.path) is not a folder; it must hold train/<class>/ and val/<class>/.")
    tree = open_tree(path)
    groups = {split: _group_by_class(tree, split) for split in SPLITS}
    _match_classes(groups["val"], groups["train"], f"{tree.name}/val", f"{tree.name}/train")
    return {
        split: _list_images(tree, split, groups[split], list(groups[split]), tree.left_out(split)) for split in SPLITS
    }


def digits(data: Mapping[str, Any], seed: int) -> dict[str, ImageList]:
    """scikit-learn's 1,797 handwritten digits, 8x8, their values 0..16 stretched to 0..255.

    One fifth of each class, drawn by `seed`, is the val split. An image's id is its row in `load_digits()`.
    Needs no download: for a first run and for tests.
    """
    from sklearn.datasets import load_digits  # slow to import, and only this source needs it

    bunch = load_digits()
    pixels = np.rint(bunch.images * (255 / 16)).astype(np.uint8)
    rows: dict[str, list[int]] = {split: [] for split in SPLITS}
    for label in range(10):
        shuffled = np.random.default_rng([seed, 2, label]).permutation(np.flatnonzero(bunch.target == label))
        n_val = round(len(shuffled) / 5)
        rows["val"] += sorted(shuffled[:n_val].tolist())
        rows["train"] += sorted(shuffled[n_val:].tolist())
    return {
        split: ImageList(
            source="scikit-learn",
            ids=[f"digits/{row:04}" for row in rows[split]],
            labels=bunch.target[rows[split]].astype(np.int64),
            class_names=[str(label) for label in range(10)],
            read_bytes=lambda name: b"P5 8 8 255\n" + pixels[int(name.removeprefix("digits/"))].tobytes(),  # PGM
        )
        for split in SPLITS
    }


CLASSES_LOOKED_AT = 10


def _folder_sizes(data: Mapping[str, Any]) -> ClassSizes:
    """An estimate: the largest of ten classes, by their numbers of files; nothing where the folder is not."""
    n_classes, largest = 0, dict.fromkeys(SPLITS, 0)
    for split in SPLITS:
        try:
            classes = sorted(path for path in (Path(data["path"]) / split).iterdir() if path.is_dir())
            looked_at = classes[:: max(1, len(classes) // CLASSES_LOOKED_AT)]
            largest[split] = max((sum(1 for _ in path.iterdir()) for path in looked_at), default=0)
        except OSError:  # `image_folder` says what is wrong with it
            continue
        n_classes = max(n_classes, len(classes))
    return ClassSizes(n_classes, largest)


SOURCES = {
    "tiny-imagenet": Source(
        tiny_imagenet,
        lambda data: ClassSizes(200, {"train": 500, "val": 50}, all_equal=True),
        files=lambda data: {"": _tiny_imagenet_or_zip(Path(data["path"]))},
        download_bytes=TINY_IMAGENET.size,
    ),
    "image-folder": Source(
        image_folder,
        _folder_sizes,
        # Not what else lies there, which may be the study itself.
        files=lambda data: _folders_of_splits(Path(data["path"])),
    ),
    "digits": Source(
        digits,
        lambda data: ClassSizes(10, {"train": 146, "val": 37}),
        needs_path=False,
        files=lambda data: {},
    ),
}


def _folders_of_splits(path: Path) -> dict[str, Path]:
    return {split: path / split for split in SPLITS} if path.is_dir() else {"": path}


def _find_tiny_imagenet(path: Path, may_download: bool) -> Path:
    """The folder or zip file to read; downloads the zip file where there is neither."""
    found = _tiny_imagenet_or_zip(path)
    if not found.exists():
        if not may_download:
            raise FileNotFoundError(
                f"{path} (data.path) does not exist and data.download is false; put the unpacked folder or "
                "tiny-imagenet-200.zip there, or set data.download to true."
            )
        download(TINY_IMAGENET, found)
    return found


def _tiny_imagenet_or_zip(path: Path) -> Path:
    """The folder or zip file that is there, else where the zip file would be."""
    return path if path.exists() else path.with_name("tiny-imagenet-200.zip")


def _read_annotations(tree: Tree) -> dict[str, str]:
    """The class (WordNet id) of each validation image, by file name."""
    classes = {}
    for line in tree.lines("val/val_annotations.txt"):
        columns = line.split("\t")
        if len(columns) < 2:
            raise DataError(
                f"{tree.name}/val/val_annotations.txt: no image and class, separated by a tab, in {line!r}."
            )
        classes[columns[0]] = columns[1]
    return classes


def _name_classes(tree: Tree, wordnet_ids: list[str]) -> list[str]:
    synonyms = dict(line.split("\t", 1) for line in tree.lines("words.txt") if "\t" in line)
    unnamed = [wordnet_id for wordnet_id in wordnet_ids if wordnet_id not in synonyms]
    if unnamed:
        raise DataError(f"{tree.name}/words.txt has no name for {_some(unnamed)}, which wnids.txt lists.")
    return [f"{wordnet_id} {synonyms[wordnet_id].split(',')[0].strip()}" for wordnet_id in wordnet_ids]


def _group_by_class(tree: Tree, split: str) -> dict[str, list[str]]:
    """The image files below each folder of a split, by the folder's name, both sorted."""
    folders = (PurePosixPath(folder) for folder in tree.folders)
    groups: dict[str, list[str]] = {name: [] for name in sorted(f.name for f in folders if str(f.parent) == split)}
    if not groups:
        raise FileNotFoundError(f"{tree.name}/{split} has no class folders; it must hold {split}/<class>/<image>.")
    for file in tree.images(split):
        parts = file.split("/")
        if len(parts) == 2:
            raise DataError(f"{tree.name}/{file} lies in no class folder; move it to {split}/<class>/ or remove it.")
        groups[parts[1]].append(file)
    return groups


def _match_classes(found: Collection[str], expected: Collection[str], where: str, source: str) -> None:
    """Raise where the class folders found are not the expected ones."""
    if missing := sorted(set(expected) - set(found)):
        raise FileNotFoundError(f"{where} has no folder for class {_some(missing)} of {source}.")
    if unknown := sorted(set(found) - set(expected)):
        raise DataError(f"{where} has a folder for class {_some(unknown)}, which {source} does not have.")


def _list_images(
    tree: Tree,
    split: str,
    groups: Mapping[str, list[str]],
    class_names: list[str],
    left_out: Mapping[str, str] | None = None,
) -> ImageList:
    if empty := [name for name, files in groups.items() if not files]:
        others = [f"{file} ({reason})" for file, reason in (left_out or {}).items()]
        beside = f" Left out are {_some(others)}." if others else ""
        raise DataError(
            f"{tree.name}/{split}: no images of class {_some(empty)}; an image's name ends in .jpg, .png or another "
            f"suffix of a picture.{beside}"
        )
    return ImageList(
        source=tree.name,
        ids=list(chain.from_iterable(groups.values())),
        labels=np.repeat(np.arange(len(groups)), [len(files) for files in groups.values()]),
        class_names=class_names,
        read_bytes=tree.read_bytes,
        left_out=left_out or {},
    )


def _some(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
