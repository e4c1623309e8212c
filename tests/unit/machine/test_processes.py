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
import torch.nn.functional as F
from torch import nn

from perturbflow.classifiers.building import build_classifier
from perturbflow.classifiers.training import CLASSIFIER_HISTORY, train_classifier
from perturbflow.denoisers.training import DENOISER_HISTORY, train_denoiser
from perturbflow.machine.processes import ALONE, Processes, _synchronised, check_shares, run_on_devices
from perturbflow.training import Resumable

HERE = Path(__file__)
N_IMAGES, SIZE = 24, 8
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


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    """The processes import the functions of this file."""
    monkeypatch.setenv("PYTHONPATH", str(HERE.parent))


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


class Centred(nn.Module):
    def forward(self, pixels):
        return pixels / 127.5 - 1


class WithUnused(nn.Module):
    """A network without batch normalisation, and with a head that is not used."""

    def __init__(self, n_outputs):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(Centred(), nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(inplace=True))
        self.last = nn.Conv2d(6, n_outputs, 1)
        self.unused = nn.Linear(3, 3)

    def forward(self, pixels):
        return self.last(self.layers(pixels))


class Classifier(WithUnused):
    def __init__(self):
        super().__init__(3)

    def forward(self, pixels):
        return super().forward(pixels).mean((2, 3))


class Normalised(nn.Sequential):
    """With what does depend on the processes on a CPU: batch normalisation, and dropout."""

    def __init__(self):
        torch.manual_seed(0)
        super().__init__(
            Centred(), nn.Conv2d(3, 6, 3, 2), nn.BatchNorm2d(6), nn.Dropout(0.3), nn.Flatten(), nn.Linear(54, 3)
        )


class StoppedError(Exception):
    pass


def images_and_labels():
    draws = torch.Generator().manual_seed(1)
    labels = torch.arange(N_IMAGES) % 3
    images = torch.randint(0, 256, (N_IMAGES, 3, SIZE, SIZE), generator=draws, dtype=torch.uint8)
    images[torch.arange(N_IMAGES), labels] //= 2
    return images, labels


def train_one_classifier(folder, network, settings, stop_after, device, processes):
    """Write the history and the weights of each process into files, and stop where that is asked for."""

    def after_epoch(history):
        if len(history) == stop_after:
            raise StoppedError("by the test")

    images, labels = (tensor.to(device) for tensor in images_and_labels())
    network = network.to(device)
    resumable = Resumable(folder / "resume.pt", "same")
    history = train_classifier(network, images, labels, settings, 5, resumable, after_epoch, processes=processes)
    write_result(folder, network, history, processes)


def train_one_denoiser(folder, settings, device, processes):
    clean = images_and_labels()[0].permute(0, 2, 3, 1).numpy()
    adversarial = {"brighter": clean.astype("float32") + 5, "darker": clean.astype("float32") - 3}
    denoiser = WithUnused(3)
    history = train_denoiser(
        denoiser,
        clean,
        adversarial,
        settings,
        5,
        device,
        Resumable(folder / "resume.pt", "same"),
        loss_of=F.l1_loss,
        processes=processes,
    )
    write_result(folder, denoiser, history, processes)


def write_result(folder, network, history, processes):
    weights = network.state_dict()
    torch.save({"history": history, "weights": weights}, folder / f"{processes.number}_of_{processes.count}.pt")


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


def test_two_processes_train_the_classifier_of_one(tmp_path):
    """To rounding: of 32-bit sums, which Adam's first steps enlarge where a gradient is near zero."""
    # The accuracy on clean images is measured, and ends the training.
    settings = {**SETTINGS, "max_epochs": 12, "learning_rate": 5e-3, "target_train_accuracy": 0.37}
    for count in (1, 2):
        run_on_devices(train_one_classifier, "cpu", count, 2, tmp_path, Classifier(), settings, None)
        (tmp_path / "resume.pt").unlink()
    expected = results(tmp_path, 1)
    assert 1 < len(expected["history"]) < 12
    assert_close(results(tmp_path, 2), expected, CLASSIFIER_HISTORY, 1e-4)
    # What else this process starts is not led to this package.
    assert os.environ["PYTHONPATH"] == str(HERE.parent)


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
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(HERE.parent))
        run_on_devices(train_one_classifier, "cpu", 2, 2, folder, Normalised(), SETTINGS, None)
    return results(folder, 2)


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


def fail_in_the_second(folder, device, processes):
    (folder / f"{processes.number}.pid").write_text(str(os.getpid()))
    torch.distributed.barrier()
    if processes.number == 1:
        raise KeyError("a mistake in the second process")
    signal.pause()  # as it waits in a collective operation for the other one


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


def tell_and_wait(device, processes):
    os.write(1, f"{os.getpid()}\n".encode())  # in one piece: print() may part the line and its end
    signal.pause()


@pytest.mark.skipif(sys.platform != "linux", reason="another system's processes outlive their parent")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_processes_end_with_the_job(tmp_path, repository, number):
    """However that ends: they would go on writing into files that its successor makes."""
    paths = os.pathsep.join([str(repository), str(HERE.parent)])
    job = subprocess.Popen(
        [sys.executable, "-c", "from test_processes import *; run_on_devices(tell_and_wait, 'cpu', 2, 2)"],
        env={**os.environ, "PYTHONPATH": paths, "TMPDIR": str(tmp_path)},
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
