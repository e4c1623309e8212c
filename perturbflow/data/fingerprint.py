"""Whether the images of a source are those that a study's data were made from.

To read all pictures before every run would take too long, and a copy of them has other times. So names, sizes and times
of the files are compared first, and what the pictures hold only where these differ.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from perturbflow.data.image_list import DataError, ImageList, pictures_sha256
from perturbflow.data.sources import SOURCES, data_slice, list_splits
from perturbflow.files.whole import BadFileError, whole_file

THREADS = 16  # where the files lie on another machine, they wait for its answers
IMAGES_PER_TASK = 100
COMPARED = ".compared.json"  # beside the data: earlier answers, so that pictures are read once for one question


def source_fingerprint(data: Mapping[str, Any], seed: int, code: Mapping[str, str], files: Mapping[str, Path]) -> str:
    """What a study's data are made from: what its data files tell of themselves, where they would become the same.

    data: the config's `data`. code: digests of the code that makes the data files. files: these, by split; each has its
    own answer as the attribute `source_fingerprint`, and none has to be there.
    The answer has a part for the config and the code, and one for the source, a digest of names, sizes and times of its
    files. Where these are others than those that the data files were made from, but the pictures that are taken and
    what they hold are the same, or where the source is gone, it is that of the data files.
    """
    made_with = _digest(json.dumps([data_slice(data), seed, code], sort_keys=True).encode())
    recorded = _recorded(files)
    comparable = recorded if recorded and recorded.startswith(f"{made_with}.") else None
    roots = SOURCES[data["source"]].files(data)
    if not any(root.exists() for root in roots.values()):
        return comparable or f"{made_with}.{'absent' if roots else 'no-files'}"
    current = f"{made_with}.{digest_of_files(roots)}"
    if comparable == current:
        return current
    file = next(iter(files.values())).with_name(COMPARED)
    answers = _read_answers(file)
    # Of the job itself no data files are there: they are removed before. It has to answer as was answered before it.
    if comparable and answers.get(current, {}).get("recorded") != comparable:
        same = _would_be_the_same(data, seed, files)
        answers[current] = {"recorded": comparable, "answer": comparable if same else current}
        with suppress(OSError), whole_file(file) as temporary:  # a study may be looked at without a right to write
            temporary.write_text(json.dumps(answers), encoding="utf-8")
    return answers.get(current, {}).get("answer", current)


def digest_of_files(roots: Mapping[str, Path]) -> str:
    """Digest of names, sizes and times of files, and of those below folders but for hidden ones, 12 hexadecimal digits.

    roots: files and folders, by the names under which they count. None of them has to be there.
    """
    digest = hashlib.sha256()
    level = dict(roots)
    with ThreadPoolExecutor(THREADS) as pool:
        while level:
            below: dict[str, Path] = {}
            for (name, path), (entries, folders) in zip(level.items(), pool.map(_look, level.values()), strict=True):
                digest.update(_digest(os.fsencode("\0".join([name, *entries]))).encode())
                below |= {f"{name}/{folder}": path / folder for folder in folders}
            level = below
    return digest.hexdigest()[:12]


def _look(path: Path) -> tuple[list[str], list[str]]:
    """What stands for each file of a folder, or for one file, and the names of the folder's folders, both sorted."""
    if not path.is_dir():
        return [_state(path)], []
    files, folders = [], []
    with suppress(OSError), os.scandir(path) as entries:  # who lists the images says what is wrong
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if _is_folder(entry):
                folders.append(entry.name)
            else:
                files.append(f"{entry.name}\0{_state(entry)}")
    return sorted(files), sorted(folders)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _state(file: Path | os.DirEntry[str]) -> str:
    try:
        status = file.stat()
    except OSError:  # such as a link to nothing
        return ""
    return f"{status.st_size} {status.st_mtime_ns}"


def _recorded(files: Mapping[str, Path]) -> str | None:
    """What the data files that are there tell of their source, if they agree."""
    told = {_attributes(path).get("source_fingerprint") for path in files.values() if path.exists()}
    return told.pop() if len(told) == 1 else None


def _attributes(path: Path) -> dict[str, Any]:
    """Of a data file; none where it is damaged, which is told to whoever reads its images."""
    from perturbflow.files.images import open_whole  # with h5py, which a new study does without

    try:
        with open_whole(path, ()) as file:
            return dict(file.attrs)
    except BadFileError:
        return {}


def _read_answers(file: Path) -> dict[str, dict[str, str]]:
    try:
        answers: dict[str, dict[str, str]] = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return answers


def _would_be_the_same(data: Mapping[str, Any], seed: int, files: Mapping[str, Path]) -> bool:
    """Whether the data files that are there were made from what would be taken from the source now."""
    try:
        splits = list_splits({**data, "download": False}, seed)
        recorded = {split: _attributes(path) for split, path in files.items() if path.exists()}
        if any(told.get("listed_sha256") != splits[split].listed_sha256() for split, told in recorded.items()):
            return False
        return all(told.get("pictures_sha256") == _pictures_sha256(splits[split]) for split, told in recorded.items())
    except (OSError, DataError):  # the job that reads the source says what is wrong with it
        return False


def _pictures_sha256(images: ImageList) -> str:
    from tqdm.auto import tqdm  # slow to import, and needed rarely

    order = sorted(range(len(images.ids)), key=images.ids.__getitem__)  # as they lie on disk
    digests = [b""] * len(order)

    def look(start: int) -> int:
        rows = order[start : start + IMAGES_PER_TASK]
        for row in rows:
            digests[row] = hashlib.sha256(images.read(images.ids[row])).digest()
        return len(rows)

    with (
        ThreadPoolExecutor(THREADS) as pool,
        tqdm(total=len(order), desc=f"{images.source}: are these the study's images", unit=" images") as progress,
    ):
        for n_done in pool.map(look, range(0, len(order), IMAGES_PER_TASK)):
            progress.update(n_done)
    return pictures_sha256(digests)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:12]
