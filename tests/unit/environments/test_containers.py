"""The container files, read: that they build what they say and only from what is there. They are not built here."""

import fnmatch
import json
import re
import shlex
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parents[3]
BASE = re.compile(r"python:(\d+\.\d+\.\d+)-slim-bookworm")
FILES = ["Dockerfile", "containers/perturbflow.def"]


def dockerfile() -> list[tuple[str, str]]:
    """The instructions of the Dockerfile and their arguments, continued lines joined."""
    text = re.sub(r"^\s*#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    return [(line.split(maxsplit=1)[0], line.split(maxsplit=1)[1]) for line in lines if line]


def definition() -> tuple[dict[str, str], dict[str, list[str]]]:
    """The header of the Apptainer definition, and the lines of its sections, without comments."""
    header: dict[str, str] = {}
    sections: dict[str, list[str]] = {}
    lines: list[str] | None = None
    for line in map(str.strip, (ROOT / "containers/perturbflow.def").read_text().splitlines()):
        if line.startswith("%"):
            lines = sections.setdefault(line[1:], [])
        elif line and not line.startswith("#"):
            if lines is None:
                key, value = line.split(": ")
                header[key] = value
            else:
                lines.append(line)
    return header, sections


def commands(name: str) -> list[list[str]]:
    """The words of each command that makes an image."""
    if name == "Dockerfile":
        lines = [part for instruction, text in dockerfile() if instruction == "RUN" for part in text.split("&&")]
    else:
        lines = definition()[1]["post"]
    return [shlex.split(line) for line in lines]


def copied(name: str) -> list[str]:
    """What goes from the repository into an image."""
    if name == "Dockerfile":
        return [word for instruction, text in dockerfile() if instruction == "COPY" for word in text.split()[:-1]]
    return [line.split()[0] for line in definition()[1]["files"]]


def base(name: str) -> str:
    return dict(dockerfile())["FROM"] if name == "Dockerfile" else definition()[0]["From"]


def ignored_by_docker(path: str) -> bool:
    """Whether .dockerignore leaves a file or folder at the root out: the last line that fits it decides."""
    ignored = False
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if line and not line.startswith("#") and fnmatch.fnmatch(path, line.lstrip("!")):
            ignored = not line.startswith("!")
    return ignored


@pytest.mark.parametrize("name", FILES)
def test_python_is_that_of_the_conda_environments(name: str) -> None:
    found = BASE.fullmatch(base(name))
    assert found
    assert found[1] in SpecifierSet(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"])
    for environment in (ROOT / "envs").glob("*.yaml"):
        assert f"python={found[1]}" in yaml.safe_load(environment.read_text())["dependencies"]
    minor = found[1].rpartition(".")[0]
    # What the checks and the continuous tests run with, and what the requirements are locked for.
    assert f"Python {minor} " in (ROOT / ".ci/run").read_text()
    assert f"--python-version {minor} " in (ROOT / "Makefile").read_text()
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["mypy"]["python_version"] == minor


@pytest.mark.parametrize("name", FILES)
def test_packages_are_those_of_the_locked_requirements(name: str) -> None:
    (pip,) = [words for words in commands(name) if words[0] == "pip"]
    assert pip == ["pip", "install", "--no-cache-dir", "--requirement", "/opt/perturbflow/requirements.txt"]
    # Beside the base image's, no version stands in the file.
    assert re.findall(r"\d+\.\d+|==|>=", (ROOT / name).read_text().replace(base(name), "")) == []


@pytest.mark.parametrize("name", FILES)
def test_an_image_has_what_jobs_call_beside_python(name: str) -> None:
    (install,) = [words for words in commands(name) if words[:2] == ["apt-get", "install"]]
    assert {"g++", "git", "--yes", "--no-install-recommends"} == set(install[2:])
    assert ["rm", "-rf", "/var/lib/apt/lists/*"] in commands(name)


@pytest.mark.parametrize("name", FILES)
def test_only_the_requirements_are_copied(name: str) -> None:
    assert copied(name) == ["requirements.txt"]
    assert (ROOT / "requirements.txt").is_file()


def test_docker_is_sent_nothing_else() -> None:
    assert not ignored_by_docker("requirements.txt")
    for path in ["data", "results", ".git", ".venv", ".snakemake", "perturbflow.sif", "requirements-dev.txt"]:
        assert ignored_by_docker(path), path


def test_both_images_run_snakemake() -> None:
    assert json.loads(dict(dockerfile())["ENTRYPOINT"]) == ["snakemake"]
    assert definition()[1]["runscript"] == ['exec snakemake "$@"']


def test_docker_runs_it_as_no_root_and_any_user_finds_a_home() -> None:
    instructions = dockerfile()
    environment = dict(
        word.split("=") for instruction, text in instructions if instruction == "ENV" for word in text.split()
    )
    assert ["install", "--directory", "--mode=1777", environment["HOME"]] in commands("Dockerfile")
    assert environment["USER"]  # getpass.getuser(), which torch asks, fails without where the user has no name
    assert [text for instruction, text in instructions if instruction == "USER"] == ["1000:1000"]
    order = [instruction for instruction, _ in instructions]
    assert order.index("USER") > max(place for place, instruction in enumerate(order) if instruction == "RUN")


def test_packages_in_the_users_home_do_not_hide_those_of_the_image() -> None:
    assert definition()[1]["environment"] == ["export PYTHONNOUSERSITE=1", "unset PYTHONPATH PYTHONHOME"]
