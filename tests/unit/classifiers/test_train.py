"""From data files to a classifier's files, by one process and by two, from memory and from the file."""

import logging

import h5py
import numpy as np
import pandas as pd
import pytest
import torch

from perturbflow.classifiers import train
from perturbflow.classifiers.accuracy import top1_of_array
from perturbflow.classifiers.building import build_classifier, load_classifier
from perturbflow.classifiers.train import ClassifierTraining, train_classifier_to_files
from perturbflow.files.images import DataSplit, open_images
from perturbflow.files.whole import BadFileError
from tests.inputs import write_split

N_CLASSES, SIZE = 3, 32
CPU = torch.device("cpu")
COMPUTE = {"device": "cpu", "batch_size": 10, "compile": False}


@pytest.fixture
def inputs(tmp_path):
    """Two splits of coloured noise."""
    draws = np.random.default_rng(0)
    paths = {}
    for split, n_images in {"train": 24, "val": 9}.items():
        labels = np.arange(n_images) % N_CLASSES
        images = draws.integers(0, 120, (n_images, SIZE, SIZE, 3), dtype=np.uint8)
        images[np.arange(n_images), :, :, labels] += 100
        ids = [f"{split}-{number}" for number in range(n_images)]
        paths[split] = str(tmp_path / f"{split}.h5")
        write_split(paths[split], DataSplit(images, labels, ids, ["rot", "grün", "blau"]), {})
    return paths


def settings(**training):
    return {
        "architecture": "vgg19",
        "input_size": SIZE,
        "weights": "none",
        "options": {"width": 0.05},
        "taps": None,
        "normalization": None,
        "interpolation": None,
        "logits": None,
        "predict_among": "data",
        "training": {
            "learning_rate": 1e-3,
            "weight_decay": 1e-5,
            "schedule": "constant",
            "batch_size": 8,
            "max_epochs": 2,
            "target_train_accuracy": 1.0,
            "crop_scale": [0.85, 1.0],
            "flip_probability": 0.5,
            "precision": "float32",
            **training,
        },
    }


def run(inputs, folder, n_devices=1, job_mb=None, code="1", chosen=None):
    folder.mkdir(exist_ok=True)
    training = ClassifierTraining(
        name="small",
        data=inputs,
        weights=None,
        checkpoint=str(folder / "checkpoint.pt"),
        history=str(folder / "history.csv"),
        accuracy=str(folder / "accuracy.csv"),
        settings=chosen or settings(),
        seed=3,
        code={"code.py": code},
        compute=COMPUTE,
        job_mb=job_mb,
    )
    train_classifier_to_files(training, n_devices, 1)
    return folder


def assert_same_files(folder, expected):
    assert (folder / "accuracy.csv").read_bytes() == (expected / "accuracy.csv").read_bytes()
    histories = [pd.read_csv(path / "history.csv").drop(columns="seconds") for path in (folder, expected)]
    pd.testing.assert_frame_equal(*histories, check_exact=True)
    weights, expected_weights = (torch.load(path / "checkpoint.pt")["network"] for path in (folder, expected))
    assert weights.keys() == expected_weights.keys()
    assert all(torch.equal(weights[name], value) for name, value in expected_weights.items())


def test_the_files_tell_what_was_trained(inputs, tmp_path):
    folder = run(inputs, tmp_path / "classifier")
    assert sorted(path.name for path in folder.iterdir()) == ["accuracy.csv", "checkpoint.pt", "history.csv"]
    checkpoint = torch.load(folder / "checkpoint.pt")
    assert checkpoint["class_names"] == ["rot", "grün", "blau"]
    assert checkpoint["n_classes"] == N_CLASSES
    assert len(checkpoint["train_sha256"]) == 64 and "weights_sha256" not in checkpoint
    assert len(pd.read_csv(folder / "history.csv")) == 2
    accuracies = pd.read_csv(folder / "accuracy.csv").set_index("split")
    assert accuracies["n_images"].to_dict() == {"train": 24, "val": 9}
    classifier = load_classifier(folder / "checkpoint.pt", CPU)
    for split, n_images in {"train": 24, "val": 9}.items():
        images, labels = open_images(inputs[split]), np.arange(n_images) % N_CLASSES
        assert accuracies["top1"][split] == top1_of_array(classifier, images, labels, 10, CPU)


