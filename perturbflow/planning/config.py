"""Validation of a config file: all its mistakes at once, each with its path and the nearest valid name.

config/schema.yaml describes the config. Beyond JSON Schema's own keywords it uses four more:
`names: <path>` - the value is a name that stands at another place of the config, such as a key of `classifiers`;
`sum: <number>` - what the values of a mapping add up to;
`ascending: true` - no entry of a list is smaller than the one before;
`metric: true` - the value is the name of a function that metrics.py registers.
The names that perturbflow/vocabulary.py has stand in it as `${words}`, keys of `_vocabulary`: as a whole value they
are a list, under `pattern` they are alternatives, and in a text they are joined, each in backticks where these stand
around it.
"""

from __future__ import annotations

import copy
import difflib
import itertools
import math
import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from perturbflow import vocabulary
from perturbflow.data.sources import SOURCES
from perturbflow.machine.import_paths import is_import_path
from perturbflow.planning.declarations import architectures, metric_names
from perturbflow.vocabulary import Labels, set_colors

SCHEMA_FILE = Path(__file__).parents[2] / "config" / "schema.yaml"

# What figures can tell apart; tests hold this, as the names below, to the modules that are too slow to import here.
FIGURE_DENOISERS = 5

OWN_ATTACKS = {*vocabulary.ATTACKS}
CONTROLS = {*vocabulary.CONTROLS}

LABELLED = ("classifiers", "adversarial_sets", "denoisers")
"""Sections whose entries may have a label."""

PATHS = (
    "data.path",
    *(f"{entry}.{key}" for entry in ("classifier_defaults", "classifiers.*") for key in ("weights", "logits")),
)
"""Keys whose values are paths of files or folders, or may be."""

KeyPath = tuple[str | int, ...]

_KINDS = {
    "object": "a mapping",
    "array": "a list",
    "string": "a string",
    "integer": "an integer",
    "number": "a number",
    "boolean": "true or false",
    "null": "null",
}


class ConfigError(ValueError):
    """Everything that is wrong with a config, one line each."""


@cache
def load_schema() -> dict[str, Any]:
    """The JSON Schema of a config, from config/schema.yaml and the vocabulary."""
    schema: dict[str, Any] = _filled(yaml.safe_load(SCHEMA_FILE.read_text(encoding="utf-8")), _vocabulary())
    return schema


def _vocabulary() -> dict[str, Any]:
    """What each placeholder of the schema stands for: names, a text, or a value as it is."""
    attacks, metrics = vocabulary.ATTACKS, vocabulary.METRICS
    own_keys = dict.fromkeys(key for attack in attacks.values() for key in attack.own_keys)
    kinds = {kind: [name for name, one in metrics.items() if one.kind == kind] for kind in vocabulary.METRIC_KINDS}
    return {
        "raw": vocabulary.RAW,
        "classifiers": [*vocabulary.CLASSIFIERS],
        "attacks": [*attacks],
        "attacks described": "; ".join(f"`{name}` {attack.does}" for name, attack in attacks.items()),
        **{f"attacks with {key}": [name for name, one in attacks.items() if key in one.own_keys] for key in own_keys},
        "controls": [*vocabulary.CONTROLS],
        "denoisers": [*vocabulary.DENOISERS],
        "sources": [*SOURCES],
        "sources described": "; ".join(f"`{name}` {holds}" for name, holds in vocabulary.SOURCES.items()),
        "sources with a path": [name for name, source in SOURCES.items() if source.needs_path],
        "sources to download": [name for name, source in SOURCES.items() if source.download_bytes],
        "metrics of the paper": kinds["paper"],
        "metrics described": "; ".join(
            f"{_joined(kinds[kind], '`')} {words}" for kind, words in vocabulary.METRIC_KINDS.items()
        ),
        "metrics of a whole set": [name for name, one in metrics.items() if one.whole_set],
        "figures of the paper": vocabulary.PAPER_FIGURES,
    }


_PLACEHOLDER = re.compile(r"(`?)\$\{([^}]+)\}\1")


