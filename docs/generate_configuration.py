"""Write docs/configuration.md from config/schema.yaml and perturbflow/vocabulary.py: `make docs`."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

sys.path.insert(0, str(Path(__file__).parents[1]))  # the package is not installed

from perturbflow.planning.config import dereference, load_schema

SCHEMA = load_schema()
PAGE = Path(__file__).with_name("configuration.md")

INTRODUCTION = """\
# Configuration

<!-- Written by `make docs` from config/schema.yaml and perturbflow/vocabulary.py; edit these instead. -->

A config file describes a whole study. `config/config.yaml` is the paper's, and runs by default;
`snakemake --configfile mine.yaml --cores 8` runs another one in its place, and `--config seed=1` changes a single
top-level key. `config/demo.yaml` is a small one to start from.

A config is checked before anything runs. Every mistake is told with its path, and an unknown key or name with the
nearest valid one. The keys marked as required must be there, all others may be left out. A change reruns what depends
on that key, and nothing else.

`<name>` stands for a name of your choice, of letters, digits, `_`, `.` and `-`; files are called by it. `[]` stands
for each entry of a list.
"""

KINDS = {"object": "mapping", "array": "list", "boolean": "true or false"}
BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤"}


def rows(path: str, schema: Mapping[str, Any], required: bool) -> Iterator[tuple[str, ...]]:
    """Rows of the table (key, type, default, description) for a key and all below it."""
    schema = dereference(schema)
    if "description" not in schema:
        raise ValueError(f"config/schema.yaml: {path} has no description")
    yield f"`{path}`", kind(schema), default(schema, required), schema["description"]
    yield from rows_below(path, schema)


def rows_below(path: str, schema: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    """Rows for what is in a mapping or list."""
    for key, part in schema.get("properties", {}).items():
        yield from rows(f"{path}.{key}", part, key in schema.get("required", []))
    if isinstance(schema.get("additionalProperties"), Mapping):
        yield from rows(f"{path}.<name>", schema["additionalProperties"], False)
    if dereference(schema.get("items", {})).get("properties"):
        yield from rows(f"{path}[]", schema["items"], False)


def kind(schema: Mapping[str, Any]) -> str:
    """Type and range in words: `integer ≥ 1 or null`, `list of number > 0, ≤ 1`."""
    if "enum" in schema:
        return " or ".join("null" if value is None else f"`{value}`" for value in schema["enum"])
    kinds = [schema["type"]] if isinstance(schema["type"], str) else schema["type"]
    words = ", ".join(f"{sign} {schema[bound]}" for bound, sign in BOUNDS.items() if bound in schema)
    text = " or ".join(KINDS.get(name, name) + (f" {words}" if words and name != "null" else "") for name in kinds)
    if "array" in kinds and len(kinds) < 3:
        text = text.replace("list", f"list of {kind(dereference(schema['items']))}", 1)
    return text


def default(schema: Mapping[str, Any], required: bool) -> str:
    """The default as YAML writes it; the defaults of a mapping stand at its keys."""
    if required:
        return "required"
    if "default" not in schema or schema["default"] == {} or "properties" in schema:
        return ""
    # One line of YAML, without the mark that ends a document.
    written = yaml.safe_dump(schema["default"], default_flow_style=True).splitlines()[0]
    return f"`{written}`"


def sections() -> Iterator[str]:
    """The introduction, a table of the keys without any below, and a section for each of the others."""
    yield INTRODUCTION
    simple = {key: part for key, part in SCHEMA["properties"].items() if dereference(part)["type"] != "object"}
    yield "## Study\n"
    yield table([row for key, part in simple.items() for row in rows(key, part, key in SCHEMA["required"])])
    for key, part in SCHEMA["properties"].items():
        if key not in simple:
            (_, _, _, description), *below = rows(key, part, False)
            if key == "classifiers":
                shared = SCHEMA["$defs"]["classifier"]["properties"]  # told in classifier_defaults
                below = [row for row in below if not {*row[0].strip("`").split(".")[2:3]} & {*shared}]
            yield f"## {key}\n\n{description}\n"
            yield table([(f"`{path.removeprefix(f'`{key}.')}", *rest) for path, *rest in below])


def table(lines: list[tuple[str, ...]]) -> str:
    """A Markdown table of rows (key, type, default, description)."""
    head = [("Key", "Type", "Default", "Description"), ("---",) * 4]
    return "".join(f"| {' | '.join(line)} |\n" for line in [*head, *lines])


def page() -> str:
    """The text of docs/configuration.md."""
    return "\n".join(sections())


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
