import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.slurm import cluster
from tests.slurm.study import ClusterStudy, study_with_gpus
from tests.workflow.study import copy_workflow


@pytest.fixture(scope="session", autouse=True)
def one_node(request: pytest.FixtureRequest) -> Iterator[None]:
    """A SLURM cluster that lasts as long as these tests."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        pytest.skip("several processes would start a cluster each: make test-slurm")
    if reason := cluster.problem():
        pytest.skip(reason)
    with cluster.running(), pytest.MonkeyPatch.context() as environment:
        environment.setenv(cluster.MARK, "1")
        yield
        if request.session.testsfailed:
            print(cluster.ends_of_logs())


@pytest.fixture(autouse=True)
def no_jobs_left(one_node: None) -> Iterator[None]:
    yield
    cluster.end_jobs()


@pytest.fixture(scope="session")
def new_study(tmp_path_factory: pytest.TempPathFactory, one_node: None) -> ClusterStudy:
    """The workflow and a config, and no results."""
    folder = tmp_path_factory.mktemp("new") / "perturbflow"
    copy_workflow(folder)
    study = ClusterStudy(folder)
    study.configure(study_with_gpus())
    return study


@pytest.fixture(scope="session")
def local_study(new_study: ClusterStudy, tmp_path_factory: pytest.TempPathFactory) -> ClusterStudy:
    """The study, run without SLURM."""
    study = new_study.copy_to(tmp_path_factory.mktemp("local") / "perturbflow")
    study.first_run = study.run()
    return study


@pytest.fixture
def copy_of_local_study(local_study: ClusterStudy, tmp_path: Path) -> ClusterStudy:
    return local_study.copy_to(tmp_path / "perturbflow")
