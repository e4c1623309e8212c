"""Which logits of a network belong to the classes of the data, where the network was trained on other classes.

Nothing of torch is imported, and timm only where one of its label sets is asked for.
"""

from __future__ import annotations

import csv
import difflib
import json
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

Meaning = str | Sequence[str] | Mapping[str, int]
"""What the logits of a network stand for, as a config says it under `logits`: `imagenet`, a label set of timm or the
path of a file; the class of each logit, in their order; or the number of the logit, from 0, of each class."""

IMAGENET = "imagenet"
LABEL_SETS = tuple(f"imagenet-{size}" for size in ("1k", "12k", "21k", "21k-goog", "21k-miil", "22k", "22k-ms"))
FILES = (".txt", ".csv", ".json")

_WORDNET_ID = re.compile(r"(n\d{8})(?!\d)[\s,:]*")


def is_file(logits: Meaning | None) -> bool:
    """Whether `logits` is the path of a file, told by its suffix."""
    return isinstance(logits, str) and logits.lower().endswith(FILES)


def count_logits(logits: Meaning) -> int | None:
    """The number of a network's logits, None where `logits` does not tell it. Raises ValueError as `find_logits`."""
    if logits == IMAGENET:
        return None
    read = _read(logits)
    return None if isinstance(read, Mapping) else len(read)


def find_logits(logits: Meaning, class_names: Sequence[str], n_logits: int, predict_among: str) -> list[int]:
    """The logits that count, in the order in which a classifier of the data gives them.

    class_names: of the data, in the order of their labels: "n01443537 goldfish", a WordNet id or a name. A WordNet id
    decides where the logits have such; a name has to be the whole name of one logit's class or one of its synonyms,
    whatever its case and with `_` for a space. n_logits: of the network. predict_among: `data` gives one logit for each
    class of the data, `all` lets those of the network's other classes follow.

    Raises ValueError, which begins with `logits`, where a class has no logit or several, two classes have the same, a
    file cannot be read, or what it tells is of another number of logits.
    """
    read = _read(logits, n_logits)
    if isinstance(read, Mapping):
        found = _by_mapping(read, class_names, n_logits)
    elif len(read) != n_logits:
        raise ValueError(f"logits: {_named(logits)} has {len(read)} classes, but the network gives {n_logits} logits")
    else:
        found = _by_name(read, class_names, _named(logits))
    shared: dict[int, str] = {}
    for name, index in zip(class_names, found, strict=True):
        if (other := shared.setdefault(index, name)) != name:
            raise ValueError(f"logits: the classes {other} and {name} of the data both belong to logit {index}")
    if predict_among == "data":
        return found
    return [*found, *(index for index in range(n_logits) if index not in shared)]


def _named(logits: Meaning) -> str:
    return logits if isinstance(logits, str) else "the list"


def _read(logits: Meaning, n_logits: int | None = None) -> list[str] | dict[str, int]:
    """The class of each logit, or the logit of each class. n_logits: tells which label set `imagenet` is."""
    if isinstance(logits, Mapping):
        return dict(logits)
    if not isinstance(logits, str):
        return list(logits)
    return _read_file(Path(logits)) if is_file(logits) else _label_set(logits, n_logits)


def _label_set(name: str, n_logits: int | None) -> list[str]:
    """The classes of a label set of timm, "n01443537 goldfish, Carassius auratus" each."""
    from timm.data import ImageNetInfo, infer_imagenet_subset

    if name == IMAGENET:
        inferred = infer_imagenet_subset({"num_classes": n_logits})
        if inferred is None:
            raise ValueError(f"logits: no label set of ImageNet that timm knows has {n_logits} classes")
        name = inferred
    if name not in LABEL_SETS:
        known = [IMAGENET, *LABEL_SETS]
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"valid: {', '.join(known)}, or a file ({', '.join(FILES)})"
        raise ValueError(f"logits: {name} is no label set; {hint}")
    info = ImageNetInfo(name)
    return [f"{wordnet_id} {info.label_name_to_description(wordnet_id)}" for wordnet_id in info.label_names()]


