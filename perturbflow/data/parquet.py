"""The source `parquet`: images as bytes in parquet files, the way Hugging Face's hub distributes data sets.

The workflow imports this module before every job: pyarrow is imported where files are opened.
"""

from __future__ import annotations

import json
import re
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
import yaml
from numpy.typing import NDArray

from perturbflow.data.image_list import SPLITS, DataError, ImageList
from perturbflow.data.listing import (
    CLASSES_LOOKED_AT,
    SPLIT_NAMES,
    ClassSizes,
    refusal,
    some,
    splits_of,
)
from perturbflow.data.wordnet import WORDNET_ID, name_classes

IMAGE_COLUMNS = ("image", "img", "images", "picture", "jpg", "png")
LABEL_COLUMNS = ("label", "labels", "fine_label", "class", "target", "cls")
KEPT_BYTES = 2**28
"""Of row groups that are kept in memory; two are kept whatever their size."""


def parquet(data: Mapping[str, Any], seed: int) -> dict[str, ImageList]:
    """Pictures in the parquet files below `data.path`, such as data/train-00000-of-00040.parquet or train/0000.parquet.

    A file belongs to the split that its name has, or else the folder nearest to it: `train` or `training`; for val the
    first of `val`, `valid`, `validation`, `dev`, `eval` and `test` that there is. Hidden folders are passed over. A
    column of IMAGE_COLUMNS holds the files of the pictures, as bytes or as structs of `bytes` and `path`; one of
    LABEL_COLUMNS integers or strings. Classes are in the order of their numbers, or of their sorted strings. The names
    of numbers are those of the schema's Hugging Face metadata, else of the README.md, else the numbers; a WordNet id
    gets its first synonym: "n01443537 goldfish". Classes without an image in any split are left out. An image's id is
    the path of its file, a slash, and its row there.
    Raises FileNotFoundError or DataError, naming file and column, where files or columns are missing or labels unknown.
    """
    path, splits = Path(data["path"]), splits_of(data)
    files = {split: _files_of(path, split) for split in splits}
    columns = _columns_of(path, files[splits[0]][0])
    labels = {split: [_read_labels(path, file, columns) for file in files[split]] for split in splits}
    classes = np.unique(np.concatenate([one for of_split in labels.values() for one in of_split]))
    class_names = _name(classes, columns.class_names, path)
    reader = _Reader(path, columns.image)
    return {split: _list(path, split, files[split], labels[split], classes, class_names, reader) for split in splits}


