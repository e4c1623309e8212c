"""What the study counts and averages, and its tables, against loops over the images of its files."""

from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from perturbflow.tables.table1 import table1
from tests.reference.attacks import Adversary
from tests.reference.comparison import LOGIT_ROUNDING, read_csv
from tests.reference.metrics import relative_error
from tests.reference.networks import Classifier, read_classifier, read_column, read_images
from tests.reference.tables import (
    accuracy,
    amplification,
    mean_squared_error,
    n_close,
    n_layers,
    n_parameters,
    squared_error,
    success,
)
from tests.workflow.study import Study

pytestmark = pytest.mark.workflow

SETS, SPLITS = ["fgsm", "ifgsm", "noise"], ["train", "val"]
TABLE1 = {"classifier": "resnetv2_50", "denoiser": "unet"}
SIX_DIGITS = {"rel": 1e-5, "abs": 1e-12, "nan_ok": True}
"""Tables are written with six digits."""


@pytest.fixture(scope="module")
def results(finished_study: Study) -> Path:
    return finished_study.folder / "results/tiny"


@cache
def images_of(path: Path) -> list:
    return read_images(path)


@cache
def classifier_of(path: Path) -> Classifier:
    return read_classifier(path / "checkpoint.pt")


def set_of(results: Path, name: str, denoiser: str, split: str) -> list:
    """The images of a set under a condition."""
    return images_of(
        results / (f"adversarial/{name}" if denoiser == "none" else f"denoised/{denoiser}/{name}") / f"{split}.h5"
    )


def rows_of(path: Path, *keys: str) -> pd.DataFrame:
    """A CSV file by its keys."""
    return read_csv(path).set_index([*keys]).sort_index()


def accuracy_of(results: Path, classifier: str, images: list, split: str) -> "pytest.approx":
    """The reference's accuracy, give or take the images over which rounding decides."""
    network, labels = (
        classifier_of(results / f"classifiers/{classifier}"),
        read_column(results / f"data/{split}.h5", "label"),
    )
    close = n_close(network, images, labels, LOGIT_ROUNDING)
    assert close <= 2
    return pytest.approx(accuracy(network, images, labels), abs=close / len(images) + 1e-5)


@pytest.mark.parametrize("name", SETS)
def test_accuracies_on_a_set(results: Path, name: str) -> None:
    rows = rows_of(results / f"accuracy/resnetv2_50/{name}.csv", "denoiser", "split")
    assert [*rows.index] == [(denoiser, split) for denoiser in ("none", "unet") for split in SPLITS]
    for (denoiser, split), row in rows.iterrows():
        images = set_of(results, name, denoiser, split)
        assert row["n_images"] == len(images)
        assert row["top1"] == accuracy_of(results, "resnetv2_50", images, split)


@pytest.mark.parametrize("name", ["resnet18", "resnetv2_50"])
def test_accuracies_on_clean_images_and_capacity(results: Path, name: str) -> None:
    network = classifier_of(results / f"classifiers/{name}").network
    rows = rows_of(results / f"classifiers/{name}/accuracy.csv", "split")
    assert [*rows.index] == SPLITS
    for split, row in rows.iterrows():
        images = images_of(results / f"data/{split}.h5")
        assert row["top1"] == accuracy_of(results, name, images, split)
        assert row["n_images"] == len(images) and row["n_classes"] == 2
        assert row["n_parameters"] == n_parameters(network) and row["n_layers"] == n_layers(network)


@pytest.mark.parametrize("name", SETS)
def test_squared_errors(results: Path, name: str) -> None:
    means = rows_of(results / f"mse/{name}.csv", "denoiser", "split")
    of_images = rows_of(results / f"mse/{name}_images.csv.gz", "denoiser", "split", "index")
    assert len(means) == 4
    for (denoiser, split), row in means.iterrows():
        clean = images_of(results / f"data/{split}.h5")
        errors = [squared_error(*pair) for pair in zip(set_of(results, name, denoiser, split), clean, strict=True)]
        assert of_images.loc[(denoiser, split)]["mse_px2"].tolist() == pytest.approx(errors, rel=1e-12)
        expected = mean_squared_error(set_of(results, name, denoiser, split), clean)
        assert row["mse_px2"] == pytest.approx(expected, rel=1e-12) and row["n_images"] == len(clean)


