import logging
import subprocess
import sys
import tempfile
import threading
from types import SimpleNamespace

import pytest
import torch
from filelock import FileLock, Timeout

from perturbflow.machine import devices
from perturbflow.machine.devices import (
    CLAIMED,
    claim,
    mixed_precision,
    prepare,
    room_for_images,
    select_device,
    select_devices,
    select_precision,
)

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
GB = 10**9


@pytest.fixture(params=[False, True], ids=["without CUDA", "with CUDA"])
def has_cuda(request, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: request.param)
    return request.param


@pytest.fixture
def settings_restored():
    threads, rounding = torch.get_num_threads(), torch.backends.cudnn.allow_tf32
    yield
    torch.set_num_threads(threads)
    torch.backends.cudnn.allow_tf32 = rounding


def test_auto_is_cuda_where_there_is_one(has_cuda):
    assert select_device("auto") == (CUDA if has_cuda else CPU)


def test_the_cpu_is_always_there(has_cuda):
    assert select_device("cpu") == CPU


@pytest.mark.parametrize("name", ["cuda", "cuda:1"])
def test_a_device_that_is_not_there_is_refused(has_cuda, name):
    if has_cuda:
        assert select_device(name) == torch.device(name)
    else:
        with pytest.raises(ValueError, match=f"compute.device: {name} was asked for, but no CUDA device is available"):
            select_device(name)


@pytest.mark.parametrize("device", [CPU, CUDA])
def test_a_named_precision_is_taken(device):
    assert select_precision("float32", device) == torch.float32
    assert select_precision("bfloat16", device) == torch.bfloat16


@pytest.mark.parametrize(("in_hardware", "expected"), [(True, torch.bfloat16), (False, torch.float32)])
def test_auto_is_bfloat16_where_the_hardware_has_it(monkeypatch, in_hardware, expected):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: in_hardware)
    assert select_precision("auto", CPU) == expected

    def is_bf16_supported(including_emulation):
        assert not including_emulation
        return in_hardware

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", is_bf16_supported)
    assert select_precision("auto", CUDA) == expected


def test_the_question_to_the_hardware_has_an_answer():
    assert select_precision("auto", CPU) in (torch.float32, torch.bfloat16)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_mixed_precision_is_that_of_the_layers(precision):
    layer, inputs = torch.nn.Linear(3, 2), torch.ones(1, 3)
    with mixed_precision(precision, CPU):
        assert layer(inputs).dtype == precision
    assert layer(inputs).dtype == torch.float32
    assert layer.weight.dtype == torch.float32


@pytest.mark.parametrize("threads", [1, 2])
def test_a_job_gets_its_threads_and_device(settings_restored, threads):
    assert prepare("cpu", threads) == CPU
    assert torch.get_num_threads() == threads


def test_float32_is_not_rounded_on_a_gpu(settings_restored):
    torch.backends.cudnn.allow_tf32 = True
    prepare("cpu", 1)
    assert not torch.backends.cudnn.allow_tf32
    assert not torch.backends.cuda.matmul.allow_tf32


@pytest.mark.gpu
def test_a_convolution_on_a_gpu_sees_a_small_perturbation(settings_restored):
    """A tenth of an 8-bit step, which TensorFloat-32 would round away beside pixels of order 1."""
    device = prepare("cuda", 1)
    layer = torch.nn.Conv2d(16, 16, 3, padding=1, bias=False).to(device)
    images = torch.rand(4, 16, 32, 32, device=device) + 1
    with torch.no_grad():
        change = layer(images * (1 + 4e-4)) - layer(images)
        layer.double()
        expected = layer(images.double() * (1 + 4e-4)) - layer(images.double())
    assert (change - expected).norm() < 0.05 * expected.norm()


# ------------------------------------------------------------------------------------------------ claims


