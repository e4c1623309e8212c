"""Adversarial sets as folders of PNG files, and back: `python -m perturbflow.files.png export` and `import`.

PNG holds whole pixel values, so that a set made with `round_to_8_bits: true` loses nothing.
"""

from __future__ import annotations

import argparse
import glob
import json
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
from PIL import Image
from tqdm import tqdm

from perturbflow.files.images import Array, open_images, read_columns
from perturbflow.files.provenance import artifact_attributes
from perturbflow.files.sets import ATTACK_COLUMNS, SET_COLUMNS, set_writer
from perturbflow.files.whole import sha256

TABLE = "set.csv"
PICTURE_COLUMNS = {"file": "str", **SET_COLUMNS, "class_name": "str"}
IMAGES_PER_BLOCK = 256


class PngError(ValueError):
    """A set that PNG files cannot hold, or a folder that holds no set."""


def export_set(set_file: Path, data_file: Path, folder: Path, round_pixels: bool = False) -> None:
    """Write a set as `<folder>/<class name>/<index>.png`, lossless RGB, and its columns as `<folder>/set.csv`.

    set_file: adversarial or denoised set. data_file: the `data/<split>.h5` that it was made from, which names the
    classes. The columns are file, index, label, class_name and, for an adversarial set, steps, succeeded and
    already_misclassified. round_pixels: round pixel values that are not whole, which loses small perturbations.

    Raises PngError where pixels are not whole numbers of 0..255 or the data are not those of the set, FileExistsError
    where the folder holds something, FileNotFoundError or BadFileError where a file is not what it should be. Then no
    folder is left.
    """
    images = open_images(set_file)
    index, label = read_columns(set_file, "index", "label")
    data_label, class_name = read_columns(data_file, "label", "class_name")
    if index.max(initial=-1) >= len(data_label) or (data_label[index] != label).any():
        raise PngError(f"{data_file} is not the data of {set_file}: its labels are others")
    names = [name.decode() for name in class_name]
    folders = _folder_names(names)
    digits = len(str(len(data_label)))  # file names sort like the images
    files = [f"{folders[number]}/{row:0{digits}}.png" for row, number in zip(index, label, strict=True)]
    class_names = [names[number] for number in label]
    table = pd.DataFrame({"file": files, "index": index, "label": label, "class_name": class_names})
    with h5py.File(set_file) as file:
        for name in ATTACK_COLUMNS:
            if name in file:
                table[name] = file[name][:]
    with _whole_folder(folder) as temporary:
        for number in np.unique(label):
            (temporary / folders[number]).mkdir()
        paths = [temporary / name for name in files]
        with ThreadPoolExecutor() as pool:
            for rows in _blocks(len(images), "export"):
                pixels = _whole_pixels(images[rows], set_file, round_pixels)
                list(pool.map(_write_picture, paths[rows], pixels))  # as a list, so that errors come up
        table.to_csv(temporary / TABLE, index=False)


def import_set(folder: Path, set_file: Path) -> None:
    """Make a set file from a folder that `export_set` wrote: the same columns, float32 images in the order of index.

    The pictures may have been worked on in between, as long as they keep their names, size and mode.
    Raises FileNotFoundError where set.csv or a picture is missing, FileExistsError where the set file exists, and
    PngError where set.csv or a picture, which it names, is not what it should be. Then no file is left.
    """
    if set_file.exists():
        raise FileExistsError(f"{set_file} exists; remove it, or name another file")
    table = _read_table(folder / TABLE)
    paths = [folder / name for name in table["file"]]
    names = dict(zip(table["label"], table["class_name"], strict=True))
    attributes = artifact_attributes(
        {"imported_from": TABLE},
        class_names=json.dumps([names.get(number, "") for number in range(max(names) + 1)]),
        table_sha256=sha256(folder / TABLE),
    )
    columns = {name: table[name].to_numpy() for name in table.columns.drop(["file", "class_name"])}
    height, width, channels = _read_picture(paths[0]).shape
    with (
        set_writer(set_file, (height, width, channels), columns, attributes) as images,
        ThreadPoolExecutor() as pool,
    ):
        for rows in _blocks(len(paths), "import"):
            pictures = list(pool.map(_read_picture, paths[rows]))
            for path, picture in zip(paths[rows], pictures, strict=True):
                if picture.shape != (height, width, channels):
                    raise PngError(f"{path} is {picture.shape[1]}x{picture.shape[0]}, others are {width}x{height}")
            images[rows] = np.stack(pictures)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        "python -m perturbflow.files.png", description="Adversarial sets as PNG files and back."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    export = commands.add_parser("export", help="write a set as <folder>/<class name>/<index>.png and <folder>/set.csv")
    export.add_argument("set", type=Path, help="adversarial/<set>/<split>.h5, or a denoised set")
    export.add_argument("data", type=Path, help="data/<split>.h5 of the same split")
    export.add_argument("folder", type=Path, help="folder to make")
    export.add_argument("--round", action="store_true", help="round pixel values that are not whole")
    back = commands.add_parser("import", help="make a set file from such a folder")
    back.add_argument("folder", type=Path, help="folder with set.csv")
    back.add_argument("set", type=Path, help="HDF5 file to make")
    given = parser.parse_args(arguments)
    try:
        if given.command == "export":
            export_set(given.set, given.data, given.folder, given.round)
        else:
            import_set(given.folder, given.set)
    except (ValueError, OSError) as error:
        parser.exit(1, f"{parser.prog}: {error}\n")


