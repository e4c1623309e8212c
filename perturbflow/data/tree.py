"""The files of a folder or of a zip file, by their paths in it."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NoReturn

from perturbflow.data.image_list import DataError
from perturbflow.data.pictures import is_picture, why_no_picture


@dataclass(frozen=True)
class Tree:
    """The files of a folder or zip file by their paths in it, written with `/`, sorted."""

    name: str
    files: list[str]
    folders: list[str]
    read_bytes: Callable[[str], bytes]

    def images(self, folder: str) -> list[str]:
        """Image files at any depth below a folder."""
        return [file for file in self.files if file.startswith(f"{folder}/") and is_picture(file)]

    def left_out(self, folder: str) -> dict[str, str]:
        """The other files at any depth below a folder, and for each why it is no image."""
        others = (file for file in self.files if file.startswith(f"{folder}/") and not is_picture(file))
        return {file: why_no_picture(file) for file in others}

    def lines(self, file: str) -> list[str]:
        """Lines of a text file that are not empty."""
        if file not in self.files:
            raise FileNotFoundError(f"{self.name} holds no {file}; is this the data set's own folder, and whole?")
        return [line for line in self.read_bytes(file).decode().splitlines() if line.strip()]


def open_tree(path: Path) -> Tree:
    """The files of a folder or of a zip file. Raises DataError where the path is neither."""
    return _folder_tree(path) if path.is_dir() else _zip_tree(path)


def _folder_tree(path: Path) -> Tree:
    def fail(error: OSError) -> NoReturn:
        raise error

    files, folders = [], []
    for folder, folder_names, file_names in os.walk(path, onerror=fail, followlinks=True):
        folder_names[:] = [name for name in folder_names if not name.startswith(".")]
        inside = Path(folder).relative_to(path)
        folders += [(inside / name).as_posix() for name in folder_names]
        files += [(inside / name).as_posix() for name in file_names if not name.startswith(".")]
    return Tree(str(path), sorted(files), sorted(folders), lambda file: (path / file).read_bytes())


def _zip_tree(path: Path) -> Tree:
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
    return Tree(str(path), sorted(files), sorted(folders), lambda file: archive.read(root + file))
