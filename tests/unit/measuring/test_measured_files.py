"""From the files of a set, raw and denoised, to the CSV files of what was measured."""

import json
from itertools import product

import numpy as np
import pandas as pd
import pytest
import torch

from perturbflow.classifiers.building import build_classifier, save_classifier
from perturbflow.files.images import DataSplit, open_images
from perturbflow.files.sets import set_writer, unattacked
from perturbflow.measuring.intervene import InterventionJob, intervene_to_files
from perturbflow.measuring.measure import MeasuringJob, measure_to_files
from perturbflow.measuring.mse import attack_row, mean_squared_errors, mean_squared_errors_to_files
from tests.inputs import write_split

CONDITIONS, SPLITS = ("none", "unet"), ("train", "val")
N_IMAGES = {"train": 6, "val": 4}
SIZE, N_CLASSES = 32, 3
COMPUTE = {"device": "cpu", "batch_size": 4}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Data, the set `fgsm` under two conditions, the second with half the perturbation, and a classifier."""
    folder = tmp_path_factory.mktemp("files")
    generator = np.random.default_rng(0)
    for split, n_images in N_IMAGES.items():
        images = generator.integers(0, 256, (n_images, SIZE, SIZE, 3), np.uint8)
        known = {"index": np.arange(n_images), "label": np.arange(n_images) % N_CLASSES}
        # The first was wrong before, the next two are fooled.
        attacked = {
            "steps": np.minimum(np.arange(n_images), 5),
            "succeeded": np.isin(np.arange(n_images), (1, 2)),
            "already_misclassified": np.arange(n_images) == 0,
        }
        attributes = {"config": json.dumps({"attack": "fgsm", "stopping_classifier": "c"})}
        names = [str(row) for row in range(n_images)]
        write_split(folder / f"{split}.h5", DataSplit(images, known["label"], names, ["a", "b", "c"]))
        for condition, size in zip(CONDITIONS, (8.0, 4.0), strict=True):
            columns = known | attacked if condition == "none" else known
            with set_writer(folder / f"{condition}_{split}.h5", images.shape[1:], columns, attributes) as perturbed:
                perturbed[:] = images + size * np.where(np.indices(images.shape).sum(0) % 2, 1, -1)
    torch.manual_seed(0)
    network = {"architecture": "vgg19", "input_size": SIZE, "options": {"width": 0.05}}
    described = {**network, "n_classes": N_CLASSES}
    save_classifier(folder / "checkpoint.pt", build_classifier(**described), described)
    return folder


@pytest.fixture
def conditions(folder):
    return {pair: str(folder / "{}_{}.h5".format(*pair)) for pair in product(CONDITIONS, SPLITS)}


def names_of(frame, *columns):
    return frame[list(columns)].drop_duplicates().to_numpy().tolist()


def test_errors_of_each_condition_and_split(folder, conditions, tmp_path):
    summary, per_image = str(tmp_path / "fgsm.csv"), str(tmp_path / "fgsm_images.csv.gz")
    clean = {split: str(folder / f"{split}.h5") for split in SPLITS}
    attack = str(tmp_path / "attack.csv")
    mean_squared_errors_to_files("fgsm", conditions, clean, summary, per_image, attack)
    means = pd.read_csv(summary, keep_default_na=False)
    assert list(means) == ["adversarial_set", "denoiser", "split", "mse_px2", "n_images"]
    assert list(zip(means["denoiser"], means["split"], strict=True)) == list(conditions)
    assert means["mse_px2"].tolist() == [64, 64, 16, 16]
    images = pd.read_csv(per_image, keep_default_na=False)
    assert list(images) == ["denoiser", "split", "index", "mse_px2"]
    assert len(images) == 2 * sum(N_IMAGES.values())
    norm = 8 * (SIZE * SIZE * 3) ** 0.5
    sizes = {"l2_mean": norm, "l2_max": norm, "linf_mean": 8.0, "linf_max": 8.0}
    train, val = pd.read_csv(attack).to_dict("records")
    assert train == pytest.approx(
        {
            "adversarial_set": "fgsm",
            "split": "train",
            "n_images": 6,
            "n_wrong_before": 1,
            "n_fooled": 2,
            "steps_mean": 3.0,
            **sizes,
        }
    )
    assert (val["split"], val["n_images"], val["steps_mean"]) == ("val", 4, 2.0)


@pytest.mark.parametrize(
    ("settings", "steps", "expected"),
    [
        ({"stopping_classifier": None}, 3, {"n_wrong_before": None, "n_fooled": 2, "steps_mean": 3}),
        ({"stopping_classifier": None}, -1, {"n_wrong_before": None, "n_fooled": 2, "steps_mean": None}),
        ({"norm_of": "fgsm"}, 0, {"n_wrong_before": None, "n_fooled": None, "steps_mean": None}),
    ],
)
def test_what_nobody_asked_is_empty(tmp_path, settings, steps, expected):
    """Of four images two are fooled, by up to nine pixels."""
    clean = np.full((4, 2, 2, 3), 100, np.uint8)
    images = clean.astype(np.float32)
    images[:, 0, 0, 0] += [0, 1, -2, 9]
    write_split(tmp_path / "data.h5", DataSplit(clean, np.zeros(4, np.int64), list("abcd"), ["a", "b"]))
    columns = {
        "index": np.arange(4),
        "label": np.zeros(4, np.int64),
        "steps": np.full(4, steps),
        "succeeded": np.array([False, False, True, True]),
        "already_misclassified": np.zeros(4, bool),
    }
    with set_writer(tmp_path / "set.h5", clean.shape[1:], columns, {"config": json.dumps(settings)}) as file:
        file[:] = images
    row = attack_row(str(tmp_path / "set.h5"), str(tmp_path / "data.h5"), mean_squared_errors(images, clean))
    assert {key: None if pd.isna(row[key]) else row[key] for key in expected} == expected
    assert row["l2_mean"] == pytest.approx(3.0) and row["l2_max"] == pytest.approx(9.0) and row["linf_max"] == 9.0


def test_a_set_whose_images_were_all_wrong_before_has_no_sizes(tmp_path):
    clean = np.zeros((2, 2, 2, 3), np.uint8)
    write_split(tmp_path / "data.h5", DataSplit(clean, np.zeros(2, np.int64), list("ab"), ["a", "b"]))
    columns = {"index": np.arange(2), "label": np.zeros(2, np.int64), **unattacked(2)}
    columns["already_misclassified"][:] = True
    attributes = {"config": json.dumps({"stopping_classifier": "c"})}
    with set_writer(tmp_path / "set.h5", clean.shape[1:], columns, attributes) as file:
        file[:] = clean
    row = attack_row(str(tmp_path / "set.h5"), str(tmp_path / "data.h5"), np.zeros(2))
    assert (row["n_wrong_before"], row["n_fooled"]) == (2, 0) and np.isnan(row["l2_max"])


def test_what_a_classifier_makes_of_a_set(folder, conditions, tmp_path):
    names = {"accuracy": ".csv", "distances": ".csv", "distances_images": ".csv.gz", "predictions": ".csv.gz"}
    outputs = {name: str(tmp_path / f"{name}{suffix}") for name, suffix in names.items()}
    job = MeasuringJob(
        classifier="small",
        adversarial_set="fgsm",
        checkpoint=str(folder / "checkpoint.pt"),
        data=str(folder / "train.h5"),
        conditions=conditions,
        settings={"split": "train", "images": 5, "metrics": ["relative_error", "linear_cka"]},
        seed=0,
        **outputs,
    )
    measure_to_files(job, COMPUTE, threads=1)
    accuracy, distances, images, predictions = (
        pd.read_csv(path, keep_default_na=False, na_values=[""]) for path in outputs.values()
    )
    for frame in (accuracy, distances):
        assert list(frame)[:3] == ["classifier", "adversarial_set", "denoiser"]
        assert names_of(frame, "classifier", "adversarial_set") == [["small", "fgsm"]]
    assert names_of(accuracy, "denoiser", "split", "n_images") == [
        [condition, split, N_IMAGES[split]] for condition, split in conditions
    ]
    errors = distances[distances["position"] == 1].set_index("denoiser")["relative_error_mean"]
    assert errors["none"] > errors["unet"] > 0
    assert len(images) == len(distances) * 5
    assert names_of(predictions, "denoiser") == [["none"], ["unet"]]
    for column in ("logits_along_share", "logits_norm_change", "logits_angle"):
        assert predictions[column].notna().all()
    assert len(set(images["index"])) == 5 and set(predictions["index"]) == set(images["index"])


def test_what_a_classifier_makes_of_changed_maps(folder, conditions, tmp_path):
    job = InterventionJob(
        classifier="small",
        adversarial_set="fgsm",
        checkpoint=str(folder / "checkpoint.pt"),
        data=str(folder / "train.h5"),
        conditions={condition: conditions[condition, "train"] for condition in CONDITIONS},
        settings={"images": 3, "fractions": [1.0]},
        seed=0,
        summary=str(tmp_path / "fgsm.csv"),
        per_image=str(tmp_path / "fgsm_images.csv.gz"),
    )
    intervene_to_files(job, COMPUTE, threads=1)
    summary, per_image = (pd.read_csv(path, keep_default_na=False) for path in (job.summary, job.per_image))
    assert list(summary)[:4] == ["classifier", "adversarial_set", "denoiser", "position"]
    assert names_of(summary, "classifier", "adversarial_set", "n_images") == [["small", "fgsm", 3]]
    assert names_of(summary, "denoiser") == [["none"], ["unet"]]
    assert len(per_image) == 3 * len(summary)
    assert len(open_images(job.data)) == 6 and per_image["index"].isin(range(6)).all()
