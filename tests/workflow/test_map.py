"""docs/map.md against the code and the jobs of the paper's study."""

import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from perturbflow.machine.import_paths import load_object

pytestmark = pytest.mark.workflow

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/map.md").read_text(encoding="utf-8")
ROWS = [
    re.findall(r"`([^`]+)`", row)
    for row in re.findall(r"^\| .* \| `\S+\.py` `\w+` \| `\S+\.smk` `\w+` \| `\S+` \|$", PAGE, re.MULTILINE)
]
ITEMS = [
    *(f"Equation ({n})" for n in (1, 2, 3)),
    *(f"Table {n}" for n in range(1, 8)),
    *(f"Figure {n}" for n in range(1, 7)),
]


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """The files of the study, by the rule that makes them."""
    folder = tmp_path_factory.mktemp("study")
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--directory", str(folder)]
    command += ["--configfile", str(ROOT / "config/config.yaml"), "--cores", "1", "--dry-run"]
    plan = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    found = defaultdict(set)
    for rule, files in re.findall(
        r"^(?:local)?rule (\w+):\n(?:    .*\n)*?    output: (.*)\n", plan.stdout, re.MULTILINE
    ):
        found[rule] |= {file.removeprefix("results/tiny-imagenet/") for file in files.split(", ")}
    return found


def test_every_item_of_the_paper_has_a_row() -> None:
    missing = [item for item in ITEMS if not re.search(rf"^\| {re.escape(item)}[ ,]", PAGE, re.MULTILINE)]
    assert not missing
    assert len(ROWS) == PAGE.count(".smk` `")


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row[1]}-{row[4]}")
def test_a_row_leads_to_what_it_names(row: list[str], outputs: dict[str, set[str]]) -> None:
    module, function, rule_file, rule, file = row
    assert load_object(f"perturbflow.{module.removesuffix('.py').replace('/', '.')}:{function}")
    text = (ROOT / "workflow/rules" / rule_file).read_text(encoding="utf-8")
    assert re.search(rf"^ *rule {rule}:", text, re.MULTILINE) or f'"{rule}"' in text
    assert file in outputs[rule]
