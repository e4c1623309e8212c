from itertools import product

import numpy as np
import pandas as pd
import pytest

from perturbflow.results.reading import MissingResultError
from perturbflow.tables import amplification as amplification_table
from perturbflow.tables import decision_planes as decision_planes_table
from perturbflow.tables.amplification import amplification
from perturbflow.tables.decision_planes import decision_planes
from perturbflow.tables.markdown import three_significant
from perturbflow.vocabulary import Labels
from tests.unit.tables.test_paper import parse_markdown

CONTROLS = {"sign": "attack", "gaussian": "attack"}
CLASSIFIERS = ["resnetv2_50", "mine"]
SETS = ["attack", "second", "sign", "gaussian"]
CONDITIONS = ["none", "unet"]
N_IMAGES = 50


def along_share(classifier: str, name: str, condition: str) -> float:
    """Its mean; images scatter by at most 0.1 around it."""
    if name in CONTROLS:
        return 0.1 if name == "sign" else 0.2
    if name == "second":
        return 0.5
    return 0.7 if (classifier == "mine") == (condition == "none") else 0.3


def images() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Frames of distances and predictions; image 3 of `attack` is not perturbed, its logits do not count."""
    rng = np.random.default_rng(1)
    distances, predictions = [], []
    for classifier, name, condition in product(CLASSIFIERS, SETS, CONDITIONS):
        keys = {"classifier": classifier, "adversarial_set": name, "denoiser": condition, "index": np.arange(N_IMAGES)}
        scatter = np.resize([-0.1, 0.1], N_IMAGES)
        unchanged = (keys["index"] == 3) & (name == "attack")
        distances.extend(
            pd.DataFrame(
                {
                    **keys,
                    "position": position,
                    "relative_error": np.where(unchanged, 0, position if name == "attack" else 1) * (1 + keys["index"]),
                    "along_share": np.where(unchanged, np.nan, along_share(classifier, name, condition) + scatter)
                    if position == 3
                    else 0.0,
                    "norm_change": np.where(unchanged, 9, -0.25),
                    "angle": np.where(unchanged, 99, 30.0),
                }
            )
            for position in (1, 2, 3)
        )
        predictions.append(
            pd.DataFrame(
                {**keys, "margin_clean": np.where(unchanged, 77, 4.0), "margin": np.where(unchanged, -77, 1.0)}
            ).sample(frac=1, random_state=rng)
        )
    return pd.concat(distances).sample(frac=1, random_state=rng), pd.concat(predictions)


def planes() -> pd.DataFrame:
    return decision_planes(*images(), CLASSIFIERS, SETS, ["unet"], CONTROLS)


def test_decision_planes_values() -> None:
    table = planes()
    assert list(zip(table["classifier"], table["adversarial_set"], table["denoiser"], strict=True)) == list(
        product(CLASSIFIERS, ["attack", "second"], CONDITIONS)
    )
    attack = table[table["adversarial_set"] == "attack"]
    assert attack["n_images"].tolist() == [49] * 4
    assert attack["along_share_mean"].tolist() == pytest.approx([0.3, 0.7, 0.7, 0.3], abs=0.01)
    assert attack["verdict"].tolist() == ["radial", "tangential", "tangential", "radial"]
    assert attack["along_share_controls_mean"].tolist() == pytest.approx([0.15] * 4)
    second = table[table["adversarial_set"] == "second"]
    assert second["n_images"].tolist() == [50] * 4
    assert second["verdict"].tolist() == ["undecided"] * 4
    assert second["along_share_controls_mean"].isna().all()
    assert table["verdict_paper"].fillna("").tolist() == ["radial"] * 4 + [""] * 4
    for quantity, value in [("norm_change", -0.25), ("angle", 30), ("margin_clean", 4), ("margin_change", -3)]:
        for part in ("mean", "ci_low", "ci_high"):
            assert table[f"{quantity}_{part}"].tolist() == pytest.approx([value] * 8)
    # The scatter's standard deviation is 0.1.
    half_widths = (second["along_share_ci_high"] - second["along_share_ci_low"]) / 2
    assert half_widths.tolist() == pytest.approx([1.96 * 0.1 / N_IMAGES**0.5] * 4, rel=0.1)


def test_decision_planes_markdown() -> None:
    text = decision_planes_table.TABLE.markdown(planes(), Labels())
    _, first, second = text.split("\n\n**")
    assert first.startswith("ResNet V2-50** (the paper: radial)\n")
    assert second.startswith("mine**\n")
    head, *rows = parse_markdown(first)
    assert head[:4] == ["Adversarial set", "Condition", "Plane", "Images"]
    row = dict(zip(head, rows[0], strict=True))
    assert [row[name] for name in head[:4]] == ["attack", "w/o DN", "radial", "49"]
    assert row["Along"].startswith("0.30 [0.27, 0.3")
    assert row["Noise"] == "0.15"
    assert row["Length (%)"] == "-25.0 [-25.0, -25.0]"
    assert row["Margin, clean"] == "4.00"
    assert row["Margin, change"] == "-3.00 [-3.00, -3.00]"
    assert dict(zip(head, rows[2], strict=True))["Noise"] == ""


def test_labels_of_the_study_stand_in_place_of_the_names() -> None:
    labels = Labels(
        {"classifiers": {"mine": "Net"}, "adversarial_sets": {"sign": "Noise"}, "denoisers": {"unet": "Mine"}}
    )
    _, _, second = decision_planes_table.TABLE.markdown(planes(), labels).split("\n\n**")
    assert second.startswith("Net**\n")
    assert [row[1] for row in parse_markdown(second)[1:3]] == ["w/o DN", "w/ Mine"]
    table = amplification(images()[0], ["mine"], ["unet"], CONTROLS)
    _, only = amplification_table.TABLE.markdown(table, labels).split("\n\n**")
    assert only.startswith("Net**\n")
    assert [row[1:3] for row in parse_markdown(only)[1:3]] == [["Noise", "w/o DN"], ["Noise", "w/ Mine"]]


def test_decision_planes_without_controls_or_changes() -> None:
    distances, predictions = images()
    distances.loc[distances["adversarial_set"] == "second", ["along_share"]] = np.nan
    table = decision_planes(distances, predictions, ["mine"], ["second"], [], {})
    row = table.iloc[0]
    assert row["n_images"] == 0
    assert np.isnan(row["margin_change_mean"])
    assert row["verdict"] == "undecided"
    assert "Noise" not in decision_planes_table.TABLE.markdown(table, Labels()).split("\n\n")[-1]


def test_decision_planes_name_what_is_missing() -> None:
    distances, predictions = images()
    with pytest.raises(
        MissingResultError, match=r"distances/other/\*_images\.csv\.gz has no row with classifier=other"
    ):
        decision_planes(distances, predictions, ["other"], SETS, ["unet"], CONTROLS)
    with pytest.raises(MissingResultError, match=r"has no column angle"):
        decision_planes(distances.drop(columns="angle"), predictions, CLASSIFIERS, SETS, ["unet"], CONTROLS)
    with pytest.raises(MissingResultError, match=r"distances/mine/attack_images\.csv\.gz has no row .*fusionnet"):
        decision_planes(distances, predictions, ["mine"], SETS, ["fusionnet"], CONTROLS)
    some = predictions[(predictions["index"] != 5) | (predictions["adversarial_set"] != "second")]
    with pytest.raises(MissingResultError, match=r"predictions/mine/second\.csv\.gz has no margin of image 5"):
        decision_planes(distances, some, ["mine"], SETS, ["unet"], CONTROLS)


def test_amplification_is_the_ratio_on_the_same_images() -> None:
    distances, _ = images()
    table = amplification(distances, CLASSIFIERS, ["unet"], CONTROLS)
    assert list(zip(*(table[name] for name in ("classifier", "control", "denoiser", "position")), strict=True)) == list(
        product(CLASSIFIERS, CONTROLS, CONDITIONS, [1, 2, 3])
    )
    assert set(table["adversarial_set"]) == {"attack"}
    assert table["n_images"].unique().tolist() == [49]
    for part in ("", "_ci_low", "_ci_high"):
        assert table[f"amplification{part}"].tolist() == pytest.approx([1, 2, 3] * 8)
    mean = np.delete(1 + np.arange(N_IMAGES), 3).mean()
    assert table["relative_error_mean"].tolist() == pytest.approx([mean, 2 * mean, 3 * mean] * 8)
    assert table["relative_error_control_mean"].tolist() == pytest.approx([mean] * 24)


def test_amplification_is_a_geometric_mean_with_its_interval() -> None:
    rng = np.random.default_rng(0)
    ratios = np.exp(rng.normal(0.5, 0.3, 400))
    frame = pd.concat(
        pd.DataFrame(
            {
                "classifier": "c",
                "adversarial_set": name,
                "denoiser": "none",
                "position": 1,
                "index": np.arange(400),
                "relative_error": errors,
            }
        )
        for name, errors in [("attack", 7 * ratios), ("sign", np.full(400, 7.0))]
    )
    row = amplification(frame, ["c"], [], {"sign": "attack"}).iloc[0]
    logs = np.log(ratios)
    half = 1.96 * logs.std() / 20
    assert row["amplification"] == pytest.approx(np.exp(logs.mean()))
    assert row["amplification_ci_low"] == pytest.approx(np.exp(logs.mean() - half), rel=0.01)
    assert row["amplification_ci_high"] == pytest.approx(np.exp(logs.mean() + half), rel=0.01)


def test_amplification_markdown() -> None:
    distances, _ = images()
    distances.loc[(distances["adversarial_set"] == "attack") & (distances["position"] == 2), "relative_error"] *= 5
    table = amplification(distances, CLASSIFIERS, ["unet"], CONTROLS)
    table.loc[table["denoiser"] == "unet", ["amplification", "amplification_ci_low", "amplification_ci_high"]] = np.nan
    _, first, second = amplification_table.TABLE.markdown(table, Labels()).split("\n\n**")
    assert first.startswith("ResNet V2-50**")
    assert parse_markdown(second) == [
        ["Adversarial set", "Control", "Condition", "First", "Largest", "Before the logits", "Logits"],
        *(
            ["attack", control, condition, *cells]
            for control in ("sign", "gaussian")
            for condition, cells in [
                (
                    "w/o DN",
                    ["1.00 [1.00, 1.00]", "10.0 [10.0, 10.0] at 2", "10.0 [10.0, 10.0]", "3.00 [3.00, 3.00]"],
                ),
                ("w/ UN", ["", "", "", ""]),
            ]
        ),
    ]


def test_amplification_leaves_out_undefined_errors() -> None:
    distances, _ = images()
    distances["relative_error"] = distances["relative_error"].astype(float)
    sign = (distances["adversarial_set"] == "sign") & (distances["position"] == 1)
    distances.loc[sign & (distances["index"] == 5), "relative_error"] = np.inf
    distances.loc[sign & (distances["index"] == 6), "relative_error"] = np.nan
    table = amplification(distances, ["mine"], [], {"sign": "attack"})
    assert table["n_images"].tolist() == [47, 49, 49]
    assert table["amplification"].tolist() == pytest.approx([1, 2, 3])


def test_three_significant_of_small_numbers() -> None:
    assert three_significant(0.000123) == "0.000123"
