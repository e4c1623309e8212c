from pathlib import Path

import pytest

from tests.workflow.study import Study, copy_workflow, tiny_config


@pytest.fixture(scope="session")
def finished_study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """The tiny study, run to its end. Tests change copies of it."""
    folder = tmp_path_factory.mktemp("study") / "perturbflow"
    copy_workflow(folder)
    study = Study(folder)
    study.configure(tiny_config())
    study.first_run = study.run()
    return study


@pytest.fixture
def study(finished_study: Study, tmp_path: Path) -> Study:
    return finished_study.copy_to(tmp_path / "perturbflow")
