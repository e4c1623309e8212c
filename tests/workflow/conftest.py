from collections import Counter
from pathlib import Path

import pytest

from tests.workflow.study import Study, copy_workflow, made_once, tiny_config


def finish(study: Study) -> Counter[str]:
    copy_workflow(study.folder)
    study.configure(tiny_config())
    return study.run()


@pytest.fixture(scope="session")
def finished_study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """The tiny study, run to its end. Tests change copies of it."""
    return made_once("finished", tmp_path_factory.getbasetemp(), finish)


@pytest.fixture
def study(finished_study: Study, tmp_path: Path) -> Study:
    return finished_study.copy_to(tmp_path / "perturbflow")
