"""What all tests share: where the repository is, one thread for numerics, a small study, no GPU test without a GPU."""

import os
from collections import Counter
from pathlib import Path

import pytest

# Before torch and NumPy are imported: their pools of threads cost more than they gain on inputs of this size.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ.setdefault("MPLBACKEND", "agg")

from tests.workflow.study import Study, copy_workflow, made_once, tiny_config


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the repository."""
    return Path(__file__).parent.parent


def finish(study: Study) -> Counter[str]:
    copy_workflow(study.folder)
    study.configure(tiny_config())
    return study.run()


@pytest.fixture(scope="session")
def finished_study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """The tiny study, run to its end. Tests read it, or change copies of it."""
    return made_once("finished", tmp_path_factory.getbasetemp(), finish)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    gpu_tests = [item for item in items if item.get_closest_marker("gpu")]
    if not gpu_tests:
        return
    import torch

    if not torch.cuda.is_available():
        for item in gpu_tests:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))
