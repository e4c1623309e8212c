"""Image sources: where a study's clean images come from, which it takes, and how they become arrays.

A source lists the images of its two splits, `train` and `val`, without decoding any; a seeded subset is
drawn from the lists; `decode_to_file` writes what is left, a few images at a time.
"""

from __future__ import annotations

import hashlib
import io
import os
import zipfile
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from http.client import HTTPException
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn
from urllib.request import Request, urlopen

import numpy as np
from PIL import Image, ImageOps
from tqdm.auto import tqdm

from perturbflow.files.images import Array, DataSplit, image_writer, write_labels

SPLITS = ("train", "val")
IMAGE_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
IMAGES_PER_TASK = 100  # a thread's task for each image costs as much as decoding a small one
BYTES_PER_TASK = 2**24  # fewer where they are large: each thread holds those of its task


class DataError(ValueError):
    """Source images that are not what their layout or the config promises."""


@dataclass(frozen=True)
class ImageList:
    """The images of one split before they are decoded, sorted by label, then by id.

    source: the folder or file that holds the images, for messages. ids: N strings that name the images in it.
    labels: int64, (N,), indices into class_names. open_image: gives the picture behind an id, of any size and mode.
    """

    source: str
    ids: list[str]
    labels: Array
    class_names: list[str]
    open_image: Callable[[str], Image.Image]


@dataclass(frozen=True)
class RemoteFile:
    """A file to download, and how to tell that it arrived whole."""

    url: str
    size: int
    md5: str


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
    splits = SOURCES[data["source"]](data, seed)
    return {
        split: _take_subset(images, split, data["classes"], data["images_per_class"][split], seed)
        for split, images in splits.items()
    }


def decode(images: ImageList, image_size: int, threads: int = 1, description: str = "images") -> DataSplit:
    """The listed images as `decode_into` gives them, in memory."""
    pixels = np.empty((len(images.ids), image_size, image_size, 3), np.uint8)
    decode_into(pixels, images, threads, description)
    return DataSplit(pixels, images.labels, images.ids, images.class_names)


def decode_to_file(
    path: str | Path,
    attributes: Mapping[str, Any],
    images: ImageList,
    image_size: int,
    threads: int = 1,
    description: str = "images",
) -> None:
    """Write the listed images as `data/<split>.h5`; a few are in memory at once. Raises as `decode_into`."""
    with image_writer(path, len(images.ids), (image_size, image_size, 3), "uint8", attributes) as file:
        decode_into(file["images"], images, threads, description)
        write_labels(file, images.labels, images.ids, images.class_names)


