import argparse
import gzip
import io
import pickle
import tarfile
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from perturbflow.classifiers.weight_files import read_weights


def weights():
    return {"conv.weight": torch.arange(6.0).reshape(2, 3), "conv.bias": torch.ones(2), "steps": torch.tensor(3)}


def written(path, content, **options):
    torch.save(content, path, **options)
    return path


def optimizer_state():
    layer = nn.Linear(2, 1)
    optimizer = torch.optim.Adam(layer.parameters())
    layer(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    return optimizer.state_dict()


# ------------------------------------------------------------------------------------------------ what is read


@pytest.mark.parametrize("zipped", [True, False])
def test_files_of_torch_are_read(tmp_path, zipped):
    path = written(tmp_path / "weights.pth", weights(), _use_new_zipfile_serialization=zipped)
    read = read_weights(path)
    assert [*read] == [*weights()]
    assert all(torch.equal(read[name], tensor) for name, tensor in weights().items())


@pytest.mark.parametrize("name", ["weights.safetensors", "pytorch_model.bin", "weights"])
def test_files_of_safetensors_are_known_by_what_is_in_them(tmp_path, name):
    save_file(weights(), tmp_path / name)
    read = read_weights(tmp_path / name)
    assert read.keys() == weights().keys()
    assert all(torch.equal(read[name], tensor) for name, tensor in weights().items())


@pytest.mark.parametrize(
    ("content", "prefix"),
    [
        ({"state_dict": weights()}, "state_dict."),
        ({"epoch": 3, "anything": {"inner": weights()}}, "anything.inner."),
        ((3, weights()), "1."),
        ({"model": weights(), "optimizer": optimizer_state(), "optimizer_states": [optimizer_state()]}, "model."),
        ({"net": {name: nn.Parameter(t) for name, t in weights().items() if t.is_floating_point()}}, "net."),
    ],
)
def test_keys_of_mappings_stand_before_names_and_optimizers_are_left_out(tmp_path, content, prefix):
    read = read_weights(written(tmp_path / "weights.pth", content))
    assert {*read} == {f"{prefix}{name}" for name in weights()} - ({"net.steps"} if prefix == "net." else set())
    assert not any(tensor.requires_grad for tensor in read.values())


NUMPY = {
    "best": np.float64(0.5),
    "epoch": np.int64(3),
    "single": np.float32(1),
    "flag": np.bool_(True),
    "name": np.str_("x"),
    "curve": np.arange(3.0),
    "names": np.array(["a", "b"]),
    "rng": np.random.default_rng(0).bit_generator.state,
    "args": argparse.Namespace(lr=np.float32(0.1)),
}


@pytest.mark.parametrize("zipped", [True, False])
def test_numbers_and_arrays_of_numpy_may_stand_beside_the_weights(tmp_path, zipped):
    path = written(tmp_path / "x.pth", {"model": weights(), **NUMPY}, _use_new_zipfile_serialization=zipped)
    assert {*read_weights(path)} == {f"model.{name}" for name in weights()}


def test_those_that_an_older_numpy_wrote_as_well(tmp_path):
    written(tmp_path / "new.pth", {"model": weights(), **NUMPY})
    with zipfile.ZipFile(tmp_path / "new.pth") as new, zipfile.ZipFile(tmp_path / "old.pth", "w") as old:
        for entry in new.infolist():
            content = new.read(entry)
            if entry.filename.endswith("data.pkl"):
                assert b"numpy._core.multiarray" in content
                content = content.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
            old.writestr(entry, content)
    assert {*read_weights(tmp_path / "old.pth")} == {f"model.{name}" for name in weights()}


# ------------------------------------------------------------------------------------------------ what is refused


class Intruder:
    """Unpickling it creates a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("place", ["weight", "beside", "array", "namespace", "alone"])
@pytest.mark.parametrize("zipped", [True, False])
def test_nothing_in_a_file_is_run(tmp_path, place, zipped):
    trace, intruder = tmp_path / "trace", Intruder(tmp_path / "trace")
    content = {
        "weight": {"conv.weight": intruder},
        "beside": {"model": weights(), "note": intruder},
        "array": {"model": weights(), "note": np.array([intruder], dtype=object)},
        "namespace": {"model": weights(), "args": argparse.Namespace(note=intruder)},
        "alone": intruder,
    }[place]
    path = written(tmp_path / "x.pth", content, _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match="may run code"):
        read_weights(path)
    assert not trace.exists()
    torch.load(path, weights_only=False)
    assert trace.exists()  # the intruder works


def test_nor_in_a_plain_pickle(tmp_path):
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        (tmp_path / "x.pth").write_bytes(pickle.dumps(Intruder(tmp_path / "trace"), protocol=protocol))
        with pytest.raises(ValueError, match=r"pickled without torch\.save"):
            read_weights(tmp_path / "x.pth")
    assert not (tmp_path / "trace").exists()


def network():
    return nn.Sequential(nn.Linear(2, 3), nn.ReLU())


@pytest.mark.parametrize("content", [network(), {"model": network(), "epoch": 1}], ids=["network", "checkpoint"])
@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickled_network_is_refused_with_the_two_lines_that_turn_it_into_weights(
    tmp_path, monkeypatch, content, zipped
):
    monkeypatch.chdir(tmp_path)
    path = written(tmp_path / "whole.pth", content, _use_new_zipfile_serialization=zipped)
    with pytest.raises(
        ValueError, match=r"whole pickled network.*torch\.nn\.modules\.container\.Sequential"
    ) as refused:
        read_weights(path)
    lines = "\n".join(line.strip() for line in str(refused.value).splitlines()[1:])
    if isinstance(content, dict):
        assert 'net["model"].state_dict()' in str(refused.value)
        lines = lines.replace("net.state_dict()", 'net["model"].state_dict()')
    exec(lines, {"torch": torch})
    assert {*read_weights(tmp_path / "whole_weights.pth")} == {"0.weight", "0.bias"}


def test_other_objects_beside_the_weights_likewise(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = written(tmp_path / "x.ckpt", {"state_dict": weights(), "hyper_parameters": {"loss": nn.MSELoss()}})
    with pytest.raises(
        ValueError, match=r"more than tensors in it, and reading torch\.nn\.\S+MSELoss may run"
    ) as refused:
        read_weights(path)
    exec("\n".join(line.strip() for line in str(refused.value).splitlines()[1:]), {"torch": torch})
    assert {*read_weights(tmp_path / "x_weights.pth")} == {*weights()}


def tar(path):
    with tarfile.open(path, "w") as archive:
        archive.addfile(tarfile.TarInfo("weights.pth"), io.BytesIO())


def zipped(path, *names):
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, "")


def cut(path):
    path.write_bytes(path.read_bytes()[:-20])


ONNX = b"\x08\x0a\x12\x07pytorch\x1a\x052.1.0" + bytes(40)


@pytest.mark.parametrize(
    ("write", "expected"),
    [
        (lambda path: path.write_bytes(b""), "an empty file"),
        (lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\nsize 1\n"), "Git LFS.*git lfs pull"),
        (lambda path: path.write_text("\n<!DOCTYPE html>\n<html>"), "a web page; download the file itself"),
        (
            lambda path: path.write_text('{"metadata": {},\n"weight_map": {"a": "x"}}'),
            "index of weights in several files",
        ),
        (lambda path: path.write_text('{\n  "architecture": "x"}'), "JSON; name the file of weights beside it"),
        (lambda path: path.write_text("Not Found"), "neither of torch.save nor of safetensors"),
        (lambda path: path.write_bytes(bytes(range(200))), "neither of torch.save nor of safetensors"),
        (lambda path: path.write_bytes(b"\x89PNG\r\n" + bytes(100)), "a picture"),
        (lambda path: h5py.File(path, "w").close(), "HDF5 file, as Keras and TensorFlow write.*own framework"),
        (lambda path: path.write_bytes(ONNX), "ONNX"),
        (lambda path: path.write_bytes(b"\x1c\0\0\0TFL3" + bytes(40)), "TensorFlow Lite"),
        (lambda path: np.savez(path.open("wb"), a=np.zeros(2)), "an archive of NumPy arrays"),
        (lambda path: np.save(path.open("wb"), np.zeros(2)), "a NumPy array"),
        (lambda path: path.write_bytes(gzip.compress(b"weights")), "a packed archive; unpack it"),
        (tar, "a packed archive; unpack it"),
        (lambda path: cut(written(path, weights())), "cut off: its end is missing; fetch it again"),
        (lambda path: (save_file(weights(), path), cut(path)), "may be cut off, fetch it again"),
        (lambda path: zipped(path, "a/resnet.pth", "README"), "a zip archive of a/resnet.pth, README; unpack it"),
        (lambda path: zipped(path, "config.json", "model.weights.h5"), "a network of Keras"),
        (
            lambda path: zipped(path, "x/data.pkl", "x/constants.pkl"),
            r"a TorchScript archive.*\n.*torch\.jit\.load.*\n.*net\.state_dict\(\)",
        ),
        (lambda path: zipped(path, "x/archive_format"), r"an exported program.*\n.*torch\.export\.load"),
        (lambda path: written(path, optimizer_state()), "no weights, only the state of an optimizer"),
        (lambda path: written(path, {"optimizer": optimizer_state(), "epoch": 1}), "only the state of an optimizer"),
        (lambda path: written(path, {"epoch": 3, "loss": 0.5}), "no weights, only epoch, loss"),
        (lambda path: written(path, torch.zeros(3)), "no weights, only Tensor"),
        (lambda path: written(path, [1, 2]), "no weights, only list"),
        (lambda path: written(path, weights() | {"w": Shard()}), "sharded over processes; save them whole"),
    ],
)
def test_another_file_is_refused_with_what_it_is(tmp_path, write, expected):
    write(tmp_path / "file.pth")
    with pytest.raises(ValueError, match=f"(?s)weights: .*file.pth cannot be read as a file of weights.*{expected}"):
        read_weights(tmp_path / "file.pth")


class Shard:
    """Pickled as a part of a tensor that is sharded over processes."""

    def __reduce__(self):
        return torch.distributed.init_process_group, ()


def test_a_folder_is_refused_with_the_files_in_it_or_what_it_is(tmp_path):
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(FileNotFoundError, match=r"is a folder; name a file in it: model\.safetensors"):
        read_weights(tmp_path)
    (tmp_path / ".metadata").touch()
    with pytest.raises(FileNotFoundError, match="is sharded over processes; write it into one file: python -m torch"):
        read_weights(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"absent\.pt does not exist; give a file, `imagenet` or `none`"):
        read_weights(tmp_path / "absent.pt")
