import ast
import re
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml

from perturbflow.source_digest import source_digests

ROOT = Path(__file__).parent.parent.parent
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
def test_conda_environments_have_the_versions_of_the_requirements(path: Path) -> None:
    assert environment(path).items() <= requirements("requirements.in").items()


@pytest.mark.parametrize("name", ["requirements", "requirements-dev"])
def test_locked_requirements_hold_what_was_asked_for(name: str) -> None:
    assert requirements(f"{name}.in").items() <= requirements(f"{name}.txt").items()


def test_tests_run_with_the_versions_of_the_workflow() -> None:
    assert requirements("requirements.txt").items() <= requirements("requirements-dev.txt").items()


@pytest.mark.parametrize("path", sorted(ROOT.glob("requirements*")), ids=lambda path: path.name)
def test_requirements_name_no_place_to_install_from(path: Path) -> None:
    for line in path.read_text().splitlines():
        assert line.startswith(("#", "-r ")) or not re.search(r"://|^-|/", line)


def test_every_rule_that_takes_a_gpu_gets_the_partition_of_gpus() -> None:
    rules = "\n".join(path.read_text() for path in (ROOT / "workflow" / "rules").glob("*.smk"))
    with_gpu = re.findall(r"^rule (\w+):(?:(?!\nrule ).)*?gpu=GPU", rules, re.DOTALL | re.MULTILINE)
    assert "measure" in with_gpu
    profile = yaml.safe_load((ROOT / "profiles/slurm/config.yaml").read_text())["set-resources"]
    assert set(with_gpu) == set(profile)
    assert all(resources["slurm_partition"] == "gpu" and resources["gpu"] == 1 for resources in profile.values())


def imported_packages(file: Path) -> set[str]:
    """Top-level names of everything that a file imports from outside the standard library and the project."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(str(node.module).split(".")[0])
    return names - set(sys.stdlib_module_names) - {"perturbflow", "snakemake"}


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