def test_a_classifier_that_is_not_trained_needs_one_split(inputs, tmp_path):
    """Its five logits are those of other classes; the data's three are found by name."""
    torch.manual_seed(0)
    network = build_classifier("vgg19", 5, SIZE, options={"width": 0.05}).network
    torch.save(network.state_dict(), tmp_path / "five.pth")
    chosen = settings(max_epochs=0) | {
        "weights": str(tmp_path / "five.pth"),
        "logits": ["gelb", "blau", "rot", "schwarz", "grün"],
    }
    images, labels = open_images(inputs["val"]), np.arange(9) % N_CLASSES
    for among, indices in {"data": [2, 4, 1], "all": [2, 4, 1, 0, 3]}.items():
        one_split = {"val": inputs["val"]}
        folder = run(one_split, tmp_path / among, chosen={**chosen, "predict_among": among})
        assert pd.read_csv(folder / "history.csv").empty
        (row,) = pd.read_csv(folder / "accuracy.csv").to_dict("records")
        assert (row["split"], row["n_images"], row["n_classes"]) == ("val", 9, N_CLASSES)
        checkpoint = torch.load(folder / "checkpoint.pt")
        assert (checkpoint["n_logits"], checkpoint["logit_indices"]) == (5, indices)
        classifier = load_classifier(folder / "checkpoint.pt", CPU)
        assert row["top1"] == top1_of_array(classifier, images, labels, 10, CPU)
        pixels = torch.from_numpy(images[:]).permute(0, 3, 1, 2).float()
        with torch.no_grad():
            assert torch.equal(classifier(pixels), classifier.network(pixels / 127.5 - 1)[:, indices])


def test_images_beyond_the_memory_are_read_as_they_are_needed(inputs, tmp_path, caplog, monkeypatch):
    expected = run(inputs, tmp_path / "held")
    n_bytes = 24 * SIZE * SIZE * 3
    for room, is_read in {n_bytes: False, n_bytes - 1: True}.items():
        monkeypatch.setattr(train, "room_for_images", lambda device, job_mb, count, room=room: room)
        caplog.clear()
        with caplog.at_level(logging.INFO):
            folder = run(inputs, tmp_path / str(room))
        assert ("read batch by batch" in caplog.text) == is_read
        assert_same_files(folder, expected)


def test_a_jobs_own_memory_decides(inputs, tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        run(inputs, tmp_path / "small", job_mb=0)
    assert "read batch by batch" in caplog.text


def test_many_images_come_to_the_device_in_parts(inputs, tmp_path, monkeypatch):
    expected = run(inputs, tmp_path / "at once")
    monkeypatch.setattr(train, "N_AT_ONCE", 7)
    assert_same_files(run(inputs, tmp_path / "in parts"), expected)


@pytest.mark.slow
def test_two_processes_make_the_files_of_a_job(inputs, tmp_path):
    """Their weights are others than one process's: vgg19 has dropout, which each process draws for its share."""
    folder = run(inputs, tmp_path / "classifier", n_devices=2)
    assert sorted(path.name for path in folder.iterdir()) == ["accuracy.csv", "checkpoint.pt", "history.csv"]
    assert pd.read_csv(folder / "history.csv")["epoch"].tolist() == [1, 2]
    classifier = load_classifier(folder / "checkpoint.pt", CPU)
    accuracies = pd.read_csv(folder / "accuracy.csv").set_index("split")
    for split, n_images in {"train": 24, "val": 9}.items():
        images, labels = open_images(inputs[split]), np.arange(n_images) % N_CLASSES
        assert accuracies["top1"][split] == top1_of_array(classifier, images, labels, 10, CPU)


def test_devices_that_cannot_share_a_batch_are_refused_by_the_key(inputs, tmp_path):
    with pytest.raises(ValueError, match=r"classifiers\.small\.training\.batch_size: a batch of 8 images .* 3 devices"):
        run(inputs, tmp_path / "classifier", n_devices=3)


def test_a_file_of_something_else_is_refused(inputs, tmp_path):
    with h5py.File(inputs["val"], "a") as file:
        del file["images"]
        file["images"] = np.zeros((9, SIZE, SIZE, 3), dtype=np.float32)
    with pytest.raises(BadFileError, match=r"val\.h5: images must be uint8"):
        run(inputs, tmp_path / "classifier")
