"""The source `image-folder`: anybody's pictures, in a folder for each split and class."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from perturbflow.data.image_list import DataError, ImageList
from perturbflow.data.listing import (
    group_by_class,
    list_images,
    match_classes,
    near_splits,
    refusal,
    root_of,
    splits_of,
)
from perturbflow.data.tree import Tree, open_tree


def image_folder(data: Mapping[str, Any], seed: int) -> dict[str, ImageList]:
    """Pictures in `data.path`, in a folder for each split and class: train/<class>/..., val/<class>/...

    `data.path` may be a zip file of such a folder, which is read as it is. The classes are in the order of their sorted
    folder names. An image's id is its path in `data.path`. Files without the suffix of a picture are left out, hidden
    ones without a word.
    Raises FileNotFoundError or DataError where a split or class is missing.
    """
    path, splits = Path(data["path"]), splits_of(data)
    needs = f"a folder, or a zip file of one, with {' and '.join(f'{split}/<class>/' for split in splits)}"
    if not path.is_dir() and path.suffix.lower() != ".zip":
        raise FileNotFoundError(refusal(path, needs, "image-folder"))
    tree = open_tree(path) if path.is_dir() else root_of(open_tree(path), splits)
    for split in splits:
        _check_split(tree, split, path, needs)
    groups = {split: group_by_class(tree, split) for split in splits}
    if [*groups.get("val", ())] == ["images"]:
        raise DataError(
            f"{tree.name}/val holds no class folders but images/; of TinyImageNet write source: tiny-imagenet, "
            "else sort its pictures into val/<class>/."
        )
    first, *others = splits
    for split in others:
        match_classes(groups[split], groups[first], f"{tree.name}/{split}", f"{tree.name}/{first}")
    return {
        split: list_images(tree, split, groups[split], list(groups[split]), tree.left_out(split)) for split in splits
    }


def folder_files(data: Mapping[str, Any]) -> dict[str, Path]:
    """The folders of the splits, and not what else lies there, which may be the study itself; or the zip file."""
    path = Path(data["path"])
    return {split: path / split for split in splits_of(data)} if path.is_dir() else {"": path}


def _check_split(tree: Tree, split: str, path: Path, needs: str) -> None:
    """Raise FileNotFoundError where there is no folder of the split, with the one that is meant for it, if any."""
    top = [folder for folder in tree.folders if "/" not in folder]
    if split in top:
        return
    if near := near_splits(split, top):
        raise FileNotFoundError(
            f"{tree.name} holds no {split}/, but {near[0]}/: rename that to {split}, or link to it: "
            f"ln -s {near[0]} {split}"
        )
    names = None if path.is_dir() else [f"{folder}/" for folder in top]
    raise FileNotFoundError(refusal(path, needs, "image-folder", names))
