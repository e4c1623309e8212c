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

    def images(self, folder: str = "") -> list[str]:
        """Image files at any depth below a folder, or below the root."""
        return [file for file in self._below(folder) if is_picture(file)]

    def left_out(self, folder: str = "") -> dict[str, str]:
        """The other files at any depth below a folder, or below the root, and for each why it is no image."""
        return {file: why_no_picture(file) for file in self._below(folder) if not is_picture(file)}

    def _below(self, folder: str) -> list[str]:
        return [file for file in self.files if file.startswith(f"{folder}/")] if folder else self.files

    def below(self, folder: str) -> Tree:
        """The tree of one of its folders; of itself for an empty name."""
        if not folder:
            return self

        def inside(names: list[str]) -> list[str]:
            return [name.removeprefix(f"{folder}/") for name in names if name.startswith(f"{folder}/")]

        return Tree(
            f"{self.name}/{folder}",
            inside(self.files),
            inside(self.folders),
            lambda file: self.read_bytes(f"{folder}/{file}"),
        )

    def lines(self, file: str) -> list[str]:
        """Lines of a text file that are not empty. Raises FileNotFoundError, and DataError as `text_lines`."""
        if file not in self.files:
            raise FileNotFoundError(f"{self.name} holds no {file}; is this the data set's own folder, and whole?")
        return text_lines(self.read_bytes(file), f"{self.name}/{file}")


def text_lines(content: bytes, name: str) -> list[str]:
    """Lines of a text that are not empty, whichever system wrote them. Raises DataError where it is not UTF-8."""
    try:
        text = content.decode("utf-8-sig")  # Windows marks its texts
    except UnicodeDecodeError as error:
        raise DataError(f"{name} is not a text in UTF-8 ({error}); save it as one.") from error
    return [line.rstrip() for line in text.splitlines() if line.strip()]


def open_tree(path: Path) -> Tree:
    """The files of a folder or of a zip file. Raises DataError where the path is neither."""
    return _folder_tree(path) if path.is_dir() else _zip_tree(path)


def _folder_tree(path: Path) -> Tree:
    def fail(error: OSError) -> NoReturn:
        raise error

    files, folders = [], []
    for folder, folder_names, file_names in os.walk(path, onerror=fail, followlinks=True):
        folder_names[:] = [name for name in folder_names if not is_junk(name)]
        inside = os.path.relpath(folder, path).replace(os.sep, "/") + "/" if folder != str(path) else ""
        folders += [inside + name for name in folder_names]
        files += [inside + name for name in file_names if not is_junk(name)]
    return Tree(str(path), sorted(files), sorted(folders), lambda file: (path / file).read_bytes())


def _zip_tree(path: Path) -> Tree:
    """A zip file, without what is hidden and without the resource forks that a Mac puts beside the files."""
    try:
        archive = zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise DataError(f"{path} is neither a folder nor a whole zip file ({error}); remove or replace it.") from error
    # Some tools of Windows separate by backslashes.
    members = {member.replace("\\", "/").removeprefix("./"): member for member in archive.namelist()}
    names = [name for name in members if not any(is_junk(part) for part in name.split("/"))]
    folders = {name.rstrip("/") for name in names if name.endswith("/")}
    for parent in {name.rpartition("/")[0] for name in names} - {""}:
        folders |= {parent, *map(str, PurePosixPath(parent).parents)} - {"."}
    files = [name for name in names if name and not name.endswith("/")]
    return Tree(str(path), sorted(files), sorted(folders), lambda file: archive.read(members[file]))


def is_junk(name: str) -> bool:
    """Whether a file or folder is hidden, or what a Mac puts beside the files that it packs."""
    return name.startswith(".") or name == "__MACOSX"