def parquet_sizes(data: Mapping[str, Any]) -> ClassSizes:
    """An estimate by the labels of ten files of each split; nothing where there are none."""
    path, n_classes, largest = Path(data["path"]), 0, dict.fromkeys(SPLITS, 0)
    for split in splits_of(data):
        try:
            files = _files_of(path, split)
            looked_at = files[:: max(1, len(files) // CLASSES_LOOKED_AT)]
            columns = _columns_of(path, files[0])
            labels = np.concatenate([_read_labels(path, file, columns) for file in looked_at])
        except (FileNotFoundError, DataError):  # `parquet` says what is wrong
            continue
        classes, counts = np.unique(labels, return_counts=True)
        n_classes = max(n_classes, len(classes))
        largest[split] = int(counts.max(initial=0)) * len(files) // len(looked_at)
    return ClassSizes(n_classes, largest)


# ---- Files


def parquet_files(data: Mapping[str, Any]) -> dict[str, Path]:
    """All parquet files, and the README.md that may name the classes."""
    path = Path(data["path"])
    found = {file.relative_to(path).as_posix(): file for file in path.glob("**/*.parquet")}
    return {**dict(sorted(found.items())), "README.md": path / "README.md"}


def _files_of(path: Path, split: str) -> list[str]:
    """The files of a split by their paths below `path`, sorted. Raises where there are none, or not all of a series."""
    found = sorted(file.relative_to(path) for file in path.glob("**/*.parquet"))
    visible = [file for file in found if not any(part.startswith(".") for part in file.parts)]
    if not visible:
        raise FileNotFoundError(refusal(path, "a folder with parquet files", "parquet"))
    named = {str(file): _split_named(file) for file in visible}
    for name in SPLIT_NAMES[split]:
        if files := [file for file in named if named[file] == name]:
            _check_series(path, files)
            return files
    raise FileNotFoundError(
        f"{path} holds parquet files, but none of {split}: {some(list(named))}; the name of a file or of its "
        f"folder must have the word {' or '.join(SPLIT_NAMES[split])}."
    )


def _split_named(file: Path) -> str | None:
    """The word for a split in the name of a file, or of the nearest folder that has one."""
    known = {name for names in SPLIT_NAMES.values() for name in names}
    words = (word for part in reversed(file.parts) for word in re.split(r"[^a-z]+", part.lower()))
    return next((word for word in words if word in known), None)


def _check_series(path: Path, files: Sequence[str]) -> None:
    """Raise FileNotFoundError where a file says of how many it is one, and some of these are not there.

    Raises DataError where two files have one name: they are of several versions or parts of a data set.
    """
    by_name: dict[str, str] = {}
    for file in files:
        other = by_name.setdefault(Path(file).name, file)
        if other != file:
            raise DataError(f"{path} holds several data sets, {other} and {file}: name the folder of one in data.path.")
    series: dict[tuple[str, int], set[int]] = {}
    for file in files:
        if match := re.search(r"^(.*?)-(\d+)-of-(\d+)", file):
            series.setdefault((match[1], int(match[3])), set()).add(int(match[2]))
    for (name, total), numbers in series.items():
        if missing := [str(number) for number in range(total) if number not in numbers]:
            raise FileNotFoundError(
                f"{path}/{name}-*-of-{total:05}.parquet: {len(missing)} of {total} files are not there, "
                f"number {some(missing)}; fetch them, or, to do without, take `-of-...` out of the names of the others."
            )


def _open(path: Path, metadata: Any = None) -> Any:
    """The file as pyarrow's. Raises DataError where it is not whole."""
    import pyarrow
    from pyarrow.parquet import ParquetFile

    try:
        return ParquetFile(path, metadata=metadata)
    except (pyarrow.ArrowException, OSError) as error:
        with open(path, "rb") as file:
            is_pointer = file.read(40).startswith(b"version https://git-lfs")
        if is_pointer:
            raise DataError(
                f"{path} is a pointer of Git LFS, not the file itself; run `git lfs pull` there."
            ) from error
        raise DataError(f"{path} is not a whole parquet file ({error}); fetch it again.") from error


# ---- Columns


class _Columns(NamedTuple):
    """Where images and labels are. image: the column of bytes. class_names: the names of labels that are numbers."""

    image: str
    label: str
    class_names: list[str] | None


def _columns_of(path: Path, file: str) -> _Columns:
    """Raises DataError where the file has no column of images or of labels."""
    import pyarrow

    schema = _open(path / file).schema_arrow
    features = json.loads((schema.metadata or {}).get(b"huggingface", b"{}")).get("info", {}).get("features", {})
    class_labels = [
        name for name, one in features.items() if isinstance(one, dict) and one.get("_type") == "ClassLabel"
    ]
    label = _column(schema.names, LABEL_COLUMNS, class_labels, "labels", f"{path}/{file}")
    structs = [
        one.name for one in schema if pyarrow.types.is_struct(one.type) and one.type.get_field_index("bytes") >= 0
    ]
    image = _column(schema.names, IMAGE_COLUMNS, structs, "images", f"{path}/{file}")
    kind = schema.field(image).type
    if image in structs:
        image, kind = f"{image}.bytes", kind.field("bytes").type
    if not (pyarrow.types.is_binary(kind) or pyarrow.types.is_large_binary(kind)):
        raise DataError(f"{path}/{file}: column {image} holds {kind}, not the bytes of pictures' files.")
    names = features[label].get("names") if label in class_labels else _names_in_readme(path, label)
    return _Columns(image, label, names)


def _column(names: Sequence[str], known: Sequence[str], otherwise: Sequence[str], of: str, file: str) -> str:
    """The column by one of the known names, or else the only one that its type tells."""
    if found := [name for name in known if name in names]:
        return found[0]
    if len(otherwise) == 1:
        return otherwise[0]
    near = [(name, match) for name in names for match in get_close_matches(name.lower(), known, n=1)]
    advice = f"rename {near[0][0]} to {near[0][1]}" if near else "rename the one that holds them"
    raise DataError(f"{file} has no column of {of} ({' or '.join(known)}); it has {', '.join(names)}: {advice}.")


def _names_in_readme(path: Path, label: str) -> list[str] | None:
    """The names of classes in the head of the README.md that the hub gives a data set, by `path` or above it."""
    for readme in (path / "README.md", path.absolute().parent / "README.md"):
        if not readme.is_file():
            continue
        head = re.match(r"---\s*\n(.*?)\n---", readme.read_text(encoding="utf-8-sig", errors="replace"), re.DOTALL)
        try:
            card = yaml.safe_load(head[1]) if head else None
        except yaml.YAMLError:  # a text for people; nothing depends on it
            continue
        for names in _class_label_names(card, label):
            return names
    return None


def _class_label_names(card: Any, label: str) -> Iterator[list[str]]:
    """The names of a label under `dataset_info` of the head of a README.md, of each configuration that has them."""
    infos = card.get("dataset_info") if isinstance(card, dict) else None
    for info in infos if isinstance(infos, list) else [infos]:
        for feature in (info.get("features") or []) if isinstance(info, dict) else []:
            kind = feature.get("dtype") if isinstance(feature, dict) and feature.get("name") == label else None
            names = kind.get("class_label", {}).get("names") if isinstance(kind, dict) else None
            if isinstance(names, dict):
                yield [str(names[number]) for number in sorted(names, key=int)]
            elif isinstance(names, list):
                yield [*map(str, names)]


def _read_labels(path: Path, file: str, columns: _Columns) -> NDArray[Any]:
    """The labels of a file, (N,), int64 or strings. Raises DataError for other columns or a missing label."""
    import pyarrow

    opened = _open(path / file)
    if missing := {columns.image.split(".")[0], columns.label} - {*opened.schema_arrow.names}:
        raise DataError(f"{path}/{file} lacks column {some(sorted(missing))}, which other files of the data set have.")
    column = opened.read(columns=[columns.label]).column(0)
    if pyarrow.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if column.null_count:
        raise DataError(f"{path}/{file}: {column.null_count} rows have no {columns.label}; remove them or the file.")
    if pyarrow.types.is_integer(column.type):
        return column.to_numpy().astype(np.int64)
    if pyarrow.types.is_string(column.type) or pyarrow.types.is_large_string(column.type):
        return np.array(column.to_pylist(), np.str_)
    raise DataError(f"{path}/{file}: column {columns.label} holds {column.type}; labels must be integers or strings.")


# ---- Lists


def _name(classes: NDArray[Any], names: Sequence[str] | None, path: Path) -> list[str]:
    """The names of classes, which are numbers, indices into `names` where there are any, or strings."""
    if classes.dtype.kind != "i":
        found = [*map(str, classes)]
    elif negative := [number for number in classes.tolist() if number < 0]:
        raise DataError(f"{path}: label {negative[0]} stands for none; name splits that have labels under data.splits.")
    elif names is None:
        found = [*map(str, classes.tolist())]
    elif unknown := [number for number in classes.tolist() if number >= len(names)]:
        raise DataError(f"{path}: label {unknown[0]} has no name among the {len(names)} that the data set gives.")
    else:
        found = [names[number] for number in classes.tolist()]
    return name_classes(found, {}) if all(map(WORDNET_ID.fullmatch, found)) else found


def _list(
    path: Path,
    split: str,
    files: Sequence[str],
    labels: Sequence[NDArray[Any]],
    classes: NDArray[Any],
    class_names: list[str],
    reader: _Reader,
) -> ImageList:
    indices = np.searchsorted(classes, np.concatenate(labels))
    if lacking := [class_names[index] for index in np.flatnonzero(np.bincount(indices, minlength=len(classes)) == 0)]:
        raise DataError(f"{path}: no images of class {some(lacking)} in {split}; other splits have some.")
    ids = [f"{file}/{row:07}" for file, of_file in zip(files, labels, strict=True) for row in range(len(of_file))]
    order = np.argsort(indices, kind="stable")
    return ImageList(
        source=str(path),
        ids=[ids[row] for row in order],
        labels=indices[order].astype(np.int64),
        class_names=class_names,
        read_bytes=reader.read_bytes,
    )


class _Reader:
    """Reads pictures by their ids, whole row groups at a time, of which it keeps the latest. Threads may share it."""

    def __init__(self, path: Path, column: str) -> None:
        self._path, self._column = path, column
        self._opened: dict[str, tuple[Any, NDArray[np.int64]]] = {}  # metadata, and the row after each row group
        self._kept: OrderedDict[tuple[str, int], Any] = OrderedDict()
        self._lock = Lock()

    def read_bytes(self, name: str) -> bytes:
        """The file of one picture. Raises ValueError where its row has none."""
        file, _, row = name.rpartition("/")
        with self._lock:  # what one thread reads, the others need next
            column, first = self._row_group(file, int(row))
        content = column[int(row) - first].as_py()
        if isinstance(content, dict):
            content = content["bytes"]
        if content is None:
            raise ValueError("its row holds no bytes, perhaps the path of a file elsewhere")
        return bytes(content)

    def _row_group(self, file: str, row: int) -> tuple[Any, int]:
        """The column in the row group that has a row, and the first row of that group."""
        if file not in self._opened:
            metadata = _open(self._path / file).metadata
            sizes = [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]
            self._opened[file] = metadata, np.cumsum(sizes)
        metadata, ends = self._opened[file]
        group = int(np.searchsorted(ends, row, side="right"))
        if (file, group) not in self._kept:
            table = _open(self._path / file, metadata).read_row_group(group, columns=[self._column])
            self._kept[file, group] = table.column(0)
            while len(self._kept) > 2 and sum(column.nbytes for column in self._kept.values()) > KEPT_BYTES:
                self._kept.popitem(last=False)
        self._kept.move_to_end((file, group))
        return self._kept[file, group], int(ends[group - 1]) if group else 0
