"""What the package's functions and classes declare, read from their source and not imported: torch stays out."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).parents[1]
METRICS_FILE = PACKAGE / "measuring" / "metrics.py"
METRIC_DECORATORS = {"metric", "tap_to_tap", "set_metric"}
ATTACKS_FILE = PACKAGE / "attacks" / "gradient_sign.py"
BASE_OF_ATTACKS = "GradientSignAttack"
ARCHITECTURES_FILE = PACKAGE / "classifiers" / "architectures.py"


@cache
def metric_names() -> tuple[str, ...]:
    """Names of the metrics: the functions that metrics.py decorates as such."""
    return tuple(node.name for node in _decorated(METRICS_FILE, METRIC_DECORATORS))


# ---- Architectures


@dataclass(frozen=True)
class ArchitectureDeclaration:
    """What the builder of a classifier takes.

    options: keyword arguments. n_stages: how many numbers `blocks` has; None where it is no option.
    """

    options: tuple[str, ...]
    n_stages: int | None


@cache
def architectures(file: Path = ARCHITECTURES_FILE) -> dict[str, ArchitectureDeclaration]:
    """The classifiers of the registry, by their names in the config.

    Raises ValueError, naming the builder, where the default of `blocks` is not written out.
    """
    found = {}
    for node in _decorated(file, {"architecture"}):
        _, *options = [argument.arg for argument in (*node.args.args, *node.args.kwonlyargs)]
        defaults = dict(zip(reversed(node.args.args), reversed(node.args.defaults), strict=False))
        blocks = next((value for argument, value in defaults.items() if argument.arg == "blocks"), None)
        n_stages = None if blocks is None else len(_value(blocks, f"blocks of {node.name}"))
        found[node.name] = ArchitectureDeclaration(tuple(options), n_stages)
    return found


# ---- Attacks


@dataclass(frozen=True)
class AttackDeclaration:
    """What the class of an attack says of its walk.

    gradients_per_step, one_gradient: as GradientSignAttack has them. gradient_judges: where attacker and stopping
    classifier are one, the pass of a gradient judges the image as well; not so where the class has its own `gradient`.
    """

    gradients_per_step: int
    one_gradient: bool
    gradient_judges: bool


@cache
def attacks(file: Path = ATTACKS_FILE) -> dict[str, AttackDeclaration]:
    """The attacks of a file, by their names in the config.

    Raises ValueError, naming the class, where it extends one that is not in the file, and where what it says is not
    written out as a value.
    """
    found: dict[str, AttackDeclaration] = {}
    declared: dict[str, dict[str, Any]] = {}
    for node in _tree(file).body:
        if not isinstance(node, ast.ClassDef):
            continue
        bases = [ast.unparse(base) for base in node.bases]
        declared[node.name] = {}
        for base in reversed(bases):
            declared[node.name] |= declared.get(base, {})
        declared[node.name] |= _declared_in(node)
        name = next((keyword.value for keyword in node.keywords if keyword.arg == "name"), None)
        if name is None:
            continue
        if unknown := [base for base in bases if base not in declared]:
            raise ValueError(f"{file.name}: {node.name} extends {unknown[0]}, which is no class of this file")
        found[_value(name, f"{file.name}: the name of {node.name}")] = AttackDeclaration(**declared[node.name])
    return found


def _declared_in(node: ast.ClassDef) -> dict[str, Any]:
    """What the body of a class says of an attack."""
    declared: dict[str, Any] = {}
    for statement in node.body:
        match statement:
            case ast.FunctionDef(name="gradient"):
                declared["gradient_judges"] = node.name == BASE_OF_ATTACKS
            case (
                ast.Assign(targets=[ast.Name(id=name)], value=ast.expr() as value)
                | ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value)
            ) if name in ("gradients_per_step", "one_gradient"):
                declared[name] = _value(value, f"{name} of {node.name}")
    return declared


# ---- Reading


@cache
def _tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"), filename=str(file))


def _decorated(file: Path, decorators: set[str]) -> Iterator[ast.FunctionDef]:
    """The functions of a file that one of the decorators, with or without arguments, stands above."""
    for node in _tree(file).body:
        if isinstance(node, ast.FunctionDef):
            for mark in node.decorator_list:
                if getattr(mark.func if isinstance(mark, ast.Call) else mark, "id", None) in decorators:
                    yield node


def _value(node: ast.expr, what: str) -> Any:
    """What an expression says. Raises ValueError, which begins with `what`, for one that would have to be computed."""
    try:
        return ast.literal_eval(node)
    except ValueError:
        raise ValueError(f"{what} is {ast.unparse(node)}; write it out as a value") from None
