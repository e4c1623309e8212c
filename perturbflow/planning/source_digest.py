"""Digests of the code a script uses, blind to comments, layout and docstrings."""

from __future__ import annotations

import ast
import hashlib
from functools import cache
from pathlib import Path

PACKAGE = "perturbflow"
DYNAMIC_IMPORTS = {
    "__import__",
    "exec_module",
    "import_module",
    "run_module",
    "run_path",
    "spec_from_file_location",
}
# It imports what the config names; the rules that use it add the digest of that file.
MAY_IMPORT_DYNAMICALLY = f"{PACKAGE}/machine/import_paths.py"


class UntraceableImportError(ValueError):
    """An import that cannot be followed by reading the source."""


def source_digests(script: Path, root: Path) -> dict[str, str]:
    """Digest a script and every module of the package that it imports, however indirectly.

    script: a Python file below `root`. root: the folder that holds the package.
    Returns {path relative to root: 12 hexadecimal digits}, sorted by path. A digest changes with the code, and
    not with comments, layout, or docstrings.
    Raises UntraceableImportError, naming file and line, for a relative or dynamic import; only MAY_IMPORT_DYNAMICALLY
    may have the latter.
    """
    digests: dict[str, str] = {}
    waiting = [script.resolve()]
    while waiting:
        file = waiting.pop()
        name = file.relative_to(root.resolve()).as_posix()
        if name not in digests:
            digest, imported = _read(file, root.resolve())
            digests[name] = digest
            waiting.extend(imported)
    return dict(sorted(digests.items()))


@cache
def _read(file: Path, root: Path) -> tuple[str, tuple[Path, ...]]:
    """The digest of one file, and the package's files that it imports itself."""
    tree = ast.parse(file.read_text(encoding="utf-8"), filename=str(file))
    imported = tuple(path for name in _imported_names(tree, file, root) if (path := _module_file(name, root)))
    return _digest(tree), imported


def digest(file: Path) -> str:
    """Digest of one Python file, 12 hexadecimal digits; what it imports is not followed."""
    return _digest(ast.parse(file.read_text(encoding="utf-8"), filename=str(file)))


def _digest(tree: ast.Module) -> str:
    _drop_docstrings(tree)
    return hashlib.sha256(ast.unparse(tree).encode()).hexdigest()[:12]


def _imported_names(tree: ast.Module, file: Path, root: Path) -> set[str]:
    """Dotted names of everything imported from the package, and of the packages above it."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                raise UntraceableImportError(
                    f"{file}:{node.lineno}: relative import; write `from {PACKAGE}.<module> import ...`."
                )
            names.add(str(node.module))
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
        elif _is_dynamic_import(node) and file != root / MAY_IMPORT_DYNAMICALLY:
            raise UntraceableImportError(
                f"{file}:{getattr(node, 'lineno', 0)}: dynamic import; name the module in an import statement."
            )
    parts = [name.split(".") for name in names]
    return {".".join(part[:end]) for part in parts if part[0] == PACKAGE for end in range(1, len(part) + 1)}


def _is_dynamic_import(node: ast.AST) -> bool:
    """A mention of one of DYNAMIC_IMPORTS, as a name, as an attribute, or in an import."""
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name) | ast.alias(name=name):
            return name in DYNAMIC_IMPORTS
    return False


def _module_file(name: str, root: Path) -> Path | None:
    """The file of a module or package, or None where the name is that of something inside a module."""
    base = root.joinpath(*name.split("."))
    return next((file for file in (base.with_suffix(".py"), base / "__init__.py") if file.is_file()), None)


def _drop_docstrings(tree: ast.Module) -> None:
    """Remove, in place, the statements that are nothing but a string."""
    for node in ast.walk(tree):
        for field in ("body", "orelse", "finalbody"):
            statements = getattr(node, field, None)
            if isinstance(statements, list) and statements:
                kept = [statement for statement in statements if not _is_docstring(statement)]
                # A module may be empty; an empty file and one of nothing but a docstring are the same code.
                setattr(node, field, kept or ([] if isinstance(node, ast.Module) else [ast.Pass()]))


def _is_docstring(statement: ast.stmt) -> bool:
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )
