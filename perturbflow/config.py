"""Validation of a config file: all its errors at once, each with its path and the nearest valid name."""

from __future__ import annotations

import copy
import difflib
import math
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import yaml

SCHEMA_FILE = Path(__file__).parent.parent / "config" / "schema.yaml"

_KINDS = {
    "object": "a mapping",
    "array": "a list",
    "string": "a string",
    "integer": "an integer",
    "number": "a number",
    "boolean": "true or false",
    "null": "null",
}

_Validator = jsonschema.validators.extend(
    jsonschema.Draft202012Validator,
    # JSON Schema takes 64.0 for an integer, and NaN for a number.
    type_checker=jsonschema.Draft202012Validator.TYPE_CHECKER.redefine_many(
        {
            "integer": lambda _, value: isinstance(value, int) and not isinstance(value, bool),
            "number": lambda _, value: (
                isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
            ),
        }
    ),
)


class ConfigError(ValueError):
    """Everything that is wrong with a config, one line each."""


@cache
def load_schema() -> dict[str, Any]:
    """The JSON Schema of a config (config/schema.yaml)."""
    schema: dict[str, Any] = yaml.safe_load(SCHEMA_FILE.read_text())
    return schema


def load_config(path: str | Path) -> dict[str, Any]:
    """Read and resolve a config file, as `resolve_config` does.

    Raises ConfigError where the file is no YAML mapping or does not follow the schema.
    """
    try:
        config = yaml.safe_load(Path(path).read_text())
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from error
    return resolve_config(config, str(path))


def resolve_config(config: object, source: str = "config") -> dict[str, Any]:
    """Check a config and return it complete: classifier defaults merged in, every default filled in.

    The argument is left as it is. `source` names the config in the messages.
    Raises ConfigError with one line per mistake: `source: path.to.key: what is wrong and what to do`.
    """
    config = _plain(config)
    errors = list(_schema_errors(config)) or list(_reference_errors(config))
    if errors:
        raise ConfigError("\n".join(f"{source}: {error}" for error in errors))
    for name, entry in config["classifiers"].items():
        config["classifiers"][name] = merge(config.get("classifier_defaults", {}), entry)
    _fill_defaults(config, load_schema())
    for entry in config["adversarial_sets"].values():
        if entry["attack"] != "mifgsm":
            del entry["decay"]
    return config


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` laid over `base`: mappings are merged key by key, anything else is replaced. Shares nothing with either."""
    merged = {key: copy.deepcopy(value) for key, value in base.items()}
    for key, value in over.items():
        both_mappings = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = merge(merged[key], value) if both_mappings else copy.deepcopy(value)
    return merged


def _plain(value: Any) -> Any:
    """A deep copy of plain dicts and lists; keys become strings, as in JSON."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _dereferenced(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """A schema with its `$ref` merged in; its own keywords win."""
    if "$ref" not in schema:
        return schema
    target = load_schema()["$defs"][schema["$ref"].removeprefix("#/$defs/")]
    return merge(_dereferenced(target), {key: value for key, value in schema.items() if key != "$ref"})


def _fill_defaults(value: Any, schema: Any) -> None:
    """Set, in place, every missing key whose schema has a default, at any depth."""
    if not isinstance(schema, Mapping):
        return
    schema = _dereferenced(schema)
    if isinstance(value, list):
        for item in value:
            _fill_defaults(item, schema.get("items"))
    elif isinstance(value, dict):
        properties = schema.get("properties", {})
        for key, sub_schema in properties.items():
            if isinstance(sub_schema, Mapping) and "default" in (resolved := _dereferenced(sub_schema)):
                value.setdefault(key, copy.deepcopy(resolved["default"]))
        for key, item in value.items():
            _fill_defaults(item, properties.get(key, schema.get("additionalProperties")))


def _path(parts: Iterable[str | int]) -> str:
    """`denoisers.unet.stages[0].epochs`"""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts)
    return text.removeprefix(".") or "the file"


def _nearest(name: object, valid: Collection[str]) -> str:
    """`; did you mean 'x'?`, or the valid names where none is near."""
    near = difflib.get_close_matches(str(name), valid, n=1)
    return f"; did you mean '{near[0]}'?" if near else f"; valid: {', '.join(valid) or 'none'}"


def _schema_errors(config: Any) -> Iterator[str]:
    for error in _Validator(load_schema()).iter_errors(config):
        yield from _explain(error)


def _explain(error: jsonschema.ValidationError) -> Iterator[str]:
    """One line per mistake that a JSON Schema error stands for."""
    path = list(error.absolute_path)
    bound, value = error.validator_value, error.instance
    match error.validator:
        case "additionalProperties":
            known = [key for key, schema in error.schema["properties"].items() if schema is not False]
            for key in value:
                if key not in known:
                    yield f"{_path([*path, key])}: unknown key{_nearest(key, known)}"
            return
        case "required":
            # jsonschema reports each missing key in an error of its own, and names it only in the message.
            key = re.findall(r"'(.*?)' is a required property", error.message)[0]
            yield f"{_path([*path, key])}: missing; every config needs it"
            return
        case "type":
            reason = _explain_type(bound, value)
        case "enum":
            reason = f"must be one of {', '.join(map(str, bound))}, got {value!r}{_nearest(value, bound)}"
        case "minimum":
            reason = f"must be at least {bound}, got {value}"
        case "maximum":
            reason = f"must be at most {bound}, got {value}"
        case "exclusiveMinimum":
            reason = f"must be greater than {bound}, got {value}"
        case "minItems" | "minProperties" | "minLength":
            reason = f"must hold at least {bound}, got {len(value)}"
        case "maxItems":
            reason = f"must hold at most {bound}, got {len(value)}"
        case "uniqueItems":
            reason = f"must not repeat an entry, got {value}"
        case _:
            reason = error.message
    yield f"{_path(path)}: {reason}"


def _explain_type(kinds: str | list[str], value: object) -> str:
    kinds = [kinds] if isinstance(kinds, str) else kinds
    return f"must be {' or '.join(_KINDS[kind] for kind in kinds)}, got {value!r}"


def _reference_errors(config: dict[str, Any]) -> Iterator[str]:
    """Mistakes between keys, in a config that follows the schema."""
    return iter(())
