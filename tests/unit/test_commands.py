"""The commands that README, docs, messages and the Makefile show, read by Snakemake's own parser."""

import re
import shlex
from pathlib import Path

import pytest
from snakemake.cli import get_argument_parser

ROOT = Path(__file__).parents[2]
SHOWN_IN = [
    *ROOT.glob("*.md"),
    *ROOT.glob("docs/*.md"),
    *ROOT.glob("examples/*"),
    ROOT / "Makefile",
    *ROOT.glob("perturbflow/**/*.py"),
    *ROOT.glob("workflow/**/*.smk"),
    *ROOT.glob("config/*.yaml"),
    *ROOT.glob("profiles/*/*.yaml"),
]
# In the container's image Snakemake is what stands behind the image's name.
COMMAND = re.compile(r"\b(?:snakemake|perturbflow(?:\.sif)?) +((?:-|results/)[^`#\x22\n]*)")


def commands() -> list[str]:
    """Their arguments: of spans of code, lines of code and recipes, with the lines that go on joined."""
    found = []
    for file in SHOWN_IN:
        text = file.read_text(encoding="utf-8").replace("\\\n", " ")
        code = [*re.findall(r"`([^`\n]+)`", text), *re.findall(r"^(?:    |\t|# )(.*)$", text, re.MULTILINE)]
        found += [arguments.strip() for line in code if "|" not in line for arguments in COMMAND.findall(line)]
    return sorted({command.replace("$(CORES)", "2") for command in found})


def test_commands_are_found() -> None:
    assert len(commands()) >= 20
    assert "results/demo/tables/table1.md --configfile config/demo.yaml --cores 8" in commands()
    assert any(command.endswith("--lint") for command in commands())


@pytest.mark.parametrize("command", commands())
def test_a_target_at_the_end_is_a_target(command: str) -> None:
    """`--configfile` and some other options take all that follows, so that none of them may be the last one."""
    parser = get_argument_parser()
    shown = parser.parse_args(shlex.split(command))
    assert all(file.suffix == ".yaml" for file in shown.configfile or [])
    if not shown.targets and not shown.lint:  # targets stand in one place; --lint takes none
        target = "results/demo/tables/table1.md"
        assert parser.parse_args([*shlex.split(command), target]).targets == [target]