def decode_into(pixels: Any, images: ImageList, threads: int = 1, description: str = "images") -> None:
    """Decode listed images to RGB pixels, 0..255.

    pixels: what they are written into, uint8 (N, image_size, image_size, 3), an array or a dataset of HDF5.
    A picture of another size is resized to that length of its shorter side (bilinear, antialiased) and
    cropped at its centre. Grayscale is repeated in the three channels, transparency dropped, a camera's
    orientation tag passed over. A progress bar goes to stderr.
    Raises DataError, naming the image, where one cannot be decoded or has more than 8 bits a channel.
    """
    n_images, image_size = pixels.shape[:2]
    n_of_task = min(IMAGES_PER_TASK, max(1, BYTES_PER_TASK // (3 * image_size**2)))

    def fill(start: int) -> int:
        names = images.ids[start : start + n_of_task]
        pixels[start : start + len(names)] = np.stack([_read_pixels(images, name, image_size) for name in names])
        return len(names)

    with (
        ThreadPoolExecutor(threads) as pool,
        tqdm(total=n_images, desc=description, unit=" images") as progress,
    ):
        for n_done in pool.map(fill, range(0, n_images, n_of_task)):
            progress.update(n_done)


def _read_pixels(images: ImageList, name: str, image_size: int) -> Array:
    """One RGB picture: uint8, (image_size, image_size, 3)."""
    try:
        image = images.open_image(name)
        image.load()
    # Pillow's decoders raise nearly anything on a damaged file: OSError, SyntaxError, struct.error...
    except Exception as error:
        raise DataError(f"{images.source}/{name} cannot be decoded ({error}); replace or remove it.") from error
    if image.mode.startswith(("I", "F")):
        raise DataError(f"{images.source}/{name} has over 8 bits a channel ({image.mode}); convert it to 8 bits first.")
    return np.asarray(ImageOps.fit(image.convert("RGB"), (image_size, image_size), Image.Resampling.BILINEAR))


def _take_subset(images: ImageList, split: str, n_classes: int | None, n_per_class: int | None, seed: int) -> ImageList:
    """Draw classes, then images of each of them; the classes that stay are numbered anew."""
    total = len(images.class_names)
    if n_classes is not None and n_classes > total:
        raise DataError(f"data.classes is {n_classes}, but the source has {total} classes; lower it, or null for all.")
    classes = np.sort(np.random.default_rng([seed, 0]).permutation(total)[:n_classes])
    rows_by_class = []
    for label in classes:
        rows = np.flatnonzero(images.labels == label)
        if n_per_class is not None and n_per_class > len(rows):
            raise DataError(
                f"data.images_per_class.{split} is {n_per_class}, but class {images.class_names[label]} has "
                f"{len(rows)} images in {split}; lower it, or null for all."
            )
        # A stream for each class: which images are drawn does not depend on which other classes are.
        generator = np.random.default_rng([seed, 1, SPLITS.index(split), label])
        rows_by_class.append(np.sort(generator.permutation(rows)[:n_per_class]))
    return replace(
        images,
        ids=[images.ids[row] for row in np.concatenate(rows_by_class)],
        labels=np.repeat(np.arange(len(classes)), [len(rows) for rows in rows_by_class]),
        class_names=[images.class_names[label] for label in classes],
    )


# ---- Sources


def tiny_imagenet(data: Mapping[str, Any], seed: int) -> dict[str, ImageList]:
    """TinyImageNet: 200 classes, 500 training and 50 validation images each, 64x64.

    `data.path` is the unpacked folder or the official zip file, which is read as it is. Where it does not
    exist, a tiny-imagenet-200.zip beside it is used, and downloaded first if `data.download` allows.
    The classes are in the order of their sorted WordNet ids, unlike wnids.txt. A class name is its WordNet
    id and its first synonym in words.txt: "n01443537 goldfish". An image's id is its path in the folder.
    """
    path = Path(data["path"])
    tree = _open_tree(_find_tiny_imagenet(path, data["download"]))
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
    return {split: _list_images(tree, split, groups[split], class_names) for split in SPLITS}


def image_folder(data: Mapping[str, Any], seed: int) -> dict[str, ImageList]:
    """Pictures in `data.path`, in a folder for each split and class: train/<class>/..., val/<class>/...

    The classes are in the order of their sorted folder names. An image's id is its path in `data.path`.
    Files without the suffix of an image format and hidden files are passed over.
    """
    path = Path(data["path"])
    if not path.is_dir():
        raise FileNotFoundError(f"{path} (data.path) is not a folder; it must hold train/<class>/ and val/<class>/.")
    tree = _open_tree(path)
    groups = {split: _group_by_class(tree, split) for split in SPLITS}
    _match_classes(groups["val"], groups["train"], f"{tree.name}/val", f"{tree.name}/train")
    return {split: _list_images(tree, split, groups[split], list(groups[split])) for split in SPLITS}


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
            open_image=lambda name: Image.fromarray(pixels[int(name.removeprefix("digits/"))]),
        )
        for split in SPLITS
    }


# A source takes the config's `data` and the seed, and lists all its images.
SOURCES: dict[str, Callable[[Mapping[str, Any], int], dict[str, ImageList]]] = {
    "tiny-imagenet": tiny_imagenet,
    "image-folder": image_folder,
    "digits": digits,
}


def _find_tiny_imagenet(path: Path, may_download: bool) -> Path:
    """The folder or zip file to read; downloads the zip file where there is neither."""
    if path.exists():
        return path
    zip_file = path.with_name("tiny-imagenet-200.zip")
    if not zip_file.exists():
        if not may_download:
            raise FileNotFoundError(
                f"{path} (data.path) does not exist and data.download is false; put the unpacked folder or "
                "tiny-imagenet-200.zip there, or set data.download to true."
            )
        download(TINY_IMAGENET, zip_file)
    return zip_file


def _read_annotations(tree: _Tree) -> dict[str, str]:
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


def _name_classes(tree: _Tree, wordnet_ids: list[str]) -> list[str]:
    synonyms = dict(line.split("\t", 1) for line in tree.lines("words.txt") if "\t" in line)
    unnamed = [wordnet_id for wordnet_id in wordnet_ids if wordnet_id not in synonyms]
    if unnamed:
        raise DataError(f"{tree.name}/words.txt has no name for {_some(unnamed)}, which wnids.txt lists.")
    return [f"{wordnet_id} {synonyms[wordnet_id].split(',')[0].strip()}" for wordnet_id in wordnet_ids]


def _group_by_class(tree: _Tree, split: str) -> dict[str, list[str]]:
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


def _list_images(tree: _Tree, split: str, groups: Mapping[str, list[str]], class_names: list[str]) -> ImageList:
    if empty := [name for name, files in groups.items() if not files]:
        raise DataError(
            f"{tree.name}/{split}: no images of class {_some(empty)}; "
            f"an image's name ends in {', '.join(IMAGE_SUFFIXES)}."
        )
    return ImageList(
        source=tree.name,
        ids=list(chain.from_iterable(groups.values())),
        labels=np.repeat(np.arange(len(groups)), [len(files) for files in groups.values()]),
        class_names=class_names,
        open_image=lambda name: Image.open(io.BytesIO(tree.read_bytes(name))),
    )