@pytest.fixture
def no_claims(tmp_path, monkeypatch):
    """A folder for temporary files of its own, and no claims but those of the test."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv(CLAIMED, "")
    monkeypatch.setattr(devices, "_locks", {})
    yield
    for lock in devices._locks.values():
        lock.release()


class Job:
    """Another process that claims devices, says which, and keeps them until it is ended."""

    def __init__(self, repository, *names, n_wanted=1):
        program = (
            "import logging, sys\n"
            "logging.basicConfig(level=logging.INFO, format='%(message)s', stream=sys.stdout)\n"
            "from perturbflow.machine.devices import claim\n"
            f"print(*claim({names!r}, {n_wanted}), flush=True)\n"
            "sys.stdin.read()"
        )
        self.process = subprocess.Popen(
            [sys.executable, "-c", program], cwd=repository, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.limit = threading.Timer(300, self.process.kill)
        self.limit.start()

    def says(self):
        return self.process.stdout.readline().strip()

    def kill(self):
        self.limit.cancel()
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def start(repository, no_claims):
    jobs = []

    def start_job(*names, **options):
        jobs.append(Job(repository, *names, **options))
        return jobs[-1]

    yield start_job
    for job in jobs:
        job.kill()


@pytest.mark.slow
def test_two_jobs_never_have_the_same_device(start):
    first, second = start("a", "b"), start("a", "b")
    answers = [first.says(), second.says()]
    assert set(answers) == {"0", "1"}
    third = start("a", "b")
    assert third.says() == "waiting until other jobs leave 1 of these GPUs: a, b"
    second.kill()  # a claim ends with its process, also where that cannot say goodbye
    assert third.says() == answers[1]


def claimed_by_others(name):
    try:
        with FileLock(devices._lock_file(name)).acquire(timeout=0):
            return False
    except Timeout:
        return True


@pytest.mark.slow
def test_a_job_that_waits_for_several_devices_holds_none(start):
    holder = start("b")
    assert holder.says() == "0"
    waiting = start("a", "b", n_wanted=2)
    assert waiting.says().startswith("waiting until other jobs leave 2 of these")
    other = start("a", "b")
    assert other.says() in ("0", "waiting until other jobs leave 1 of these GPUs: a, b")
    holder.kill()
    other.kill()
    assert waiting.says() == "0 1"


@pytest.mark.slow
def test_what_a_job_has_claimed_is_its_own_and_its_childrens(start):
    assert claim(["a", "b"]) == [0]
    assert claim(["a", "b"]) == [0]
    assert start("a", "b").says() == "0"
    assert claim(["a", "b"], 2) == [0, 1]
    assert claimed_by_others("a") and claimed_by_others("b")


def test_where_nothing_can_be_locked_the_first_devices_are_taken(no_claims, tmp_path, monkeypatch, caplog):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "file"))
    with caplog.at_level(logging.WARNING):
        assert claim(["a", "b", "c"], 2) == [0, 1]
    assert "Nothing keeps other jobs from the same GPU" in caplog.text


@pytest.fixture
def two_gpus(no_claims, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda number: SimpleNamespace(uuid=f"GPU-{number}"))


@pytest.mark.parametrize("name", ["auto", "cuda"])
def test_a_job_gets_the_first_device_that_nobody_has(two_gpus, name):
    with FileLock(devices._lock_file("GPU-0")):
        assert select_devices(name) == [torch.device("cuda:1")]
    assert claimed_by_others("GPU-1") and not claimed_by_others("GPU-0")


def test_several_devices_are_claimed_at_once(two_gpus):
    assert select_devices("auto", 2) == [torch.device("cuda:0"), torch.device("cuda:1")]
    assert claimed_by_others("GPU-0") and claimed_by_others("GPU-1")


def test_a_device_of_ones_own_choice_is_taken_though_another_job_has_it(two_gpus):
    with FileLock(devices._lock_file("GPU-1")):
        assert select_devices("cuda:1") == [torch.device("cuda:1")]
    assert not claimed_by_others("GPU-1")
    assert select_devices("cuda:1") == [torch.device("cuda:1")]
    assert claimed_by_others("GPU-1") and not claimed_by_others("GPU-0")


@pytest.mark.parametrize(("name", "n_devices", "n_there"), [("auto", 3, 2), ("cuda:1", 2, 1), ("cuda:2", 1, 0)])
def test_too_few_devices_are_refused(two_gpus, name, n_devices, n_there):
    with pytest.raises(
        ValueError, match=f"device: {name} is {n_there} GPUs here, and the job's resource gpu {n_devices}"
    ):
        select_devices(name, n_devices)


def test_parts_of_one_gpu_are_told_apart(two_gpus, monkeypatch):
    names = set()
    for part in ("MIG-1", "MIG-2"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", part)
        names.add(devices._name_of(0))
    assert names == {"MIG-1", "MIG-2"}
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-1, MIG-2")
    assert {devices._name_of(0), devices._name_of(1)} == names


def test_processes_share_a_cpu():
    assert select_devices("cpu", 2) == [CPU, CPU]


# ------------------------------------------------------------------------------------------------ memory


def test_a_gpu_that_slurm_gave_and_torch_cannot_use_is_told(monkeypatch, caplog):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.delenv("SLURM_JOB_GPUS", raising=False)
    assert select_device("auto") == CPU and not caplog.text
    monkeypatch.setenv("SLURM_JOB_GPUS", "3")
    assert select_device("auto") == CPU
    assert "SLURM gave this job GPU 3" in caplog.text and "computing on the CPU" in caplog.text


def test_images_may_take_half_of_what_a_job_has(monkeypatch):
    monkeypatch.setattr(devices, "_available_memory", lambda: 90 * GB)
    assert room_for_images(CPU, n_processes=2) == 8 * GB  # no more than a job asks for
    monkeypatch.setattr(devices, "_available_memory", lambda: 8 * GB)
    assert room_for_images(CPU) == 4 * GB
    assert room_for_images(CPU, n_processes=2) == 2 * GB
    assert room_for_images(CPU, job_mb=2000) == 1 * GB
    assert room_for_images(CPU, job_mb=99_000) == 4 * GB


def test_images_may_take_a_quarter_of_a_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (12 * GB, 80 * GB))
    assert room_for_images(CUDA, job_mb=1000, n_processes=2) == 3 * GB


def test_the_machine_tells_its_free_memory():
    assert 10**7 < devices._available_memory() < 10**14
