"""Several processes that train together, on the CPU: the same training as one process's, and how they end."""

import copy
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from torch import nn

from perturbflow.classifiers.building import build_classifier
from perturbflow.classifiers.training import CLASSIFIER_HISTORY
from perturbflow.denoisers.training import DENOISER_HISTORY
from perturbflow.machine.processes import ALONE, Processes, _synchronised, check_shares, run_on_devices
from tests.unit.machine.shared_work import (
    Centred,
    Classifier,
    Normalised,
    StoppedError,
    fail_in_the_second,
    train_one_classifier,
    train_one_denoiser,
)

SETTINGS = {
    "learning_rate": 1e-3,
    "weight_decay": 1e-5,
    "schedule": "one_cycle",
    "batch_size": 8,
    "max_epochs": 3,
    "target_train_accuracy": 1.01,
    "crop_scale": [0.85, 1.0],
    "flip_probability": 0.5,
    "precision": "float32",
}


# ------------------------------------------------------------------------------------------------ shares


@pytest.mark.parametrize("count", [1, 2, 4])
def test_the_shares_make_up_the_batch(count):
    batch = torch.arange(16).reshape(2, 8)
    shares = [Processes(number, count).share(batch) for number in range(count)]
    assert torch.equal(torch.cat(shares, 1), batch)
    assert {share.shape for share in shares} == {(2, 8 // count)}


@pytest.mark.parametrize(("n_rows", "count"), [(10, 1), (10, 3), (2, 3), (0, 2)])
def test_every_row_is_one_processes(n_rows, count):
    rows = [list(range(n_rows))[Processes(number, count).rows(n_rows)] for number in range(count)]
    assert [row for part in rows for row in part] == list(range(n_rows))
    assert max(map(len, rows)) - min(map(len, rows)) <= 1


def test_one_process_alone_changes_nothing():
    network, values = nn.Linear(2, 2), (torch.tensor(2.0), torch.tensor(3.0))
    assert ALONE.is_first
    assert ALONE.replicated(network) is network
    assert ALONE.mean(*values) == values
    assert ALONE.total(5, torch.device("cpu")) == 5


def test_a_batch_that_cannot_be_shared_names_the_key():
    check_shares("classifiers.a.training.batch_size", 64, 1000, 4)
    check_shares("classifiers.a.training.batch_size", 7, 3, 1)
    with pytest.raises(ValueError, match=r"classifiers\.a\.training\.batch_size: a batch of 7 images .* by 2 devices"):
        check_shares("classifiers.a.training.batch_size", 7, 1000, 2)
    with pytest.raises(ValueError, match=r"denoisers\.b\.batch_size: the 3 images there .* by 2 devices"):
        check_shares("denoisers.b.batch_size", 8, 3, 2)
    with pytest.raises(ValueError, match="a batch of 7 images cannot be shared equally by 2 processes"):
        Processes(0, 2).share(torch.zeros(7))


# ------------------------------------------------------------------------------------------------ trainings


def results(folder, count):
    """Of each process. All have come to the same weights and saw the same losses."""
    files = [torch.load(folder / f"{number}_of_{count}.pt", map_location="cpu") for number in range(count)]
    for other in files[1:]:
        assert without_seconds(other["history"]) == without_seconds(files[0]["history"])
        assert other["weights"].keys() == files[0]["weights"].keys()
        assert all(torch.equal(other["weights"][name], value) for name, value in files[0]["weights"].items())
    return files[0]


def without_seconds(history):
    return [{key: repr(value) for key, value in row.items() if key != "seconds"} for row in history]


def assert_close(result, expected, columns, tolerance):
    assert len(result["history"]) == len(expected["history"])
    for row, expected_row in zip(result["history"], expected["history"], strict=True):
        for column in columns:
            if column != "seconds":
                assert row[column] == pytest.approx(expected_row[column], rel=tolerance, nan_ok=True), column
    assert result["weights"].keys() == expected["weights"].keys()
    for name, value in expected["weights"].items():
        torch.testing.assert_close(result["weights"][name], value, rtol=0, atol=tolerance, msg=name)


@pytest.mark.slow
def test_two_processes_train_the_classifier_of_one(tmp_path, monkeypatch):
    """To rounding: of 32-bit sums, which Adam's first steps enlarge where a gradient is near zero."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    # The accuracy on clean images is measured, and ends the training.
    settings = {**SETTINGS, "max_epochs": 12, "learning_rate": 5e-3, "target_train_accuracy": 0.37}
    for count in (1, 2):
        run_on_devices(train_one_classifier, "cpu", count, 2, tmp_path, Classifier(), settings, None)
        (tmp_path / "resume.pt").unlink()
    expected = results(tmp_path, 1)
    assert 1 < len(expected["history"]) < 12
    assert_close(results(tmp_path, 2), expected, CLASSIFIER_HISTORY, 1e-4)
    # What else this process starts is not led to this package.
    assert os.environ["PYTHONPATH"] == str(tmp_path)


@pytest.mark.slow
def test_two_processes_train_the_denoiser_of_one(tmp_path):
    settings = {
        "mix": {"brighter": 0.3, "darker": 0.7},
        "batch_size": 8,
        "precision": "float32",
        "stages": [
            {"epochs": 2, "learning_rate": 1e-3, "weight_decay": 1e-5, "schedule": "one_cycle"},
            {"epochs": 1, "learning_rate": 1e-4, "weight_decay": 1e-5, "schedule": "constant"},
        ],
    }
    for count in (1, 2):
        run_on_devices(train_one_denoiser, "cpu", count, 2, tmp_path, settings)
        (tmp_path / "resume.pt").unlink()
    assert_close(results(tmp_path, 2), results(tmp_path, 1), DENOISER_HISTORY, 1e-4)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """A training by two processes, with batch normalisation and dropout."""
    folder = tmp_path_factory.mktemp("undisturbed")
    run_on_devices(train_one_classifier, "cpu", 2, 2, folder, Normalised(), SETTINGS, None)
    return results(folder, 2)


@pytest.mark.slow
def test_a_stopped_training_by_two_goes_on_as_if_nothing_had_happened(tmp_path, undisturbed, capfd):
    with pytest.raises(Exception, match="StoppedError: by the test"):
        run_on_devices(train_one_classifier, "cpu", 2, 2, tmp_path, Normalised(), SETTINGS, 2)
    assert torch.load(tmp_path / "resume.pt")["epoch"] == 2
    run_on_devices(train_one_classifier, "cpu", 2, 2, tmp_path, Normalised(), SETTINGS, None)
    result = results(tmp_path, 2)
    assert without_seconds(result["history"]) == without_seconds(undisturbed["history"])
    for name, value in undisturbed["weights"].items():
        assert torch.equal(result["weights"][name], value), name
    # The first process alone tells what both would.
    assert capfd.readouterr().err.count("resumed from") == 1


@pytest.mark.slow
def test_a_training_goes_on_with_another_number_of_processes(tmp_path):
    run_on_devices(train_one_classifier, "cpu", 1, 1, tmp_path, Classifier(), SETTINGS, None)
    expected = results(tmp_path, 1)
    (tmp_path / "resume.pt").unlink()
    with pytest.raises(StoppedError):
        run_on_devices(train_one_classifier, "cpu", 1, 1, tmp_path, Classifier(), SETTINGS, 1)
    run_on_devices(train_one_classifier, "cpu", 2, 2, tmp_path, Classifier(), SETTINGS, None)
    assert_close(results(tmp_path, 2), expected, CLASSIFIER_HISTORY, 1e-4)


@pytest.mark.parametrize("architecture", ["resnetv2_50", "densenet201", "inception_resnet_v2"])
def test_synchronised_normalisation_has_the_weights_of_the_plain_network(architecture):
    """Under the same names, and observed at the same layers."""
    torch.manual_seed(0)
    small = {"blocks": [1, 1, 1]} if architecture.startswith("inception") else {"blocks": [1, 1, 1, 1], "width": 0.25}
    plain = build_classifier(architecture, 3, 96, "none", small).eval()
    images = torch.rand(2, 3, 64, 64) * 255
    expected, maps = maps_of(plain, images)
    weights, parameters = plain.state_dict(), list(plain.parameters())
    synchronised = _synchronised(plain)
    kinds = [type(module).__name__ for module in synchronised.modules()]
    assert any(kind.startswith("SyncBatchNorm") for kind in kinds)
    assert not any(kind.startswith("BatchNorm") for kind in kinds)
    assert list(synchronised.state_dict()) == list(weights)
    assert all(one is other for one, other in zip(synchronised.parameters(), parameters, strict=True))
    result, same_maps = maps_of(synchronised, images)
    torch.testing.assert_close(result, expected)
    for one, other in zip(same_maps, maps, strict=True):
        torch.testing.assert_close(one, other)


def maps_of(classifier, images):
    maps = []
    with torch.no_grad(), classifier.observed(lambda position, feature_map: maps.append(feature_map.clone())):
        return classifier(images), maps


@pytest.mark.gpu
def test_two_gpus_normalise_the_whole_batch(tmp_path):
    if torch.cuda.device_count() < 2:
        pytest.skip("needs two CUDA devices")
    network = nn.Sequential(Centred(), nn.Conv2d(3, 6, 3, 2), nn.BatchNorm2d(6), nn.Flatten(), nn.Linear(54, 3))
    for count in (1, 2):
        run_on_devices(train_one_classifier, "cuda", count, 2, tmp_path, copy.deepcopy(network), SETTINGS, None)
        (tmp_path / "resume.pt").unlink()
    assert_close(results(tmp_path, 2), results(tmp_path, 1), CLASSIFIER_HISTORY, 1e-3)


# ------------------------------------------------------------------------------------------------ how they end


@pytest.mark.slow
def test_an_error_in_one_process_ends_the_job_with_its_traceback(tmp_path, capfd):
    with pytest.raises(Exception, match="a mistake in the second process") as failed:
        run_on_devices(fail_in_the_second, "cpu", 2, 2, tmp_path)
    assert "fail_in_the_second" in str(failed.value)  # its traceback
    assert "a mistake in the second process" in capfd.readouterr().err
    for number in range(2):
        assert not is_alive(int((tmp_path / f"{number}.pid").read_text()))


def is_alive(process):
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):  # the latter where it ends between opening and reading
        return False
    return state not in "ZX"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="another system's processes outlive their parent")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_processes_end_with_the_job(tmp_path, repository, number):
    """However that ends: they would go on writing into files that its successor makes."""
    program = (
        "from perturbflow.machine.processes import run_on_devices\n"
        "from tests.unit.machine.shared_work import tell_and_wait\n"
        "run_on_devices(tell_and_wait, 'cpu', 2, 2)"
    )
    job = subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=repository,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    processes = []

    def give_up():
        for process in (job.pid, *processes):
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)

    limit = threading.Timer(300, give_up)
    limit.start()
    try:
        processes.extend(int(job.stdout.readline()) for _ in range(2))
        job.send_signal(number)
        assert job.stdout.read() == ""  # all of them have closed their end
        assert limit.is_alive()  # on their own
        assert job.wait(60) != 0
        # A process closes its files some time before it shows as ended.
        end = time.monotonic() + 10
        while any(map(is_alive, processes)) and time.monotonic() < end:
            time.sleep(0.01)
        assert not any(map(is_alive, processes))
    except BaseException:
        give_up()
        raise
    finally:
        limit.cancel()
