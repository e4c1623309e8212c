"""The classes of a study before any job runs."""

import pytest
from PIL import Image

from perturbflow.data.decoding import decode_splits_to_files
from perturbflow.data.fingerprint import source_fingerprint
from perturbflow.data.sources import data_slice
from perturbflow.planning import class_names
from perturbflow.planning.class_names import class_names_of


@pytest.fixture
def config(tmp_path, monkeypatch):
    """Two classes of a picture in each split."""
    monkeypatch.chdir(tmp_path)
    for name in ("train/ant", "train/bee", "val/ant", "val/bee"):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        Image.new("RGB", (16, 16)).save(tmp_path / "pictures" / name / "a.png")
    data = {
        "source": "image-folder",
        "path": "pictures",
        "download": True,
        "image_size": 16,
        "splits": ["train", "val"],
        "classes": None,
        "images_per_class": {"train": None, "val": None},
        "on_error": "fail",
    }
    return {"run": "x", "seed": 0, "data": data, "classifiers": {"c": {"logits": None}}}


def make_data(config, tmp_path):
    files = {split: tmp_path / f"results/x/data/{split}.h5" for split in config["data"]["splits"]}
    fingerprint = source_fingerprint(config["data"], 0, {}, files)
    left_out = str(tmp_path / "results/x/data/left_out.csv")
    data, outputs = config["data"], {split: str(path) for split, path in files.items()}
    decode_splits_to_files(outputs, left_out, data, 0, data_slice(data), fingerprint, 1)


def test_the_source_is_listed_only_where_the_data_may_be_others(config, tmp_path, monkeypatch):
    assert class_names_of(config) == ["ant", "bee"]
    make_data(config, tmp_path)
    monkeypatch.setattr(class_names, "list_splits", lambda data, seed: pytest.fail("listed"))
    assert class_names_of(config) == ["ant", "bee"]
    (tmp_path / "pictures").rename(tmp_path / "gone")
    assert class_names_of(config) == ["ant", "bee"]
    monkeypatch.undo()

    monkeypatch.chdir(tmp_path)
    (tmp_path / "gone").rename(tmp_path / "pictures")
    for split in ("train", "val"):
        (tmp_path / f"pictures/{split}/bee").rename(tmp_path / f"pictures/{split}/wasp")
    assert class_names_of(config) == ["ant", "wasp"]
    assert class_names_of(config | {"seed": 1}) == ["ant", "wasp"]


def test_what_is_to_be_downloaded_has_a_number_alone(config):
    config["data"] |= {"source": "tiny-imagenet", "path": "nowhere"}
    assert class_names_of(config) == [""] * 200
    config["data"]["classes"] = 7
    assert class_names_of(config) == [""] * 7
    config["data"]["download"] = False
    with pytest.raises(FileNotFoundError, match="nowhere"):
        class_names_of(config)


def test_a_source_that_breaks_its_layout_is_told(config, tmp_path):
    (tmp_path / "pictures/val/bee").rename(tmp_path / "pictures/val/wasp")
    with pytest.raises(FileNotFoundError, match="no folder for class bee"):
        class_names_of(config)


def test_digits_are_listed_where_their_names_are_asked_for(config):
    config["data"] |= {"source": "digits", "path": None}
    assert class_names_of(config) == [""] * 10
    config["classifiers"]["c"]["logits"] = {"1": 0}
    assert class_names_of(config) == [str(digit) for digit in range(10)]
