"""Digests of the code a script uses, blind to comments, layout and docstrings."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator
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
    source = file.read_text(encoding="utf-8")
    tree = ast.parse(source, filename=str(file))
    # To look at every node takes its time, and few files need it.
    if any(name in source for name in DYNAMIC_IMPORTS) and file != root / MAY_IMPORT_DYNAMICALLY:
        _refuse_dynamic_imports(tree, file)
    imported = tuple(path for name in _imported_names(tree, file) if (path := _module_file(name, root)))
    return _digest(tree), imported


def digest(file: Path) -> str:
    """Digest of one Python file, 12 hexadecimal digits; what it imports is not followed."""
    return _digest(ast.parse(file.read_text(encoding="utf-8"), filename=str(file)))


def _digest(tree: ast.Module) -> str:
    _drop_docstrings(tree)
    return hashlib.sha256(ast.unparse(tree).encode()).hexdigest()[:12]


def _blocks(node: ast.AST) -> Iterator[tuple[ast.AST, str, list[ast.stmt]]]:
    """All lists of statements, those that stand in others too: each with the node and the field that hold it."""
    for field in ("body", "orelse", "finalbody"):
        statements = getattr(node, field, None)
        if isinstance(statements, list):  # the body of a lambda is none
            yield node, field, statements
            for statement in statements:
                yield from _blocks(statement)
    for field in ("handlers", "cases"):
        for branch in getattr(node, field, []):
            yield from _blocks(branch)


def _imported_names(tree: ast.Module, file: Path) -> set[str]:
    """Dotted names of everything imported from the package, and of the packages above it."""
    names: set[str] = set()
    for statement in (statement for _, _, statements in _blocks(tree) for statement in statements):
        if isinstance(statement, ast.Import):
            names.update(alias.name for alias in statement.names)
        elif isinstance(statement, ast.ImportFrom):
            if statement.level:
                raise UntraceableImportError(
                    f"{file}:{statement.lineno}: relative import; write `from {PACKAGE}.<module> import ...`."
                )
            names.add(str(statement.module))
            names.update(f"{statement.module}.{alias.name}" for alias in statement.names)
    parts = [name.split(".") for name in names]
    return {".".join(part[:end]) for part in parts if part[0] == PACKAGE for end in range(1, len(part) + 1)}


def _refuse_dynamic_imports(tree: ast.Module, file: Path) -> None:
    for node in ast.walk(tree):
        if _is_dynamic_import(node):
            raise UntraceableImportError(
                f"{file}:{getattr(node, 'lineno', 0)}: dynamic import; name the module in an import statement."
            )


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
    for node, field, statements in _blocks(tree):
        if any(map(_is_docstring, statements)):
            kept = [statement for statement in statements if not _is_docstring(statement)]
            # A module may be empty; an empty file and one of nothing but a docstring are the same code.
            setattr(node, field, kept or ([] if isinstance(node, ast.Module) else [ast.Pass()]))


def _is_docstring(statement: ast.stmt) -> bool:
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )
