import ast
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
# All but the tests and what they share, which bring package and reference together.
MODULES = sorted(path for path in HERE.glob("*.py") if not path.name.startswith(("test_", "comparison")))
ALLOWED = {*sys.stdlib_module_names, "h5py", "numpy", "pandas", "scipy", "timm", "torch"}


def imported(path: Path) -> set[str]:
    """Dotted names of all modules that a file imports, wherever in it."""
    nodes = [*ast.walk(ast.parse(path.read_text(encoding="utf-8")))]
    by_import = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    from_imports = [node for node in nodes if isinstance(node, ast.ImportFrom)]
    assert not any(node.level for node in from_imports), f"{path.name} imports by a relative path"
    return by_import | {node.module for node in from_imports if node.module}


def test_the_reference_is_here() -> None:
    assert {"attacks", "interventions", "metrics", "networks", "tables"} <= {path.stem for path in MODULES}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_the_reference_imports_nothing_of_the_package(path: Path) -> None:
    own = {f"tests.reference.{module.stem}" for module in MODULES}
    others = imported(path) - own
    assert {name.partition(".")[0] for name in others} <= ALLOWED
    text = path.read_text(encoding="utf-8")
    assert "import_module" not in text and "__import__" not in text
