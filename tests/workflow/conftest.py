import shutil
from pathlib import Path

import pytest

from tests.workflow.study import COPIED, ROOT, Study, tiny_config


@pytest.fixture(scope="session")
def finished_study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """The tiny study, run to its end. Tests change copies of it."""
    folder = tmp_path_factory.mktemp("study") / "perturbflow"
    folder.mkdir()
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, folder / name)
    study = Study(folder)
    study.configure(tiny_config())
    study.first_run = study.run()
    return study


@pytest.fixture
def study(finished_study: Study, tmp_path: Path) -> Study:
    return finished_study.copy_to(tmp_path / "perturbflow")
