"""The source `imagenet`: ILSVRC2012 as its archives, as Kaggle packs it, or in folders; classes by WordNet ids."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from perturbflow.data.image_list import DataError, ImageList
from perturbflow.data.imagenet_texts import DEVKIT, is_text, read_synonyms, validation_classes
from perturbflow.data.listing import (
    ClassSizes,
    folder_sizes,
    list_images,
    near_splits,
    refusal,
    some,
    splits_of,
)
from perturbflow.data.tar import archives_tree, tar_tree
from perturbflow.data.tree import Tree, open_tree
from perturbflow.data.wordnet import WORDNET_ID, name_classes

KAGGLE_FOLDERS = ("ILSVRC", "Data", "CLS-LOC")
LARGEST_CLASS = {"train": 1300, "val": 50}
OFFICIAL_ARCHIVES = {"train": (147_897_477_120, 1_281_167), "val": (6_744_924_160, 50_000)}
"""Bytes and pictures of the official archives: to list them takes minutes, and their size tells which they are."""


def imagenet(data: Mapping[str, Any], seed: int) -> dict[str, ImageList]:
    """ImageNet, or part of it: the archives as they are downloaded, Kaggle's folders, or train/ and val/ with pictures.

    `data.path` is the folder that holds ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar, which are read where they
    lie, train/ and val/, or any of Kaggle's above these. Below train/ is a folder or tar archive a class, called by its
    WordNet id; below val/ as well, or the pictures alone, where a file tells their classes: the devkit's ground truth,
    Kaggle's LOC_val_solution.csv, or a .txt or .csv with `val` in its name, as `validation_classes` reads it.
    The classes are in the order of their sorted WordNet ids, which is that of the 1000 logits. A class name is its id
    and its first synonym: "n01440764 tench". An image's id is its path in the folder or archive of its split.
    Raises FileNotFoundError or DataError, naming file and class, where something of it is missing.
    """
    path = Path(data["path"])
    trees = {split: _find_split(path, split) for split in splits_of(data)}
    groups: dict[str, dict[str, list[str]]] = {}
    for split, tree in trees.items():
        groups[split], unsorted = _by_class(tree)
        if unsorted and split == "train":
            raise DataError(
                f"{tree.name}/{unsorted[0]} lies below no WordNet id, such as n01440764; move it to "
                "train/<WordNet id>/, or write source: image-folder where classes have other names."
            )
        if unsorted:
            classes = validation_classes(unsorted, tree.name, _text_places(path, tree), [*groups.get("train", ())])
            for file, wordnet_id in zip(unsorted, classes, strict=True):
                groups[split].setdefault(wordnet_id, []).append(file)
        groups[split] = {wordnet_id: sorted(groups[split][wordnet_id]) for wordnet_id in sorted(groups[split])}
    _match_splits(groups, trees)
    wordnet_ids = [*next(iter(groups.values()))]
    class_names = name_classes(wordnet_ids, read_synonyms(_text_places(path)))
    # Texts beside the pictures tell of them.
    left_out = {
        split: {file: why for file, why in tree.left_out().items() if not file.endswith((".txt", ".csv"))}
        for split, tree in trees.items()
    }
    return {
        split: list_images(tree, split, groups[split], class_names, left_out[split]) for split, tree in trees.items()
    }


def imagenet_sizes(data: Mapping[str, Any]) -> ClassSizes:
    """Estimates where there are class folders, and the sizes of the whole ImageNet where there are archives."""
    path = Path(data["path"])
    total = {split: number for split in splits_of(data) if (number := _pictures_in_archive(path, split))}
    for place in _places(path):
        sizes = folder_sizes({**data, "path": place})
        if sizes.n_classes:
            largest = {split: number or LARGEST_CLASS[split] for split, number in sizes.largest.items()}
            return ClassSizes(sizes.n_classes, largest, total=total)
    return ClassSizes(1000 if path.exists() else 0, LARGEST_CLASS, total=total)


def _pictures_in_archive(path: Path, split: str) -> int | None:
    """The number of pictures of a split that is read from an official archive."""
    archive = path / f"ILSVRC2012_img_{split}.tar"
    if any(folder.is_dir() for folder in (path / split, archive.with_suffix(""))) or not archive.is_file():
        return None
    n_bytes, n_pictures = OFFICIAL_ARCHIVES[split]
    return n_pictures if archive.stat().st_size == n_bytes else None


def imagenet_files(data: Mapping[str, Any]) -> dict[str, Path]:
    """Folders and archives of the splits, and the texts beside them."""
    path = Path(data["path"])
    archives = [f"ILSVRC2012_img_{split}.tar" for split in splits_of(data)]
    names = [*splits_of(data), *archives, *(archive.removesuffix(".tar") for archive in archives)]
    found = {name: place / name for place in reversed(_places(path)) for name in names if (place / name).exists()}
    found |= {file.name: file for place in _places(path) for file in place.glob("n*.tar")}
    texts = [file for place in reversed(_text_places(path)) for file in place.iterdir() if is_text(file)]
    return {**found, **{file.name: file for file in texts}} or {"": path}


# ---- Where the pictures are


def _places(path: Path) -> list[Path]:
    """Folders in which splits are looked for: the one that the config names, and Kaggle's below it."""
    below = [path.joinpath(*KAGGLE_FOLDERS[first:]) for first in range(len(KAGGLE_FOLDERS))]
    return [place for place in (path, *below) if place.is_dir()]


