"""docs/data.md: its configs are right, and it shows every source that reads files."""

import re
from pathlib import Path

import pytest
import yaml

from perturbflow.data.sources import SOURCES
from perturbflow.planning.config import resolve_config

ROOT = Path(__file__).parents[3]
EXAMPLES = [
    yaml.safe_load(block)["data"]
    for block in re.findall(r"```yaml\n(.*?)```", (ROOT / "docs/data.md").read_text(encoding="utf-8"), re.DOTALL)
]


def test_every_source_with_a_path_is_shown() -> None:
    assert {data["source"] for data in EXAMPLES} == {name for name, source in SOURCES.items() if source.needs_path}


@pytest.mark.parametrize("data", EXAMPLES, ids=lambda data: data["source"])
def test_the_examples_are_configs(data: dict[str, object]) -> None:
    demo = yaml.safe_load((ROOT / "config/demo.yaml").read_text(encoding="utf-8"))
    assert resolve_config({**demo, "data": data})["data"]["source"] == data["source"]
