from pathlib import Path

import pytest

from perturbflow.planning import source_digest
from perturbflow.planning.source_digest import UntraceableImportError, source_digests

FILES = {
    "perturbflow/__init__.py": "",
    "perturbflow/ground.py": '"""Ground."""\n\ndef add(a, b):\n    """Add."""\n    return a + b  # a sum\n',
    "perturbflow/middle.py": "import os\nfrom perturbflow.ground import add\n\ndef twice(a):\n    return add(a, a)\n",
    "perturbflow/apart.py": "def other():\n    return 1\n",
    "scripts/user.py": "import os\nfrom perturbflow.middle import twice\n\nprint(twice(1), os)\n",
    "scripts/other.py": "from perturbflow import apart\n\nprint(apart.other())\n",
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return tmp_path


def digests_of(root: Path, script: str) -> dict[str, str]:
    source_digest._read.cache_clear()
    return source_digests(root / "scripts" / script, root)


def edit(root: Path, name: str, old: str, new: str) -> None:
    text = (root / name).read_text()
    assert old in text
    (root / name).write_text(text.replace(old, new))


def test_imports_are_followed_through_the_package_and_no_further(root: Path) -> None:
    assert list(digests_of(root, "user.py")) == [
        "perturbflow/__init__.py",
        "perturbflow/ground.py",
        "perturbflow/middle.py",
        "scripts/user.py",
    ]
    assert list(digests_of(root, "other.py")) == ["perturbflow/__init__.py", "perturbflow/apart.py", "scripts/other.py"]


@pytest.mark.parametrize(
    "statement",
    [
        "from perturbflow import ground",
        "from perturbflow import apart, ground as g",
        "import perturbflow.ground",
        "import os, perturbflow.ground as g",
        "from perturbflow.ground import add",
        "from perturbflow.ground import *",
        "def late():\n    from perturbflow.ground import add",
    ],
)
def test_every_form_of_import_is_followed(root: Path, statement: str) -> None:
    (root / "scripts/form.py").write_text(statement)

    assert "perturbflow/ground.py" in digests_of(root, "form.py")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("  # a sum", "  # the sum of both"),
        ('"""Add."""', '"""Add two numbers."""'),
        ('    """Add."""\n', ""),
        ('"""Ground."""', "# nothing"),
        ("a + b", "(a +\n        b)"),
        ("\n\ndef", "\n\n\n\ndef"),
    ],
    ids=["comment", "docstring", "no docstring", "module docstring", "layout", "blank lines"],
)
def test_an_edit_that_changes_nothing_changes_no_digest(root: Path, old: str, new: str) -> None:
    before = digests_of(root, "user.py")

    edit(root, "perturbflow/ground.py", old, new)

    assert digests_of(root, "user.py") == before


def test_a_docstring_in_an_empty_file_changes_no_digest(root: Path) -> None:
    before = digests_of(root, "user.py")

    (root / "perturbflow/__init__.py").write_text('"""The package."""\n')

    assert digests_of(root, "user.py") == before


def test_an_edit_of_a_function_changes_that_file_for_its_users_alone(root: Path) -> None:
    user, other = digests_of(root, "user.py"), digests_of(root, "other.py")

    edit(root, "perturbflow/ground.py", "a + b", "a - b")

    after = digests_of(root, "user.py")
    assert {name for name in user if user[name] != after[name]} == {"perturbflow/ground.py"}
    assert digests_of(root, "other.py") == other


def test_a_string_that_is_used_counts(root: Path) -> None:
    edit(root, "perturbflow/apart.py", "return 1", "return 'one'")
    before = digests_of(root, "other.py")

    edit(root, "perturbflow/apart.py", "'one'", "'two'")

    assert digests_of(root, "other.py") != before


def test_moving_the_repository_changes_nothing(root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    before = digests_of(root, "user.py")

    moved = root.rename(tmp_path_factory.mktemp("elsewhere") / "moved")

    assert digests_of(moved, "user.py") == before


def test_modules_that_import_each_other_end(root: Path) -> None:
    edit(root, "perturbflow/ground.py", "def add", "import perturbflow.middle\n\ndef add")

    assert "perturbflow/ground.py" in digests_of(root, "user.py")


@pytest.mark.parametrize(
    "statement",
    [
        "from . import apart",
        "from .apart import other",
        "import importlib\nimportlib.import_module('perturbflow.apart')",
        "from importlib import import_module",
        "__import__('perturbflow.apart')",
        "import runpy\nrunpy.run_path('perturbflow/apart.py')",
    ],
)
def test_an_import_that_cannot_be_followed_is_refused_with_its_line(root: Path, statement: str) -> None:
    edit(root, "perturbflow/ground.py", '"""Ground."""', statement)
    line = len(statement.splitlines())

    with pytest.raises(UntraceableImportError, match=rf"ground\.py:{line}: (relative|dynamic) import"):
        digests_of(root, "user.py")


def test_the_module_for_import_paths_alone_may_import_dynamically(root: Path) -> None:
    (root / "perturbflow/machine").mkdir()
    (root / "perturbflow/machine/import_paths.py").write_text("import importlib\nload = importlib.import_module\n")
    edit(root, "perturbflow/ground.py", '"""Ground."""', "from perturbflow.machine.import_paths import load")
    assert "perturbflow/machine/import_paths.py" in digests_of(root, "user.py")

    (root / "scripts/imports.py").write_text("from importlib import import_module\n")
    with pytest.raises(UntraceableImportError, match=r"imports\.py:1: dynamic import"):
        digests_of(root, "imports.py")


def test_a_script_that_is_not_there_is_named(root: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"missing\.py"):
        digests_of(root, "missing.py")


def test_digests_of_this_repository(repository: Path) -> None:
    for script in (repository / "workflow" / "scripts").glob("*.py"):
        digests = source_digests(script, repository)
        assert f"workflow/scripts/{script.name}" in digests
        assert all(len(digest) == 12 for digest in digests.values())
        assert not digests.keys() & {"perturbflow/planning/config.py", "perturbflow/planning/source_digest.py"}
