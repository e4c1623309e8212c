import ast
import platform
import re
import runpy
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml

from perturbflow.planning.source_digest import source_digests

ROOT = Path(__file__).parents[3]
ENVIRONMENTS = sorted((ROOT / "envs").glob("*.yaml"))


def pins(lines: list[str]) -> dict[str, str]:
    """Versions by package, of lines such as `torch==2.15.0 ; sys_platform == 'linux'`."""
    found = [re.fullmatch(r"([\w.-]+)==([^\s;]+)(?:\s*;.*)?", line) for line in lines]
    assert all(found), f"not pinned: {[line for line, match in zip(lines, found, strict=True) if not match]}"
    return {match[1]: match[2] for match in found if match}


def requirements(name: str) -> dict[str, str]:
    lines = (ROOT / name).read_text().splitlines()
    return pins([line for line in lines if line and not line.startswith(("#", "-r "))])


def environment(path: Path) -> dict[str, str]:
    return pins(yaml.safe_load(path.read_text())["dependencies"][-1]["pip"])


@pytest.mark.parametrize("path", ENVIRONMENTS, ids=lambda path: path.stem)
def test_conda_environments_are_what_conda_takes(path: Path) -> None:
    specification = yaml.safe_load(path.read_text())
    *packages, of_pip = specification["dependencies"]

    assert specification.keys() == {"channels", "dependencies"}
    assert specification["channels"] == ["conda-forge", "nodefaults"]
    # To conda, `3.11` would be any 3.11.x, and a package of `pip:` without pip itself would be a warning.
    assert [re.fullmatch(r"(\w+)=\d+(\.\d+)+", package)[1] for package in packages] == ["python", "pip"]  # type: ignore[index]
    assert packages[0].count(".") == 2
    assert of_pip.keys() == {"pip"}


@pytest.mark.parametrize("path", ENVIRONMENTS, ids=lambda path: path.stem)
def test_conda_environments_have_the_lines_of_the_locked_requirements(path: Path) -> None:
    lines = set((ROOT / "requirements.txt").read_text().splitlines())

    assert set(yaml.safe_load(path.read_text())["dependencies"][-1]["pip"]) <= lines


@pytest.mark.skipif(
    (sys.platform, platform.machine()) != ("linux", "x86_64"), reason="what packages need is another on this machine"
)
@pytest.mark.parametrize("path", ENVIRONMENTS, ids=lambda path: path.stem)
def test_conda_environments_have_all_that_their_packages_need(path: Path) -> None:
    lock = runpy.run_path(str(ROOT / "envs/lock.py"))

    assert path.read_text() == lock["environment"](path.stem), "run `python envs/lock.py`"


def test_figures_need_no_torch() -> None:
    assert "torch" in environment(ROOT / "envs/torch.yaml")
    assert "torch" not in environment(ROOT / "envs/figures.yaml")


@pytest.mark.parametrize("name", ["requirements", "requirements-dev"])
def test_locked_requirements_hold_what_was_asked_for(name: str) -> None:
    assert requirements(f"{name}.in").items() <= requirements(f"{name}.txt").items()


def test_tests_run_with_the_versions_of_the_workflow() -> None:
    assert requirements("requirements.txt").items() <= requirements("requirements-dev.txt").items()


def test_what_snakemake_needs_for_a_report_is_installed_with_it() -> None:
    """It names it nowhere."""
    assert "pygments" in requirements("requirements.txt")


@pytest.mark.parametrize("path", sorted(ROOT.glob("requirements*")), ids=lambda path: path.name)
def test_requirements_name_no_place_to_install_from(path: Path) -> None:
    for line in path.read_text().splitlines():
        assert line.startswith(("#", "-r ")) or not re.search(r"://|^-|/", line)


USED_WHERE_INSTALLED = {"pillow_heif"}


def imported_packages(file: Path) -> set[str]:
    """Top-level names of everything that a file imports from outside the standard library and the project."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(str(node.module).split(".")[0])
    return names - set(sys.stdlib_module_names) - {"perturbflow", "snakemake"} - USED_WHERE_INSTALLED


def scripts_by_environment() -> list[tuple[str, str]]:
    """Pairs of a script and its rule's environment, from the rule files.

    A rule that chooses its script by a param has those that its file names and no other rule has, or else common.smk.
    """
    pattern = re.compile(r'conda:\s+"../../envs/(\S+)\.yaml"(?:(?!\nrule ).)*?script:\s+"../scripts/(\S+)"', re.DOTALL)
    rules = ROOT / "workflow" / "rules"
    named = {path: set(re.findall(r'"(\w+\.py)"', path.read_text())) for path in sorted(rules.glob("*.smk"))}
    pairs = []
    for path in named:
        found = pattern.findall(path.read_text())
        fixed = {script for _, script in found}
        chosen = (named[path] - fixed) or named[rules / "common.smk"]
        for name, script in found:
            pairs += [(one, name) for one in (sorted(chosen) if script == "{params.script}" else [script])]
    return pairs


def test_every_script_has_an_environment() -> None:
    scripts = {path.name for path in (ROOT / "workflow" / "scripts").glob("*.py")}

    assert {script for script, _ in scripts_by_environment()} == scripts


@pytest.mark.parametrize(("script", "name"), scripts_by_environment())
def test_an_environment_has_all_that_its_scripts_import(script: str, name: str) -> None:
    files = source_digests(ROOT / "workflow" / "scripts" / script, ROOT)
    distributions = packages_distributions()
    # pandas imports tabulate by itself, when a frame is written as Markdown.
    markdown = {"tabulate"} if any(".to_markdown(" in (ROOT / file).read_text() for file in files) else set()
    imported = {distributions[package][0].lower() for file in files for package in imported_packages(ROOT / file)}

    assert imported | markdown <= environment(ROOT / "envs" / f"{name}.yaml").keys()
