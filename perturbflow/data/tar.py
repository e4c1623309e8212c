"""The files of tar archives, which are read where they lie: each by its offset, without unpacking anything."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from perturbflow.data.image_list import DataError
from perturbflow.data.tree import Tree, is_junk


class Member(NamedTuple):
    """A file in an archive: its path there, and where in the archive its bytes are."""

    name: str
    offset: int
    size: int


def tar_tree(path: Path) -> Tree:
    """The files of a tar archive by their paths in it. Raises as `archives_tree`."""
    return archives_tree(str(path), {"": path})


def archives_tree(name: str, archives: Mapping[str, Path], beside: Tree | None = None) -> Tree:
    """A tree in which tar archives, and those in them, count as folders.

    archives: by the path that each has in the tree. beside: the other files of the tree.
    Raises DataError where an archive is damaged, compressed, or not whole.
    """
    inside = {
        f"{folder}/{member.name}".removeprefix("/"): (path, member)
        for folder, path in archives.items()
        for member in _members(path)
    }
    parents = {file.rpartition("/")[0] for file in inside}
    folders = {*parents, *(str(above) for parent in parents for above in PurePosixPath(parent).parents)} - {"", "."}

    def read_bytes(file: str) -> bytes:
        if beside and file not in inside:
            return beside.read_bytes(file)
        path, member = inside[file]
        with open(path, "rb") as archive:
            archive.seek(member.offset)
            return archive.read(member.size)

    files = {*inside}
    if beside:
        files |= {*beside.files} - {*archives}
        folders |= {*beside.folders}
    return Tree(name, sorted(files), sorted(folders), read_bytes)


def _members(path: Path) -> Iterator[Member]:
    try:
        with tarfile.open(path, "r:") as outer:
            for member in _visible(outer):
                if not member.name.endswith(".tar"):
                    yield Member(member.name, member.offset_data, member.size)
                    continue
                with tarfile.open(fileobj=outer.extractfile(member), mode="r:") as inner:
                    for one in _visible(inner):
                        yield Member(f"{member.name}/{one.name}", member.offset_data + one.offset_data, one.size)
    except tarfile.TarError as error:
        raise DataError(
            f"{path} is not a whole tar archive without compression ({error}): fetch it again, or unpack it if "
            "it is compressed."
        ) from error


def _visible(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """The files of an archive, without what is hidden."""
    for member in archive:
        member.name = member.name.removeprefix("./")
        if member.isfile() and not any(is_junk(part) for part in member.name.split("/")):
            yield member
