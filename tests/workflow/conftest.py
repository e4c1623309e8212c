from pathlib import Path

import pytest

from tests.workflow.study import Study


@pytest.fixture
def study(finished_study: Study, tmp_path: Path) -> Study:
    return finished_study.copy_to(tmp_path / "perturbflow")