def _whole_pixels(images: Array, set_file: Path, round_pixels: bool) -> Array:
    """float32 (B, H, W, 3) in 0..255 -> uint8."""
    rounded = np.rint(images)
    if not ((rounded >= 0) & (rounded <= 255)).all():
        raise PngError(f"{set_file} has pixel values outside of 0..255")
    if not round_pixels and (rounded != images).any():
        raise PngError(
            f"{set_file} has pixel values that are not whole; set round_to_8_bits: true for this set, or pass --round "
            "and lose small perturbations"
        )
    return rounded.astype(np.uint8)


def _write_picture(path: Path, pixels: Array) -> None:
    Image.fromarray(pixels).save(path)


def _read_picture(path: Path) -> Array:
    """uint8 (H, W, 3)."""
    try:
        with Image.open(path, formats=["PNG"]) as picture:  # another one may start another program
            picture.load()
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path} is missing; {TABLE} lists it") from error
    # Pillow's decoders raise nearly anything on a damaged file.
    except Exception as error:
        raise PngError(f"{path} cannot be decoded ({error})") from error
    if picture.mode != "RGB":
        raise PngError(f"{path} has mode {picture.mode}; save it as RGB of 8 bits")
    return np.asarray(picture)


def _folder_names(class_names: Sequence[str]) -> list[str]:
    """A name for the folder of each class: its own, but for what file systems do not take or readers pass over."""
    folders = [re.sub(r"^\.|[/\\\0]", "_", name) for name in class_names]
    if doubles := {name for name in folders if folders.count(name) > 1}:
        raise PngError(f"several classes would lie in the folder {min(doubles)}; rename them")
    return folders


@contextmanager
def _whole_folder(folder: Path) -> Iterator[Path]:
    """Give a temporary folder beside `folder`; rename it to `folder` on success, remove it on any error."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(f"{folder} exists and is not an empty folder; remove it, or name another one")
    folder.parent.mkdir(parents=True, exist_ok=True)
    for left_over in folder.parent.glob(f".{glob.escape(folder.name)}.*.part"):
        shutil.rmtree(left_over)
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    temporary.mkdir()
    try:
        yield temporary
        os.replace(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _read_table(path: Path) -> pd.DataFrame:
    """set.csv, in the order of index."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; import needs the {TABLE} that export wrote with the pictures")
    kinds = PICTURE_COLUMNS | ATTACK_COLUMNS
    try:
        table = pd.read_csv(path, dtype=kinds, keep_default_na=False, encoding="utf-8")
    except ValueError as error:
        raise PngError(f"{path} cannot be read ({error}); its columns are {', '.join(kinds)}") from error
    if missing := [name for name in PICTURE_COLUMNS if name not in table]:
        raise PngError(f"{path} has no column {', '.join(missing)}")
    if table.empty:
        raise PngError(f"{path} lists no pictures")
    if (table["label"] < 0).any() or table["index"].duplicated().any() or (table["index"] < 0).any():
        raise PngError(f"{path}: label and index must not be negative, and no index stands there twice")
    return table[[name for name in kinds if name in table]].sort_values("index")


def _blocks(n_images: int, description: str) -> Iterator[slice]:
    """Slices of the rows, in order, with a progress bar on stderr."""
    with tqdm(total=n_images, desc=description, unit="image") as progress:
        for start in range(0, n_images, IMAGES_PER_BLOCK):
            stop = min(start + IMAGES_PER_BLOCK, n_images)
            yield slice(start, stop)
            progress.update(stop - start)


if __name__ == "__main__":
    main()
