"""What a study's numbers should not be read without."""

import pandas as pd
import pytest

from perturbflow.results.warnings import of_classifiers, of_data, of_distances, of_sets, write_warnings


def texts(warnings):
    return [(one.about, one.name, one.text) for one in warnings]


def accuracy(train, val, n_classes=10, n_images=100):
    rows = [("train", train), ("val", val)]
    return pd.DataFrame(
        [
            {"classifier": "c", "split": split, "top1": top1, "n_images": n_images, "n_classes": n_classes}
            for split, top1 in rows
            if top1 is not None
        ]
    )


def test_a_classifier_below_its_target():
    assert texts(of_classifiers(accuracy(0.9, 0.6), {"c": 0.95})) == [
        ("classifier", "c", "reached 90.0% on the training images, below its target of 95.0%")
    ]
    assert texts(of_classifiers(accuracy(0.95, 0.6), {"c": 0.95})) == []
    assert texts(of_classifiers(accuracy(0.9, 0.6), {"c": None})) == []


@pytest.mark.parametrize(("val", "n_images", "told"), [(0.0, 100, True), (0.12, 100, True), (0.3, 100, False)])
def test_a_classifier_that_guesses(val, n_images, told):
    found = texts(of_classifiers(accuracy(None, val, n_images=n_images), {"c": None}))
    assert bool(found) == told
    if told:
        assert (
            f"gets {100 * val:.1f}% of the clean val images right, no more than guessing among 10 classes"
            in found[0][2]
        )


def attacks(**row):
    defaults = {"adversarial_set": "a", "split": "val", "n_images": 50, "n_wrong_before": 10, "l2_max": 3.0}
    return pd.DataFrame([{**defaults, **row}]).astype({"n_wrong_before": "Int64", "n_fooled": "Int64"})


@pytest.mark.parametrize(
    ("row", "text"),
    [
        ({"n_fooled": 4}, None),
        ({"n_fooled": 3}, "fooled 3 of the 40 val images"),
        ({"n_fooled": 0}, "fooled none of the 40 val images"),
        ({"n_fooled": 0, "l2_max": 0.0}, "fooled none of the 40 val images, and changed none"),
        ({"n_fooled": 0, "n_wrong_before": None}, "fooled none of the 50 val images"),
        ({"n_fooled": None, "n_wrong_before": None}, None),
        (
            {"n_fooled": 20, "n_wrong_before": 26},
            "26 of 50 val images were wrong before the attack and are as they were",
        ),
    ],
)
def test_a_set_that_fooled_few(row, text):
    assert texts(of_sets(attacks(**row))) == ([("adversarial_set", "a", text)] if text else [])


def test_files_that_were_left_out_are_counted_and_named():
    rows = [("val", f"val/a/{n}.txt", "no picture") for n in range(5)] + [("train", "train/b/x.eps", "EPS")]
    assert texts(of_data(pd.DataFrame(rows, columns=["split", "file", "reason"]))) == [
        ("data", "val", "left out: val/a/0.txt, val/a/1.txt, val/a/2.txt and 2 more (no picture)"),
        ("data", "train", "left out: train/b/x.eps (EPS)"),
    ]
    assert texts(of_data(pd.DataFrame(columns=["split", "file", "reason"]))) == []


def test_metrics_that_are_defined_for_no_image():
    frame = pd.DataFrame(
        {
            "classifier": "c",
            "adversarial_set": "a",
            "denoiser": ["none", "none", "unet", "unet"],
            "module": ["stem", "fc", "stem", "fc"],
            "cosine_mean": [0.1, 0.2, None, None],
            "angle_mean": [1.0, None, 1.0, 1.0],
            "cosine_std": None,
        }
    )
    assert texts(of_distances(frame)) == [
        ("adversarial_set", "a", "angle is defined for no image in c: fc"),
        ("adversarial_set", "a", "cosine is defined for no image in c behind unet: all layers"),
    ]


def test_the_file_of_a_study_without_any(tmp_path):
    accuracy(1.0, 1.0).to_csv(tmp_path / "accuracy.csv", index=False)
    attacks(n_fooled=40).to_csv(tmp_path / "attacks.csv", index=False)
    for name, n_rows in {"attacks": 0, "few": 1}.items():
        attacks(n_fooled=40 if name == "attacks" else 1).to_csv(tmp_path / f"{name}.csv", index=False)
        files = {"accuracy": [str(tmp_path / "accuracy.csv")], "attacks": [str(tmp_path / f"{name}.csv")]}
        write_warnings(str(tmp_path / "warnings.csv"), {"c": 0.9}, **files)
        written = pd.read_csv(tmp_path / "warnings.csv")
        assert list(written) == ["about", "name", "warning"] and len(written) == n_rows
