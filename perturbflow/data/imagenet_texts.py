"""What the texts beside ImageNet's pictures tell: names of classes, and the classes of the validation pictures."""

from __future__ import annotations

import io
import re
import tarfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from perturbflow.data.image_list import DataError
from perturbflow.data.listing import some
from perturbflow.data.tree import text_lines
from perturbflow.data.wordnet import WORDNET_ID, synonyms_of_lines

DEVKIT = "ILSVRC2012_devkit_t12"
DEVKIT_TRUTH = "ILSVRC2012_validation_ground_truth.txt"
KAGGLE_TRUTH = "LOC_val_solution.csv"
SYNONYMS = ("LOC_synset_mapping.txt", "synset_words.txt", "words.txt")


def is_text(file: Path) -> bool:
    """Whether a file is one of those that this module reads."""
    return file.name in (DEVKIT_TRUTH, "meta.mat", f"{DEVKIT}.tar.gz", KAGGLE_TRUTH, *SYNONYMS) or _is_table(file)


def _is_table(file: Path) -> bool:
    return "val" in file.name.lower() and file.suffix.lower() in (".txt", ".csv")


def read_synonyms(places: Sequence[Path]) -> dict[str, str]:
    """Synonyms by WordNet id: those of Kaggle's mapping, of another such text, or of the devkit.

    places: the folders in which files are looked for.
    """
    for name in SYNONYMS:
        for place in places:
            if (place / name).is_file():
                return synonyms_of_lines(text_lines((place / name).read_bytes(), str(place / name)))
    return dict(_devkit_classes(places).values())


def validation_classes(files: Sequence[str], where: str, places: Sequence[Path], class_ids: Sequence[str]) -> list[str]:
    """The WordNet id of each validation picture that lies in no class folder.

    It is told by Kaggle's LOC_val_solution.csv, by the devkit, or by the one .txt or .csv file with `val` in its name.
    This has a line a picture: its file name, and then its WordNet id or the place of that, from 0, among the sorted ids
    of all classes; or the WordNet id alone, in the order of the official names of the pictures.
    files: their paths in `where`. places: the folders in which the texts are looked for. class_ids: the sorted ids of
    all classes, empty where those are not known from the training pictures.
    Raises FileNotFoundError where nothing tells, and DataError where a text does not fit the pictures.
    """
    tables = [place / KAGGLE_TRUTH for place in places if (place / KAGGLE_TRUTH).is_file()]
    numbers = None if tables else _devkit_file(places, DEVKIT_TRUTH)
    if numbers is not None:
        return _looked_up(files, where, _by_devkit(text_lines(numbers, DEVKIT_TRUTH), places), DEVKIT_TRUTH)
    tables = tables[:1] or [file for place in places for file in sorted(place.iterdir()) if _is_table(file)]
    if not tables:
        raise FileNotFoundError(
            f"{where} holds pictures in no class folder, such as {files[0]}, and nothing tells their classes: put "
            f"{DEVKIT}.tar.gz, {KAGGLE_TRUTH}, or a val.txt of file names and WordNet ids into data.path, or sort "
            "them into val/<WordNet id>/."
        )
    if len(tables) > 1:
        raise DataError(f"{some([*map(str, tables)])} might all tell the classes of {where}; leave one of them there.")
    table, lines = str(tables[0]), text_lines(tables[0].read_bytes(), str(tables[0]))
    return _looked_up(files, where, _by_table(lines, table, class_ids or sorted(read_synonyms(places))), table)


def _looked_up(files: Sequence[str], where: str, classes: dict[str, str], table: str) -> list[str]:
    """The class of each file, by its name without its suffix."""
    names = [PurePosixPath(file).stem for file in files]
    if unknown := [file for file, name in zip(files, names, strict=True) if name not in classes]:
        raise DataError(f"{table} has no line for {some(unknown)} of {where}; remove the picture or add the line.")
    if missing := sorted({*classes} - {*names}):
        raise FileNotFoundError(
            f"{where} lacks {len(missing)} pictures of {table}, such as {missing[0]}: unpack it again, or, "
            "for a part of the data set, sort the pictures into val/<WordNet id>/."
        )
    return [classes[name] for name in names]


def _official_name(number: int) -> str:
    return f"ILSVRC2012_val_{number:08}"


def _by_table(lines: Sequence[str], table: str, class_ids: Sequence[str]) -> dict[str, str]:
    """The class of each picture that a text has, by the picture's name without its suffix."""
    rows = [[column.strip('"') for column in re.split(r"[,;\s]+", line.strip())] for line in lines]
    if rows and not any(WORDNET_ID.fullmatch(column) or column.isdecimal() for column in rows[0][:2]):
        rows = rows[1:]  # without the head
    classes = {}
    for number, row in enumerate(rows, start=1):
        name, label = (PurePosixPath(row[0]).stem, row[1]) if len(row) > 1 else (_official_name(number), row[0])
        if len(row) > 1 and label.isdecimal() and int(label) < len(class_ids):
            label = class_ids[int(label)]
        if not WORDNET_ID.fullmatch(label):
            raise DataError(
                f"{table}: {' '.join(row)!r} gives no class that can be told; it must be a WordNet id, or, "
                f"after a file name, a number from 0 below that of all classes, of which {len(class_ids)} are known."
            )
        classes[name] = label
    return classes


# ---- The devkit


class _Class(NamedTuple):
    wordnet_id: str
    synonyms: str


def _by_devkit(lines: Sequence[str], places: Sequence[Path]) -> dict[str, str]:
    """The class of each picture, from the devkit's own numbers of classes in the order of the pictures."""
    classes = _devkit_classes(places)
    try:
        return {_official_name(at): classes[int(line)].wordnet_id for at, line in enumerate(lines, start=1)}
    except KeyError as error:
        raise FileNotFoundError(
            f"{DEVKIT_TRUTH} numbers the classes as the devkit's meta.mat does, which is not there or has no {error}: "
            f"put {DEVKIT}.tar.gz beside the pictures."
        ) from error
    except ValueError as error:
        raise DataError(f"{DEVKIT_TRUTH} must hold a number a line ({error}); unpack the devkit again.") from error


def _devkit_classes(places: Sequence[Path]) -> dict[int, _Class]:
    """The devkit's classes by its own numbers; none where there is no meta.mat."""
    content = _devkit_file(places, "meta.mat")
    if content is None:
        return {}
    from scipy.io import loadmat  # slow to import, and most layouts do without

    try:
        synsets = loadmat(io.BytesIO(content), squeeze_me=True)["synsets"]
        return {
            int(one["ILSVRC2012_ID"]): _Class(str(one["WNID"]), str(one["words"]))
            for one in synsets
            if int(one["num_children"]) == 0  # others are what classes have in common
        }
    except Exception as error:  # of any kind: the file may be damaged anywhere
        raise DataError(f"meta.mat of the devkit cannot be read ({error}); fetch {DEVKIT}.tar.gz again.") from error


def _devkit_file(places: Sequence[Path], name: str) -> bytes | None:
    """A file of the devkit, unpacked or in its archive; None where there is neither."""
    for place in places:
        if (place / name).is_file():
            return (place / name).read_bytes()
    for archive in (place / f"{DEVKIT}.tar.gz" for place in places):
        if archive.is_file():
            try:
                with tarfile.open(archive, "r:gz") as packed:
                    for member in packed:
                        if PurePosixPath(member.name).name == name and (file := packed.extractfile(member)):
                            return file.read()
            except (tarfile.TarError, EOFError, OSError) as error:
                raise DataError(f"{archive} cannot be read ({error}); fetch it again.") from error
    return None
