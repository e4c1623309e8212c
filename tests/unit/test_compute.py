import pytest
import torch

from perturbflow.compute import mixed_precision, prepare, select_device, select_precision

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


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