def _filled(part: Any, words: Mapping[str, Any], keyword: str = "") -> Any:
    """A part of the schema, the value of a keyword, with what `words` has in place of the placeholders."""
    if isinstance(part, dict):
        return {key: _filled(value, words, key) for key, value in part.items()}
    if isinstance(part, list):
        return [_filled(item, words) for item in part]
    if not isinstance(part, str):
        return part
    if (whole := _PLACEHOLDER.fullmatch(part)) and not whole[1]:
        return copy.deepcopy(words[whole[2]])

    def text(match: re.Match[str]) -> str:
        found = words[match[2]]
        if isinstance(found, str):
            return f"{match[1]}{found}{match[1]}"
        return "|".join(map(re.escape, found)) if keyword == "pattern" else _joined(found, match[1])

    return _PLACEHOLDER.sub(text, part)


def _joined(names: Collection[str], quote: str = "") -> str:
    """`a, b and c`."""
    *first, last = (f"{quote}{name}{quote}" for name in names)
    return f"{', '.join(first)} and {last}" if first else last


def repeated_keys(file: str | Path) -> list[str]:
    """A line for each key that a mapping of a YAML file has twice; of the two the last would count.

    Empty for a file that is no YAML, of which Snakemake tells.
    """
    try:
        with open(file, encoding="utf-8") as text:
            root = yaml.compose(text, Loader=yaml.SafeLoader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return []
    return [f"{file}, {mistake}" for mistake in _repeated(root, ())]


def _repeated(node: yaml.Node | None, path: KeyPath) -> Iterator[str]:
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield from _repeated(item, (*path, index))
    elif isinstance(node, yaml.MappingNode):
        lines: dict[str, int] = {}
        for key, value in node.value:
            name, line = str(key.value), key.start_mark.line + 1
            if name in lines:
                yield f"line {line}: {_written((*path, name))}: is in line {lines[name]} already; keep one of them"
            lines[name] = line
            yield from _repeated(value, (*path, name))


def resolve_config(config: Any, source: str = "config") -> dict[str, Any]:
    """Check a config and return it complete: classifier defaults merged in, every default filled in, `~` and variables
    of the environment expanded in paths.

    The argument is left as it is; a resolved config resolves to itself. `source` names it in the messages.
    Raises ConfigError with one line per mistake: `source: path.to.key: what is wrong and what to do`.
    """
    config = _plain(config)
    if isinstance(numbers := _mapping(config).get("replicates"), list):
        # Snakemake makes texts of what stands in a list on its command line.
        numbers = [int(one) if isinstance(one, str) and one.isdecimal() else one for one in numbers]
        config["replicates"] = sorted(numbers) if all(isinstance(one, int) for one in numbers) else numbers
    mistakes = [mistake for path in PATHS for mistake in _expand(config, path.split("."))]
    complete: Any = copy.deepcopy(config)
    _fill_defaults(complete, load_schema())
    # Own entries are checked before the merge, so that a mistake in the defaults is told once.
    mistakes.extend([*_schema_mistakes(complete), *_data_mistakes(complete)])
    mistakes.extend([*_set_mistakes(complete), *_denoiser_mistakes(complete)])
    mistakes.extend([*_label_mistakes(complete), *_figure_mistakes(complete), *_compute_mistakes(complete)])
    classifiers = _mapping(_mapping(config).get("classifiers"))
    for name, entry in classifiers.items():
        merged = merge(_mapping(config.get("classifier_defaults")), _mapping(entry))
        _fill_defaults(merged, load_schema()["$defs"]["classifier"])
        mistakes.extend(f"{_written(('classifiers', name))}.{mistake}" for mistake in _network_mistakes(merged))
        complete["classifiers"][name] = merged
    mistakes.extend([*_take_splits(complete), *_replicate_mistakes(complete)])
    if mistakes:
        raise ConfigError("\n".join(f"{source}: {mistake}" for mistake in dict.fromkeys(mistakes)))
    resolved: dict[str, Any] = complete
    return resolved


def _take_splits(config: Any) -> Iterator[str]:
    """Fill in, in place, the splits of a config with its defaults, and tell what is wrong with those that it names."""
    data, measure = _mapping(_mapping(config).get("data")), _mapping(_mapping(config).get("measure"))
    trained = _trained(config)
    if measure.get("split") is None:
        measure["split"] = "train" if trained else "val"
    splits = data.get("splits")
    if splits is None:
        data["splits"] = ["train", "val"] if trained else [measure["split"]]
    elif isinstance(splits, list) and {*splits} <= {"train", "val"}:
        data["splits"] = sorted(splits)  # train before val
        if trained and "train" not in splits:
            yield f"data.splits: lacks train, on which {trained[0]} is trained; add it, or train nothing"
        if measure["split"] not in splits:
            yield f"measure.split: '{measure['split']}' is not in data.splits; valid: {', '.join(splits)}"


def _trained(config: Any) -> list[str]:
    """The networks that a config with its defaults trains."""
    return [
        *(f"classifiers.{name}" for name, one in _entries(config, "classifiers") if _trains_classifier(one)),
        *(f"denoisers.{name}" for name, one in _entries(config, "denoisers") if one.get("stages")),
    ]


def _replicate_mistakes(config: Any) -> Iterator[str]:
    """Replicates that would be one and the same. config: with its defaults."""
    replicates = _mapping(config).get("replicates")
    if isinstance(replicates, list) and len(replicates) > 1 and not _trained(config):
        yield "replicates: nothing is trained, so that all would be the same; write [0]"


def _entries(config: Any, section: str) -> list[tuple[str, dict[str, Any]]]:
    return [(name, _mapping(one)) for name, one in _mapping(_mapping(config).get(section)).items()]


def _trains_classifier(settings: Mapping[str, Any]) -> bool:
    return bool(_mapping(settings.get("training")).get("max_epochs"))


def take_labels(config: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Remove, in place, the labels from a resolved config, so that nothing else can depend on them.

    Returns them by section and name, without sections that have none.
    """
    taken: dict[str, dict[str, str]] = {}
    for section in LABELLED:
        for name, entry in config[section].items():
            if "label" in entry:
                taken.setdefault(section, {})[name] = entry.pop("label")
    return taken


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` laid over `base`: mappings are merged key by key, anything else is replaced. Copies both."""
    merged = copy.deepcopy(dict(base))
    for key, value in over.items():
        merged[key] = merge(_mapping(merged.get(key)), value) if isinstance(value, Mapping) else copy.deepcopy(value)
    return merged


def dereference(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A part of the schema with its `$ref` merged in; its own keywords win."""
    if "$ref" not in schema:
        return dict(schema)
    target = load_schema()["$defs"][schema["$ref"].removeprefix("#/$defs/")]
    return merge(dereference(target), {key: value for key, value in schema.items() if key != "$ref"})


def _mapping(value: Any) -> dict[str, Any]:
    """The value if it is a mapping; else an empty one, and the schema's errors tell what is wrong."""
    return value if isinstance(value, dict) else {}


def _plain(value: Any) -> Any:
    """A deep copy in plain dicts and lists; keys become strings, as in JSON."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _expand(part: Any, keys: Sequence[str], above: KeyPath = ()) -> Iterator[str]:
    """Expand, in place, the paths under some keys of a mapping, `*` being any key; gives what is wrong with them."""
    key, *below = keys
    for name in _mapping(part) if key == "*" else {key} & {*_mapping(part)}:
        if below:
            yield from _expand(part[name], below, (*above, name))
        elif isinstance(part[name], str):
            try:
                part[name] = _expanded(part[name])
            except ValueError as error:
                yield f"{_written((*above, name))}: {error}"


def _expanded(path: str) -> str:
    """The path with `~`, `$NAME` and `${NAME}` written out. Raises ValueError where one stands for nothing."""
    for match in re.finditer(r"\$(\w+)|\$\{([^}]*)\}", path, re.ASCII):
        name = match[1] or match[2]
        if name not in os.environ:
            raise ValueError(f"{match[0]} of {path} is not set in the environment; set {name}, or write the path out")
    expanded = os.path.expanduser(os.path.expandvars(path))  # noqa: PTH111
    if expanded.startswith("~"):
        raise ValueError(f"{path} begins with the home of a user who is not there; write the path out")
    return expanded


def _fill_defaults(value: Any, schema: Mapping[str, Any]) -> None:
    """Set, in place, every missing key whose schema has a default, at any depth."""
    schema = dereference(schema)
    if isinstance(value, list):
        for item in value:
            _fill_defaults(item, schema.get("items", {}))
    elif isinstance(value, dict):
        properties = {key: dereference(part) for key, part in schema.get("properties", {}).items()}
        for key, part in properties.items():
            if "default" in part:
                value.setdefault(key, copy.deepcopy(part["default"]))
        for key, item in value.items():
            others = schema.get("additionalProperties")
            _fill_defaults(item, properties.get(key, others if isinstance(others, dict) else {}))


# ---- Checks


def _data_mistakes(config: Any) -> Iterator[str]:
    """A source without the path that it needs."""
    data = _mapping(_mapping(config).get("data"))
    source = SOURCES.get(str(data.get("source")))
    if source and source.needs_path and data.get("path") is None:
        yield f"data.path: must be a string, got {_shown(None)}"


def _network_mistakes(classifier: Mapping[str, Any]) -> Iterator[str]:
    """Options and weights that the architecture does not take, in a classifier with its defaults merged in."""
    architecture, options = classifier.get("architecture"), _mapping(classifier.get("options"))
    if not isinstance(architecture, str):
        return
    if classifier.get("logits") is None and classifier.get("predict_among") == "all":
        yield "predict_among: only a network with logits of its own can predict among all; write data, or add logits"
    if is_import_path(architecture) and classifier["weights"] == "imagenet":
        yield "weights: an imported network has no ImageNet weights of its own; give a file or none"
    declared = architectures().get(architecture)
    if declared is None:
        return
    for option in options:
        if option not in declared.options:
            yield f"options.{option}: {architecture} has no such option; {_nearest(option, sorted(declared.options))}"
    blocks, n_stages = options.get("blocks"), declared.n_stages
    if isinstance(blocks, list) and n_stages and len(blocks) != n_stages:
        yield f"options.blocks: {architecture} has {n_stages} stages, got {len(blocks)} numbers"
    if options and classifier["weights"] == "imagenet":
        yield "weights: ImageNet weights do not fit a network changed by options; write none, or remove the options"


def _set_mistakes(config: Any) -> Iterator[str]:
    """Sets that would need themselves to be made: controls of controls, denoisers trained on what attacks them."""
    sets = _mapping(_mapping(config).get("adversarial_sets"))
    denoisers = _mapping(_mapping(config).get("denoisers"))

    def needs(name: object) -> Iterator[str]:
        """The sets that must be there before the set `name`."""
        settings = _mapping(sets.get(str(name)))
        if "norm_of" in settings:
            yield str(settings["norm_of"])
        yield from _mapping(_mapping(denoisers.get(str(settings.get("denoiser")))).get("mix"))

    for name, settings in sets.items():
        other = str(_mapping(settings).get("norm_of"))
        if _mapping(sets.get(other)).get("attack") in [*CONTROLS]:
            yield f"{_written(('adversarial_sets', name, 'norm_of'))}: '{other}' is noise itself; name an attack's set"
        settings = _mapping(settings)
        step, max_steps = settings.get("step"), settings.get("max_steps")
        reach: Any = settings.get("epsilon")
        if isinstance(step, int | float) and isinstance(max_steps, int):
            reach = step * max_steps
        if settings.get("round_to_8_bits") and _is_number(reach) and reach < 0.5:
            path = _written(("adversarial_sets", name, "round_to_8_bits"))
            yield f"{path}: the attack changes no pixel by half a value, which rounding undoes; let it go further"
        waiting, reached = list(needs(name)), set[str]()
        while waiting:
            needed = waiting.pop()
            if needed not in reached:
                reached.add(needed)
                waiting.extend(needs(needed))
        if name in reached:
            yield (
                f"{_written(('adversarial_sets', name))}: the set is needed to make itself: a denoiser that it attacks "
                "is trained on it; take it out of that denoiser's mix"
            )


def _denoiser_mistakes(config: Any) -> Iterator[str]:
    """Options of a denoiser that takes none, and guides without features."""
    classifiers = _mapping(_mapping(config).get("classifiers"))
    for name, settings in _mapping(_mapping(config).get("denoisers")).items():
        if _mapping(settings).get("options") and ":" not in str(settings.get("architecture")):
            path = _written(("denoisers", name, "options"))
            others = _joined(vocabulary.DENOISERS)
            yield f"{path}: only an imported network has options; {others} have width and residual"
        guide = _mapping(classifiers.get(str(_mapping(settings).get("guide"))))
        taps = guide.get("taps")
        if _mapping(settings).get("loss") == "features" and isinstance(taps, dict | list) and len(taps) < 2:
            path = _written(("denoisers", name, "loss"))
            yield f"{path}: the guide has one feature map, its logits; give it a tap before them, or set loss to logits"


def _label_mistakes(config: Any) -> Iterator[str]:
    """Labels that tables or figures would show for two things."""
    own = {
        section: {
            name: entry["label"]
            for name, entry in _mapping(_mapping(config).get(section)).items()
            if isinstance(_mapping(entry).get("label"), str)
        }
        for section in LABELLED
    }
    labels = Labels(own)
    for section, label in (
        ("classifiers", labels.classifier),
        ("adversarial_sets", labels.adversarial_set),
        ("denoisers", labels.denoiser),
        ("denoisers", labels.condition),
    ):
        called: dict[str, str] = {}
        for name in _mapping(_mapping(config).get(section)) if own[section] else ():
            other = called.setdefault(label(name), name)
            if other != name and own[section].keys() & {name, other}:
                labelled, beside = (name, other) if name in own[section] else (other, name)
                path = _written((section, labelled, "label"))
                yield f"{path}: '{own[section][labelled]}' is what {beside} is called; take another"


def _figure_mistakes(config: Any) -> Iterator[str]:
    """Figures whose sets or denoisers look alike, and colours that are none."""
    study_colors = set_colors([*_mapping(_mapping(config).get("adversarial_sets"))])
    for name, settings in _mapping(_mapping(config).get("figures")).items():
        figure = _mapping(settings)
        sets = figure.get("adversarial_sets") or list(_mapping(config.get("adversarial_sets")))
        denoisers = figure.get("denoisers")
        denoisers = list(_mapping(config.get("denoisers"))) if denoisers is None else denoisers
        if not isinstance(sets, list) or not isinstance(denoisers, list):
            continue
        colors = dict(study_colors)
        for one, color in _mapping(figure.get("colors")).items():
            # Imported where there are colours alone: Matplotlib takes its time.
            from matplotlib.colors import is_color_like, to_hex

            if is_color_like(color):
                colors[one] = to_hex(color).upper()
            else:
                path = _written(("figures", name, "colors", one))
                yield f'{path}: {_shown(color)} is no colour of Matplotlib; write red, C3 or "#d55e00"'
        drawn = [one for one in sets if isinstance(one, str) and one in colors]
        first = {colors[one]: one for one in reversed(drawn)}
        alike = [f"{one} has that of {first[colors[one]]}" for one in drawn if first[colors[one]] != one]
        if alike:
            yield (
                f"{_written(('figures', name, 'adversarial_sets'))}: {len(drawn)} sets, some of one colour: "
                f"{', '.join(alike)}; name fewer, or other colours under colors"
            )
        if len(denoisers) > FIGURE_DENOISERS:
            yield (
                f"{_written(('figures', name, 'denoisers'))}: {len(denoisers)} denoisers, but {FIGURE_DENOISERS} line "
                "styles; name fewer"
            )


def _compute_mistakes(config: Any) -> Iterator[str]:
    """Shards that do not end with a batch: their results would not be those of the whole set."""
    compute = _mapping(_mapping(config).get("compute"))
    n_images, batch_size = compute.get("images_per_shard"), compute.get("batch_size")
    if not (isinstance(n_images, int) and isinstance(batch_size, int) and min(n_images, batch_size) > 0):
        return
    if n_images % batch_size:
        yield (
            f"compute.images_per_shard: {n_images} is no multiple of compute.batch_size, {batch_size}; "
            f"write {math.ceil(n_images / batch_size) * batch_size}"
        )


def _checker(config: Any) -> Any:
    """The validator of config/schema.yaml, with its own keywords, for one config."""

    def check_name(_: Any, path: str, name: Any, __: Any) -> Iterator[jsonschema.ValidationError]:
        valid = config
        for key in path.split("."):
            valid = _mapping(valid).get(key)
        if isinstance(name, str) and isinstance(valid, dict | list) and name not in valid:
            yield jsonschema.ValidationError(f"'{name}' is not in {path}; {_nearest(name, list(map(str, valid)))}")

    def check_sum(_: Any, total: float, values: Any, __: Any) -> Iterator[jsonschema.ValidationError]:
        numbers = list(_mapping(values).values())
        if numbers and all(map(_is_number, numbers)) and abs(sum(numbers) - total) > 1e-6:
            yield jsonschema.ValidationError(f"must sum to {total}, sums to {sum(numbers):.6g}")

    def check_ascending(_: Any, __: bool, values: Any, ___: Any) -> Iterator[jsonschema.ValidationError]:
        if all(map(_is_number, values)) and any(low > high for low, high in itertools.pairwise(values)):
            yield jsonschema.ValidationError(f"must ascend, got {values}")

    def check_metric(_: Any, __: bool, name: Any, ___: Any) -> Iterator[jsonschema.ValidationError]:
        if isinstance(name, str) and name not in metric_names():
            yield jsonschema.ValidationError(f"'{name}' is no metric; {_nearest(name, metric_names())}")

    keywords: dict[str, Callable[..., Any]] = {
        "names": check_name,
        "sum": check_sum,
        "ascending": check_ascending,
        "metric": check_metric,
    }
    # JSON Schema itself takes 64.0 for an integer, and infinity for a number.
    types = jsonschema.Draft202012Validator.TYPE_CHECKER.redefine_many(
        {"integer": lambda _, value: _is_number(value) and isinstance(value, int), "number": lambda _, v: _is_number(v)}
    )
    return jsonschema.validators.extend(jsonschema.Draft202012Validator, keywords, type_checker=types)(load_schema())


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _schema_mistakes(config: Any) -> Iterator[str]:
    for error in _checker(config).iter_errors(config):
        path: KeyPath = tuple(error.absolute_path)
        if path[:1] == ("classifiers",) and path[2:3] == ("options",) and not _is_of_registry(config, path[1]):
            # The schema tells what the paper's networks take; what others take is their own affair.
            continue
        if "propertyNames" in error.absolute_schema_path:
            path = (*path, error.instance)
        if error.validator in ("additionalProperties", "unevaluatedProperties"):
            known = list(dereference(error.schema)["properties"])
            for key in error.instance:
                if key not in known:
                    yield f"{_written((*path, key))}: unknown key; {_nearest(key, known)}"
        elif error.validator == "required":
            for key in error.validator_value:
                if key not in error.instance:
                    yield f"{_written((*path, key))}: missing, and it has no default"
        else:
            yield f"{_written(path)}: {_explain(error)}"


def _is_of_registry(config: Any, classifier: str | int) -> bool:
    return str(_mapping(config["classifiers"][classifier]).get("architecture")) in architectures()


# ---- Messages


def _explain(error: jsonschema.ValidationError) -> str:
    """What is wrong with a value, from the error of JSON Schema."""
    limit, value = error.validator_value, error.instance
    match error.validator:
        case "type":
            kinds = [limit] if isinstance(limit, str) else limit
            return f"must be {' or '.join(_KINDS[kind] for kind in kinds)}, got {_shown(value)}{_number_hint(value)}"
        case "enum":
            valid = [one for one in limit if one is not None]
            return f"{_shown(value)} is not one of {', '.join(valid)}; {_nearest(value, valid)}"
        case "pattern":
            return f"{value!r} does not fit; {error.schema['description']}"
        case "minimum":
            return f"must be at least {limit}, got {value}"
        case "maximum":
            return f"must be at most {limit}, got {value}"
        case "exclusiveMinimum":
            return f"must be greater than {limit}, got {value}"
        case "multipleOf":
            return f"must be a multiple of {limit}, got {value}"
        case "minItems" | "minProperties" | "minLength":
            return f"needs at least {limit}, has {len(value)}"
        case "maxItems" | "maxLength":
            return f"takes at most {limit}, has {len(value)}"
        case "uniqueItems":
            return f"names one twice: {', '.join(map(str, value))}"
        case "not" | "const" | "maxProperties":
            return str(error.schema["description"])
    return str(error.message)


def _shown(value: object) -> str:
    """A value as it stands in YAML, where that is short."""
    if value is None:
        return "nothing (null)"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else "a list"
    return repr(value)


def _number_hint(value: object) -> str:
    """YAML 1.1 reads 1e-5 and 1.0e5 as strings: a number needs the point, and its exponent a sign."""
    match = re.fullmatch(r"([-+]?\d+(?:\.\d*)?)[eE]([-+]?)(\d+)", value) if isinstance(value, str) else None
    if not match:
        return ""
    mantissa, sign, exponent = match.groups()
    return f", which YAML takes for a string; write {float(mantissa)}e{sign or '+'}{int(exponent)}"


def _nearest(name: object, valid: Collection[str]) -> str:
    """`did you mean 'x'?`, or all valid names where none is near."""
    near = difflib.get_close_matches(str(name), valid, n=1)
    return f"did you mean '{near[0]}'?" if near else f"valid: {', '.join(valid)}"


def _written(path: KeyPath) -> str:
    """A path as it is written in messages: `denoisers.unet.stages[0].epochs`."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".") or "the whole file"
