"""The source `tiny-imagenet`: the data set of the paper, in the layouts in which it circulates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from perturbflow.data.download import RemoteFile, download
from perturbflow.data.image_list import DataError, ImageList
from perturbflow.data.listing import group_by_class, list_images, match_classes, refusal, root_of, splits_of
from perturbflow.data.tree import Tree, open_tree
from perturbflow.data.wordnet import name_classes, synonyms_of_lines

TINY_IMAGENET = RemoteFile(
    "http://cs231n.stanford.edu/tiny-imagenet-200.zip", 248_100_043, "90528d7ca1a48142e341f4ef8d21d0de"
)
ZIP_FILE = "tiny-imagenet-200.zip"
ANNOTATIONS = "val/val_annotations.txt"


def tiny_imagenet(data: Mapping[str, Any], seed: int) -> dict[str, ImageList]:
    """TinyImageNet: 200 classes, 500 training and 50 validation images each, 64x64.

    `data.path` is the unpacked folder, one around it, or a zip file, which is read as it is. Where it does not exist, a
    tiny-imagenet-200.zip beside it is used, and downloaded first if `data.download` allows. The training images lie
    anywhere below train/<class>/; the validation images below val/<class>/, or elsewhere in val/ if
    val/val_annotations.txt tells their classes. The test images, which have none, are passed over.
    The classes are in the order of their sorted WordNet ids, unlike wnids.txt. A class name is its WordNet
    id and its first synonym in words.txt: "n01443537 goldfish". An image's id is its path in the folder.
    Raises FileNotFoundError or DataError, naming file and class, where something of it is missing.
    """
    splits = splits_of(data)
    path = _find(data)
    tree = root_of(open_tree(path), {"train", "val", "wnids.txt"})
    top = [folder for folder in tree.folders if "/" not in folder]
    for split in splits:
        if split not in top:
            needs, names = f"TinyImageNet, which has a folder {split}/", None if path.is_dir() else top
            raise FileNotFoundError(refusal(path, needs, "tiny-imagenet", names))
    wordnet_ids, listed_in = _class_ids(tree)
    groups = {}
    if "train" in splits:
        groups["train"] = group_by_class(tree, "train")
        match_classes(groups["train"], wordnet_ids, f"{tree.name}/train", listed_in)
    if "val" in splits:
        groups["val"] = _validation(tree, wordnet_ids, listed_in)
    synonyms = synonyms_of_lines(tree.lines("words.txt")) if "words.txt" in tree.files else {}
    class_names = name_classes(wordnet_ids, synonyms)
    # Annotations and boxes are the data set's own.
    left_out = {
        split: {file: why for file, why in tree.left_out(split).items() if not file.endswith(".txt")}
        for split in splits
    }
    return {split: list_images(tree, split, groups[split], class_names, left_out[split]) for split in splits}


def tiny_imagenet_files(data: Mapping[str, Any]) -> dict[str, Path]:
    """The folder or zip file that is there, else where the zip file would be."""
    path = Path(data["path"])
    unpacked = ("train", "val", ZIP_FILE.removesuffix(".zip"))
    if (path / ZIP_FILE).is_file() and not any((path / name).is_dir() for name in unpacked):
        return {"": path / ZIP_FILE}
    return {"": path if path.exists() else path.with_name(ZIP_FILE)}


def _find(data: Mapping[str, Any]) -> Path:
    """The folder or zip file to read; downloads the zip file where there is neither."""
    (found,) = tiny_imagenet_files(data).values()
    if not found.exists():
        if not data["download"]:
            raise FileNotFoundError(
                f"{data['path']} (data.path) does not exist and data.download is false; put the unpacked folder or "
                f"{ZIP_FILE} there, or set data.download to true."
            )
        download(TINY_IMAGENET, found)
    return found


def _class_ids(tree: Tree) -> tuple[list[str], str]:
    """The sorted ids of the classes, and where they are from: wnids.txt, or else the class folders."""
    if "wnids.txt" in tree.files:
        return sorted({line.strip() for line in tree.lines("wnids.txt")}), "wnids.txt"
    if "train" in tree.folders:
        return [*group_by_class(tree, "train")], f"{tree.name}/train"
    if ANNOTATIONS in tree.files:
        return sorted({*_read_annotations(tree).values()}), ANNOTATIONS
    return [*group_by_class(tree, "val")], f"{tree.name}/val"


def _validation(tree: Tree, wordnet_ids: Sequence[str], listed_in: str) -> dict[str, list[str]]:
    """The validation images of each class, by their folder, or else by the annotations."""
    groups: dict[str, list[str]] = {wordnet_id: [] for wordnet_id in wordnet_ids}
    annotations = _read_annotations(tree) if ANNOTATIONS in tree.files else {}
    unsorted, found = [], set[str]()
    for file in tree.images("val"):
        folder, name = file.split("/")[1], PurePosixPath(file).name
        if folder in groups:
            groups[folder].append(file)
            found.add(name)
        else:
            unsorted.append((file, name))
    for file, name in unsorted:
        if name in found:  # copied into the folder of its class, not moved
            continue
        if not annotations:
            raise FileNotFoundError(
                f"{tree.name}/{file} lies in no folder of a class and {ANNOTATIONS} is not there: unpack the data set "
                "again, or sort the images into val/<class>/."
            )
        wordnet_id = annotations.get(name)
        if wordnet_id is None:
            raise DataError(f"{tree.name}/{file} has no line in {ANNOTATIONS}; remove it or add the line.")
        if wordnet_id not in groups:
            raise DataError(
                f"{tree.name}/{ANNOTATIONS} gives {file} the class {wordnet_id}, which {listed_in} does not have."
            )
        groups[wordnet_id].append(file)
        found.add(name)
    if missing := sorted({*annotations} - found):
        raise FileNotFoundError(
            f"{tree.name}/val lacks {len(missing)} images of val_annotations.txt, such as {missing[0]}; "
            "unpack the data set again."
        )
    return {wordnet_id: sorted(files) for wordnet_id, files in groups.items()}


def _read_annotations(tree: Tree) -> dict[str, str]:
    """The class (WordNet id) of each validation image, by file name."""
    classes = {}
    for line in tree.lines(ANNOTATIONS):
        columns = line.split("\t")
        if len(columns) < 2:
            raise DataError(f"{tree.name}/{ANNOTATIONS}: no image and class, separated by a tab, in {line!r}.")
        classes[columns[0]] = columns[1]
    return classes
