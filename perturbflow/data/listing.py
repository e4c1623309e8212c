"""What the layouts of sources have in common: splits, classes by folder, and what to say of a folder that fits none."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from perturbflow.data.image_list import SPLITS, DataError, ImageList
from perturbflow.data.tree import Tree

SPLIT_NAMES = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev", "eval", "test"),
}
"""What people call the splits, the likeliest first."""

CLASSES_LOOKED_AT = 10


@dataclass(frozen=True)
class ClassSizes:
    """How many images a source has.

    largest: images of its largest class, by split. all_equal: whether each of its classes has as many. total: how many
    all are, of splits of which that is known.
    """

    n_classes: int
    largest: Mapping[str, int]
    all_equal: bool = False
    total: Mapping[str, int] = field(default_factory=dict)


def splits_of(data: Mapping[str, Any]) -> list[str]:
    """The splits that a study takes, by the config's `data`, train first: both, where it does not say."""
    return [split for split in SPLITS if split in (data.get("splits") or SPLITS)]


def list_images(
    tree: Tree,
    split: str,
    groups: Mapping[str, Sequence[str]],
    class_names: Sequence[str],
    left_out: Mapping[str, str] | None = None,
) -> ImageList:
    """The images of one split. groups: files of the tree by class, in the order of `class_names`.

    left_out: files beside them that are no images, with the reason. Raises DataError where a class has no image.
    """
    if empty := [name for name, files in groups.items() if not files]:
        others = [f"{file} ({reason})" for file, reason in (left_out or {}).items()]
        beside = f" Left out are {some(others)}." if others else ""
        raise DataError(
            f"{tree.name}: no images of class {some(empty)} in {split}; an image's name ends in .jpg, .png or another "
            f"suffix of a picture.{beside}"
        )
    return ImageList(
        source=tree.name,
        ids=list(chain.from_iterable(groups.values())),
        labels=np.repeat(np.arange(len(groups)), [len(files) for files in groups.values()]),
        class_names=list(class_names),
        read_bytes=tree.read_bytes,
        left_out=left_out or {},
    )


def group_by_class(tree: Tree, split: str) -> dict[str, list[str]]:
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


def match_classes(found: Collection[str], expected: Collection[str], where: str, source: str) -> None:
    """Raise where the classes found, which have a folder each, are not the expected ones."""
    if missing := sorted(set(expected) - set(found)):
        raise FileNotFoundError(f"{where} has no folder for class {some(missing)} of {source}.")
    if unknown := sorted(set(found) - set(expected)):
        raise DataError(f"{where} has a folder for class {some(unknown)}, which {source} does not have.")


def root_of(tree: Tree, marks: Collection[str]) -> Tree:
    """The tree below its shallowest folder that holds one of `marks`, names of files or folders; else the whole.

    Raises DataError where several folders do.
    """
    entries = (entry.rpartition("/") for entry in chain(tree.folders, tree.files))
    homes = {home for home, _, name in entries if name in marks}
    depths = {home: len(PurePosixPath(home).parts) for home in homes}
    roots = sorted(home for home, depth in depths.items() if depth == min(depths.values()))
    if len(roots) > 1:
        raise DataError(f"{tree.name} holds several data sets, in {some(roots)}: name one of them in data.path.")
    return tree.below(roots[0]) if roots else tree


def folder_sizes(data: Mapping[str, Any]) -> ClassSizes:
    """An estimate for `data.path`/<split>/<class>/: the largest of ten classes, by their numbers of files.

    Nothing where the folder is not, or is a zip file.
    """
    n_classes, largest = 0, dict.fromkeys(SPLITS, 0)
    for split in splits_of(data):
        try:
            classes = sorted(path for path in (Path(data["path"]) / split).iterdir() if path.is_dir())
            looked_at = classes[:: max(1, len(classes) // CLASSES_LOOKED_AT)]
            largest[split] = max((sum(1 for _ in path.iterdir()) for path in looked_at), default=0)
        except OSError:  # the source says what is wrong with it
            continue
        n_classes = max(n_classes, len(classes))
    return ClassSizes(n_classes, largest)


def near_splits(split: str, names: Collection[str]) -> list[str]:
    """Those names that mean a split: `validation`, `Val` or `val_images` for val; the likeliest first."""
    words = {name: re.split(r"[^a-z]+", name.lower()) for name in names}
    return [name for meaning in SPLIT_NAMES[split] for name in sorted(names) if meaning in words[name]]


def refusal(path: Path, needs: str, read_by: str, names: Sequence[str] | None = None) -> str:
    """That `data.path` is not what a source reads: what it needs, what was found, and the way out.

    read_by: the source that was to read it. names: what an archive holds at its root.
    """
    if not path.exists():
        return f"{path} (data.path) does not exist; it must be {needs}."
    if names is None and not path.is_dir():
        return f"{path} (data.path) is a file; it must be {needs}."
    if names is None:
        names = sorted(f"{entry.name}{'/' if entry.is_dir() else ''}" for entry in path.iterdir())
    seen = [name for name in names if not name.startswith(".")]
    holds = f"it holds {some(seen, 8)}" if seen else "it is empty"
    return f"{path} (data.path) is not {needs}: {holds}. {_way_out(path, seen, read_by)}"


def _way_out(path: Path, names: Sequence[str], read_by: str) -> str:
    def below(pattern: str) -> list[Path]:
        """Down to the third level."""
        return [found for depth in ("", "*/", "*/*/") for found in sorted(path.glob(f"{depth}{pattern}"))]

    if read_by != "tiny-imagenet" and below("wnids.txt"):
        return "It looks like TinyImageNet: write source: tiny-imagenet."
    if read_by != "imagenet" and any(re.fullmatch(r"ILSVRC.*|LOC_.*\.csv|n\d{8}\.tar", name) for name in names):
        return "It looks like ImageNet: write source: imagenet."
    if read_by != "parquet" and below("*.parquet"):
        return "It holds parquet files: write source: parquet."
    if nested := [found for split in SPLITS for found in below(f"{split}/") if found.parent != path]:
        return f"Write path: {nested[0].parent}"
    if archives := [name for name in names if re.search(r"\.(zip|tar|tgz|tar\.\w+|7z|rar)$", name)]:
        return f"Unpack {some(archives)}; docs/data.md shows every layout that is read."
    return "docs/data.md shows every layout that is read."


def some(names: Sequence[str], n_shown: int = 3) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - n_shown} more" if len(names) > n_shown else ""
    return ", ".join(names[:n_shown]) + more