@pytest.mark.parametrize("name", SETS)
def test_what_came_of_an_attack(results: Path, name: str) -> None:
    rows = rows_of(results / f"adversarial/{name}.csv", "split")
    table = rows_of(results / "tables/attacks.csv", "adversarial_set", "split")
    for split in SPLITS:
        path = results / f"adversarial/{name}/{split}.h5"
        columns = [read_column(path, column) for column in ("steps", "succeeded", "already_misclassified")]
        adversaries = [Adversary(*values) for values in zip(images_of(path), *columns, strict=True)]
        expected = success(adversaries, images_of(results / f"data/{split}.h5"), asked=name == "fgsm")
        if name == "noise":  # is no attack
            expected |= {"n_fooled": np.nan, "steps_mean": np.nan}
        found = {column: rows.loc[split][column] for column in expected}
        assert found == pytest.approx(expected, rel=1e-9, nan_ok=True)
        found = {column: table.loc[(name, split)][column] for column in expected}
        assert found == pytest.approx(expected, **SIX_DIGITS)


@pytest.mark.parametrize("name", SETS)
def test_tables_1_4_and_5(results: Path, name: str) -> None:
    """Table 1 is of the validation split, Tables 4 and 5 of the training split.

    On the few validation images the denoiser changes no accuracy: Table 1 is made of the training split as well.
    """
    files = {
        "mse": read_csv(results / f"mse/{name}.csv"),
        "accuracy": read_csv(results / f"accuracy/resnetv2_50/{name}.csv"),
    }
    of_train = table1(
        **files, paper=pd.DataFrame(), adversarial_sets=[name], **TABLE1, architecture="", split="train"
    ).iloc[0]
    of_val = rows_of(results / "tables/table1.csv", "adversarial_set").loc[name]
    table4 = rows_of(results / "tables/table4.csv", "adversarial_set", "denoiser")
    table5 = rows_of(results / "tables/table5.csv", "adversarial_set", "classifier", "denoiser")
    for denoiser, column in (("none", "adversarial"), ("unet", "denoised")):
        for split, row in (("train", of_train), ("val", of_val)):
            images, clean = set_of(results, name, denoiser, split), images_of(results / f"data/{split}.h5")
            error = pytest.approx(mean_squared_error(images, clean), **SIX_DIGITS)
            top1 = accuracy_of(results, "resnetv2_50", images, split)
            assert row[f"mse_{column}_px2"] == error
            assert row[f"top1_{column}_pct"] / 100 == top1
            if split == "train":
                assert table4.loc[(name, denoiser)]["mse_train_px2"] == error
                assert table5.loc[(name, "resnetv2_50", denoiser)]["top1_train_pct"] / 100 == top1


def test_tables_2_and_3(results: Path) -> None:
    clean = {split: images_of(results / f"data/{split}.h5") for split in SPLITS}
    table2 = rows_of(results / "tables/table2.csv", "adversarial_set")
    for column in ("attacker", "stopping_classifier"):
        assert table2.loc["fgsm"][f"{column}_top1_val_pct"] / 100 == accuracy_of(
            results, "resnet18", clean["val"], "val"
        )
    table3 = rows_of(results / "tables/table3.csv", "classifier").loc["resnetv2_50"]
    for split in SPLITS:
        assert table3[f"top1_{split}_pct"] / 100 == accuracy_of(results, "resnetv2_50", clean[split], split)
    network = classifier_of(results / "classifiers/resnetv2_50").network
    assert table3["n_layers"] == n_layers(network)
    assert table3["n_parameters_millions"] == pytest.approx(n_parameters(network) / 1e6, **SIX_DIGITS)


@pytest.mark.parametrize("denoiser", ["none", "unet"])
def test_amplification(results: Path, denoiser: str) -> None:
    classifier = classifier_of(results / "classifiers/resnetv2_50")
    clean = images_of(results / "data/train.h5")
    measured = rows_of(results / "predictions/resnetv2_50/fgsm.csv.gz", "denoiser").loc[denoiser]["index"].tolist()
    maps = {
        name: [classifier.maps(images[image]) for image in measured]
        for name, images in {
            "clean": clean,
            **{name: set_of(results, name, denoiser, "train") for name in SETS},
        }.items()
    }
    table = rows_of(results / "tables/amplification.csv", "denoiser", "position").loc[denoiser]
    assert len(table) == len(classifier.feature_maps)
    for layer in range(len(table)):
        errors = {
            name: [relative_error(c[layer], o[layer]) for c, o in zip(maps["clean"], maps[name], strict=True)]
            for name in ("fgsm", "noise")
        }
        expected = amplification(errors["fgsm"], errors["noise"])
        row = table.loc[layer + 1]
        assert (row["control"], row["adversarial_set"]) == ("noise", "fgsm")
        # Relative errors at the logits are known to about 1e-4, as they are small beside what they are summed from.
        assert {name: row[name] for name in expected} == pytest.approx(expected, rel=1e-3), layer