def _some(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


# ---- Folders and zip files


@dataclass(frozen=True)
class _Tree:
    """The files of a folder or zip file by their paths in it, written with `/`, sorted."""

    name: str
    files: list[str]
    folders: list[str]
    read_bytes: Callable[[str], bytes]

    def images(self, folder: str) -> list[str]:
        """Image files at any depth below a folder."""
        return [file for file in self.files if file.startswith(f"{folder}/") and file.lower().endswith(IMAGE_SUFFIXES)]

    def lines(self, file: str) -> list[str]:
        """Lines of a text file that are not empty."""
        if file not in self.files:
            raise FileNotFoundError(f"{self.name} holds no {file}; is this the data set's own folder, and whole?")
        return [line for line in self.read_bytes(file).decode().splitlines() if line.strip()]


def _open_tree(path: Path) -> _Tree:
    return _folder_tree(path) if path.is_dir() else _zip_tree(path)


def _folder_tree(path: Path) -> _Tree:
    def fail(error: OSError) -> NoReturn:
        raise error

    files, folders = [], []
    for folder, folder_names, file_names in os.walk(path, onerror=fail, followlinks=True):
        folder_names[:] = [name for name in folder_names if not name.startswith(".")]
        inside = Path(folder).relative_to(path)
        folders += [(inside / name).as_posix() for name in folder_names]
        files += [(inside / name).as_posix() for name in file_names if not name.startswith(".")]
    return _Tree(str(path), sorted(files), sorted(folders), lambda file: (path / file).read_bytes())


def _zip_tree(path: Path) -> _Tree:
    """A zip file of TinyImageNet; its root is the folder inside it that holds wnids.txt."""
    try:
        archive = zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise DataError(f"{path} is neither a folder nor a whole zip file ({error}); remove or replace it.") from error
    names = archive.namelist()
    roots = [name.removesuffix("wnids.txt") for name in names if PurePosixPath(name).name == "wnids.txt"]
    root = min(roots, key=len, default="")
    inside = [name.removeprefix(root) for name in names if name.startswith(root)]
    files = [name for name in inside if not name.endswith("/")]
    folders = {str(parent) for name in inside for parent in PurePosixPath(name).parents}
    folders |= {name.rstrip("/") for name in inside if name.endswith("/")}
    return _Tree(str(path), sorted(files), sorted(folders), lambda file: archive.read(root + file))


# ---- Download


def download(remote: RemoteFile, path: Path) -> None:
    """Download a file to `path`, going on where an earlier attempt broke off (`<path>.part`).

    The file appears at `path` once its size and MD5 are right.
    Raises DataError, naming URL and file and saying what to do, otherwise.
    """
    part = path.with_name(f"{path.name}.part")
    what = f"Download of {remote.url} to {path}"
    advice = f"or put the file at {path} yourself, or the data where data.path points."
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _fetch(remote, part)
    except (OSError, HTTPException, DataError) as error:
        raise DataError(f"{what} failed: {error}. Run again to continue, {advice}") from error
    if part.stat().st_size < remote.size:
        raise DataError(
            f"{what} broke off after {part.stat().st_size:,} of {remote.size:,} bytes. Run again to continue, {advice}"
        )
    with open(part, "rb") as file:
        md5 = hashlib.file_digest(file, "md5").hexdigest()
    if md5 != remote.md5:
        part.unlink()
        raise DataError(f"{what} gave a damaged file (MD5 {md5}, not {remote.md5}). Run again to start over, {advice}")
    os.replace(part, path)


def _fetch(remote: RemoteFile, part: Path) -> None:
    """Append what `part` lacks; from the start where the server cannot send a range."""
    start = part.stat().st_size if part.exists() else 0
    if start == remote.size:
        return
    request = Request(remote.url, headers={"Range": f"bytes={start}-"} if 0 < start < remote.size else {})
    with urlopen(request, timeout=60) as response:
        start = start if response.status == 206 else 0
        length = response.headers["Content-Length"]
        # A login page instead of the file must not overwrite what earlier attempts brought.
        if length is not None and start + int(length) != remote.size:
            raise DataError(f"the server offers {start + int(length):,} bytes instead of {remote.size:,}")
        with (
            open(part, "ab" if start else "wb") as file,
            tqdm(total=remote.size, initial=start, desc=remote.url, unit="B", unit_scale=True) as progress,
        ):
            while block := response.read(1 << 20):
                file.write(block)
                progress.update(len(block))
