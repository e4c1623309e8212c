"""The examples do what they say."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.workflow

EXAMPLES = sorted(path.stem for path in (Path(__file__).parents[2] / "examples").glob("*.py"))


def printed(example: str, repository: Path) -> list[str]:
    command = [sys.executable, "-m", f"examples.{example}"]
    finished = subprocess.run(command, cwd=repository, capture_output=True, text=True, timeout=300)
    assert finished.returncode == 0, finished.stderr
    return finished.stdout.splitlines()


def test_every_example_is_tested() -> None:
    assert EXAMPLES == ["attack_a_batch", "measure_a_network"]


def test_a_batch_is_attacked(repository: Path) -> None:
    lines = printed("attack_a_batch", repository)
    found = [re.search(r"(\d+) steps, ([\d.]+) pixels squared; attacker (not )?fooled", line) for line in lines]
    assert len(found) == 8 and all(found)
    assert any(match[3] is None for match in found if match)
    # A step moves no pixel by more than 0.255.
    assert all(float(match[2]) <= (0.255 * int(match[1])) ** 2 + 0.005 for match in found if match)


def test_a_network_is_measured_at_every_tap(repository: Path) -> None:
    head, *rows = printed("measure_a_network", repository)
    assert "NE-D" in head and "COS-D" in head
    numbers = [list(map(float, re.findall(r"\d[\d.]*(?:e[-+]\d+)?", row)[-4:])) for row in rows]
    assert len(rows) >= 5 and rows[-1].startswith("logits")
    assert all(value > 0 for row in numbers for value in row)
    # With the gradient the adversary gets further than noise of its size.
    assert numbers[-1][2] > numbers[-1][3]