def _read_file(path: Path) -> list[str] | dict[str, int]:
    """A file of classes: a line or an entry for each logit, in order, or a table of class and logit.

    .txt: a class a line. .csv: a class a row, or its logit's number and the class. .json: a list; a mapping from the
    numbers, as in `{"0": ["n01440764", "tench"], ...}` or `{"0": "tench", ...}`; or one from classes to numbers.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix.lower() == ".json":
            return _of_json(json.loads(text))
        if path.suffix.lower() == ".csv":
            return _of_rows([row for row in csv.reader(text.splitlines()) if any(map(str.strip, row))])
        return [line.strip() for line in text.splitlines() if line.strip()]
    except FileNotFoundError:
        raise ValueError(f"logits: {path} does not exist; give a file of the classes in the logits' order") from None
    except (OSError, UnicodeDecodeError, ValueError, TypeError) as error:
        raise ValueError(f"logits: {path} cannot be read as a list of classes: {error}") from error


def _of_json(content: Any) -> list[str] | dict[str, int]:
    if isinstance(content, list):
        return [_text(entry) for entry in content]
    if not isinstance(content, dict):
        raise ValueError(f"it holds a {type(content).__name__}, not a list or a mapping")
    if content and all(isinstance(value, int) and not isinstance(value, bool) for value in content.values()):
        return dict(content)
    return _numbered({key: _text(value) for key, value in content.items()})


def _of_rows(rows: list[list[str]]) -> list[str]:
    """Rows of a table, with or without a head."""
    if rows and len(rows[0]) > 1:
        body = rows if rows[0][0].strip().isdigit() else rows[1:]
        if body and all(row[0].strip().isdigit() for row in body):
            return _numbered({row[0].strip(): " ".join(cell.strip() for cell in row[1:]) for row in body})
    return [", ".join(cell.strip() for cell in row) for row in rows]


def _text(entry: Any) -> str:
    """A class from a file: a name, or a WordNet id and a name."""
    return " ".join(map(str, entry)) if isinstance(entry, list) else str(entry)


def _numbered(classes: Mapping[str, str]) -> list[str]:
    """Classes in the order of their numbers, which must be 0, 1, 2, ..."""
    numbers = sorted(map(int, classes))
    if numbers != list(range(len(numbers))):
        raise ValueError(f"the logits' numbers must be 0 to {len(numbers) - 1}, each once")
    return [classes[str(number)] for number in numbers]


def _by_mapping(logit_of: Mapping[str, int], class_names: Sequence[str], n_logits: int) -> list[int]:
    """The logit of each class of the data, which the mapping names as the data do, or by WordNet id or name alone."""
    known = {_comparable(name): index for name, index in logit_of.items()}
    found, missing = [], []
    for name in class_names:
        wordnet_id, rest = _parted(name)
        keys = (_comparable(name), wordnet_id, _comparable(rest))
        index = next((known[key] for key in keys if key and key in known), None)
        if index is None:
            missing.append(name)
        elif not 0 <= index < n_logits:
            raise ValueError(f"logits: {name} is given logit {index}, but the network's are 0 to {n_logits - 1}")
        else:
            found.append(index)
    if missing:
        raise ValueError(f"logits: the mapping lacks {_some(missing)} of the data's classes; it has {_some(logit_of)}")
    return found


def _by_name(classes: Sequence[str], class_names: Sequence[str], source: str) -> list[int]:
    """The logit of each class of the data, by WordNet id or by name."""
    by_id: dict[str, list[int]] = {}
    by_name: dict[str, list[int]] = {}
    by_synonym: dict[str, list[int]] = {}
    for index, one in enumerate(classes):
        wordnet_id, names = _parted(one)
        if wordnet_id:
            by_id.setdefault(wordnet_id, []).append(index)
        by_name.setdefault(_comparable(names), []).append(index)
        for synonym in dict.fromkeys(map(_comparable, names.split(","))):
            by_synonym.setdefault(synonym, []).append(index)

    found, wrong = [], []
    for name in class_names:
        wordnet_id, rest = _parted(name)
        if wordnet_id and by_id:
            indices = by_id.get(wordnet_id, [])
        else:
            indices = by_name.get(_comparable(rest)) or by_synonym.get(_comparable(rest), [])
        if len(indices) == 1:
            found += indices
        elif indices:
            wrong.append(f"{name} (logits {', '.join(map(str, indices))} are called so)")
        else:
            near = difflib.get_close_matches(_comparable(rest), by_synonym, n=1)
            wrong.append(f"{name} (the nearest is {near[0]})" if near and rest else name)
    if wrong:
        raise ValueError(
            f"logits: {source} does not tell one logit for {_some(wrong)} of the data's classes; name the folders by "
            "WordNet ids or by the logits' classes, or write a mapping from each class to the number of its logit"
        )
    return found


def _parted(name: str) -> tuple[str, str]:
    """WordNet id, "" for none, and name of a class."""
    match = _WORDNET_ID.match(name)
    return (match[1], name[match.end() :]) if match else ("", name)


def _comparable(name: str) -> str:
    return " ".join(name.replace("_", " ").casefold().split())


def _some(names: Collection[str]) -> str:
    """The first names, and how many more there are."""
    first = ", ".join(list(names)[:3])
    return f"{first} and {len(names) - 3} more" if len(names) > 3 else first