def _text_places(path: Path, val: Tree | None = None) -> list[Path]:
    """Folders in which texts are looked for: those of the splits, Kaggle's above them, and those of the devkit."""
    places = [path.joinpath(*KAGGLE_FOLDERS[:depth]) for depth in range(len(KAGGLE_FOLDERS) + 1)] + _places(path)
    above = path.absolute()
    while above.name in KAGGLE_FOLDERS:
        above = above.parent
        places.append(above)
    if val and Path(val.name).is_dir():
        places.append(Path(val.name))
    places += [place / below for place in tuple(places) for below in (DEVKIT, f"{DEVKIT}/data", "data")]
    return [place for place in dict.fromkeys(places) if place.is_dir()]


def _find_split(path: Path, split: str) -> Tree:
    """The files of a split, archives of classes counting as folders."""
    archive = f"ILSVRC2012_img_{split}.tar"
    for place in _places(path):
        for folder in (place / split, place / archive.removesuffix(".tar")):
            if folder.is_dir() and (tree := _split_folder(folder, archive)).files:
                return tree
        if (place / archive).is_file():
            return tar_tree(place / archive)
        if split == "train" and (classes := _class_archives(file.name for file in place.glob("n*.tar"))):
            return archives_tree(str(place), {name: place / name for name in classes})
    near = near_splits(split, [entry.name for entry in path.iterdir() if entry.is_dir()]) if path.is_dir() else []
    if near and near[0] != split:
        raise FileNotFoundError(
            f"{path} holds no {split}/, but {near[0]}/: rename that to {split}, or link to it: ln -s {near[0]} {split}"
        )
    needs = f"a folder with {archive}, or with pictures in {split}/"
    raise FileNotFoundError(refusal(path, f"{needs}, or one above it", "imagenet"))


def _split_folder(folder: Path, archive: str) -> Tree:
    tree = open_tree(folder)
    if classes := _class_archives(tree.files):
        # Beside the folder that was unpacked from it, perhaps not to the end, an archive is the one to read.
        unpacked = {name.removesuffix(".tar") for name in classes}
        files = [file for file in tree.files if file.partition("/")[0] not in unpacked]
        beside = Tree(tree.name, files, tree.folders, tree.read_bytes)
        return archives_tree(tree.name, {name: folder / name for name in classes}, beside)
    if archive in tree.files and not tree.images():
        return tar_tree(folder / archive)
    return tree


def _class_archives(names: Iterable[str]) -> list[str]:
    return sorted(name for name in names if name.endswith(".tar") and WORDNET_ID.fullmatch(name.removesuffix(".tar")))


def _by_class(tree: Tree) -> tuple[dict[str, list[str]], list[str]]:
    """Pictures below folders or archives that are called by a WordNet id, by that, and those that are below none."""
    groups: dict[str, list[str]] = {one: [] for folder in tree.folders if (one := _class_of(folder))}
    unsorted: list[str] = []
    for file in tree.images():
        wordnet_id = _class_of(file.rpartition("/")[0])
        (groups[wordnet_id] if wordnet_id else unsorted).append(file)
    return groups, unsorted


def _class_of(folder: str) -> str | None:
    """The WordNet id in a path of folders and archives."""
    names = (part.removesuffix(".tar") for part in folder.split("/"))
    return next((name for name in names if WORDNET_ID.fullmatch(name)), None)


def _match_splits(groups: Mapping[str, Mapping[str, Sequence[str]]], trees: Mapping[str, Tree]) -> None:
    """Raise where a split has no classes, or others than the first."""
    first, *others = groups
    if not groups[first]:
        raise FileNotFoundError(
            f"{trees[first].name} has no folders or archives called by WordNet ids, such as n01440764; "
            "for classes of other names write source: image-folder."
        )
    for split in others:
        for one, other in ((first, split), (split, first)):
            if lacking := sorted({*groups[one]} - {*groups[other]}):
                raise DataError(
                    f"{trees[other].name} has no class {some(lacking)}, which {trees[one].name} has; both need it."
                )
