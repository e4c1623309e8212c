from itertools import product

import numpy as np
import pandas as pd
import pytest
import scipy.stats

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
    """Its mean; images scatter by 0.1 around it."""
    if name in CONTROLS:
        return 0.6 if name == "sign" else 0.3
    if name == "second":
        return 0.5
    return 0.7 if (classifier == "mine") == (condition == "none") else 0.3


def predictions() -> pd.DataFrame:
    """Image 3 of `attack` is not perturbed: its logits do not count."""
    rng = np.random.default_rng(1)
    frames = []
    for classifier, name, condition in product(CLASSIFIERS, SETS, CONDITIONS):
        index = np.arange(N_IMAGES)
        scatter = rng.permutation(np.resize([-0.1, 0.1], N_IMAGES))
        unchanged = (index == 3) & (name == "attack")
        frame = {
            "classifier": classifier,
            "adversarial_set": name,
            "denoiser": condition,
            "index": index,
            "logits_along_share": np.where(unchanged, np.nan, along_share(classifier, name, condition) + scatter),
            "logits_norm_change": np.where(unchanged, 9, -0.25 if name == "attack" else 0.05),
            "logits_angle": np.where(unchanged, 99, 30.0 if name == "attack" else 10),
            "margin_clean": np.where(unchanged, 77, 4.0),
            "margin": np.where(unchanged, -77, 1.0 if name == "attack" else 3.5),
        }
        frames.append(pd.DataFrame(frame).sample(frac=1, random_state=rng))
    return pd.concat(frames)


def trainings(n_trainings: int, n_images: int = 12) -> pd.DataFrame:
    """One network in several trainings: random values of one set and its control; some change nothing in some."""
    rng = np.random.default_rng(n_trainings)
    columns = ["logits_along_share", "logits_norm_change", "logits_angle", "margin_clean", "margin"]
    rows = []
    for replicate, name, index in product(range(n_trainings), ["attack", "sign"], range(n_images)):
        keys = {"classifier": "mine", "adversarial_set": name, "denoiser": "none", "index": 10 * index}
        values = dict(zip(columns, rng.uniform(size=5) + 0.2 * replicate, strict=True))
        if rng.random() < 0.1:
            values["logits_along_share"] = np.nan
        rows.append({**keys, **values, "replicate": replicate})
    return pd.DataFrame(rows).sample(frac=1, random_state=rng)


def planes() -> pd.DataFrame:
    return decision_planes(predictions(), CLASSIFIERS, SETS, ["unet"], CONTROLS)


def rows_of(table: pd.DataFrame, perturbation: str, **keys: str) -> pd.DataFrame:
    chosen = table["perturbation"] == perturbation
    for column, value in keys.items():
        chosen &= table[column] == value
    return table[chosen]


def test_noise_stands_first_and_each_difference_after_its_adversary() -> None:
    table = planes()
    of_network = [
        *product(["noise"], ["attack"], CONTROLS, CONDITIONS),
        *(
            (what, "attack", control, condition)
            for condition in CONDITIONS
            for what, control in [("adversary", ""), *product(["adversary minus noise"], CONTROLS)]
        ),
        *product(["adversary"], ["second"], [""], CONDITIONS),
    ]
    keys = table[["classifier", "perturbation", "adversarial_set", "control", "denoiser"]].fillna("")
    assert [*keys.itertuples(index=False, name=None)] == [
        (classifier, *line) for classifier in CLASSIFIERS for line in of_network
    ]
    assert set(table["interval_covers"]) == {"images of one training"}


def test_planes_of_the_network_and_of_the_adversary() -> None:
    table = planes()
    attack = rows_of(table, "adversary", adversarial_set="attack")
    assert attack["n_images"].tolist() == [49] * 4
    assert attack["along_share_mean"].tolist() == pytest.approx([0.3, 0.7, 0.7, 0.3], abs=0.01)
    assert attack["verdict"].tolist() == ["radial", "tangential", "tangential", "radial"]
    second = rows_of(table, "adversary", adversarial_set="second")
    assert second["n_images"].tolist() == [50] * 4
    assert second["verdict"].tolist() == ["undecided"] * 4
    assert rows_of(table, "noise", control="sign")["verdict"].tolist() == ["tangential"] * 4
    assert rows_of(table, "noise", control="gaussian")["verdict"].tolist() == ["radial"] * 4
    assert table["verdict_paper"].fillna("").tolist() == ["radial"] * 12 + [""] * 12
    means = {"norm_change": (-0.25, 0.05), "angle": (30, 10), "margin_clean": (4, 4), "margin_change": (-3, -0.5)}
    for quantity, (of_attack, of_noise) in means.items():
        for part in ("mean", "ci_low", "ci_high"):
            assert attack[f"{quantity}_{part}"].tolist() == pytest.approx([of_attack] * 4)
            assert rows_of(table, "noise")[f"{quantity}_{part}"].tolist() == pytest.approx([of_noise] * 8)
    # The scatter's standard deviation is 0.1.
    half_widths = (second["along_share_ci_high"] - second["along_share_ci_low"]) / 2
    assert half_widths.tolist() == pytest.approx([2.01 * 0.1 / N_IMAGES**0.5] * 4, rel=0.1)


def test_what_only_the_adversary_gets() -> None:
    difference = rows_of(planes(), "adversary minus noise")
    assert difference["n_images"].tolist() == [49] * 8
    assert difference["along_share_mean"].tolist() == pytest.approx([-0.3, 0, 0.1, 0.4, 0.1, 0.4, -0.3, 0], abs=0.01)
    verdicts = ["more radial", "undecided", *["more tangential"] * 4, "more radial", "undecided"]
    assert difference["verdict"].tolist() == verdicts
    for quantity, value in [("norm_change", -0.3), ("angle", 20), ("margin_change", -2.5)]:
        assert difference[f"{quantity}_mean"].tolist() == pytest.approx([value] * 8)
    assert difference[["margin_clean_mean", "margin_clean_ci_low", "margin_clean_ci_high"]].isna().all(axis=None)


def test_a_difference_is_paired_image_by_image() -> None:
    """Images that scatter by 0.4 in the same way: their difference is known to a hundredth of that."""
    rng = np.random.default_rng(0)
    common = rng.uniform(0.1, 0.9, N_IMAGES)
    frame = predictions().query("classifier == 'mine' and denoiser == 'none'").sort_values("index")
    for name, shift in [("attack", 0.01), ("sign", 0.0)]:
        chosen = frame["adversarial_set"] == name
        frame.loc[chosen, "logits_along_share"] = common + shift + rng.normal(0, 0.004, N_IMAGES)
    table = decision_planes(frame, ["mine"], ["attack", "sign"], [], {"sign": "attack"})
    assert table["verdict"].tolist() == ["undecided", "undecided", "more tangential"]
    # Rows of files in any order are the same images.
    mixed = decision_planes(
        frame.sample(frac=1, random_state=rng), ["mine"], ["attack", "sign"], [], {"sign": "attack"}
    )
    pd.testing.assert_frame_equal(mixed, table)


@pytest.mark.parametrize("n_trainings", [1, 2, 3])
def test_several_trainings_against_loops(n_trainings: int) -> None:
    """Means and intervals in the words of results/bootstrap.py; a change of nothing counts in no quantity."""
    frame, n_images = trainings(n_trainings), 12
    table = decision_planes(frame, ["mine"], ["attack", "sign"], [], {"sign": "attack"})
    covers = "images of one training" if n_trainings == 1 else f"{n_trainings} trainings and images"
    assert set(table["interval_covers"]) == {covers}

    def value(name: str, replicate: int, index: int, quantity: str) -> float:
        keys = {"adversarial_set": name, "replicate": replicate, "index": index}
        (row,) = [row for row in frame.to_dict("records") if all(row[key] == keys[key] for key in keys)]
        if np.isnan(row["logits_along_share"]):
            return np.nan
        if quantity == "margin_change":
            return row["margin"] - row["margin_clean"]
        return row[quantity if quantity == "margin_clean" else f"logits_{quantity}"]

    draws = np.random.default_rng(0).integers(n_images, size=(2000, n_images))
    for quantity, row in product(["along_share", "norm_change", "angle", "margin_change"], table.to_dict("records")):
        names = {"noise": ["sign"], "adversary": ["attack"]}.get(row["perturbation"], ["attack", "sign"])
        values = np.empty((n_trainings, n_images))
        for replicate, image in product(range(n_trainings), range(n_images)):
            first, *second = (value(name, replicate, 10 * image, quantity) for name in names)
            values[replicate, image] = first - sum(second)
        known = [image for image in range(n_images) if any(np.isfinite(values[:, image]))]
        assert row["n_images"] == len(known)
        means = [np.nanmean(of_training) for of_training in values]
        drawn = np.array([[np.nanmean(of_training[draw]) for of_training in values] for draw in draws])
        variance, half = drawn.mean(axis=1).var(), 0.0
        if n_trainings > 1:
            own = sum((drawn[:, one] - drawn.mean(axis=1)).var() for one in range(n_trainings)) / (n_trainings - 1)
            variance = max(0, variance - own / n_trainings)
            half = scipy.stats.t.ppf(0.975, n_trainings - 1) ** 2 * np.var(means, ddof=1) / n_trainings
        half += scipy.stats.t.ppf(0.975, len(known) - 1) ** 2 * variance * len(known) / (len(known) - 1)
        mean = sum(means) / n_trainings
        found = [row[f"{quantity}_{part}"] for part in ("mean", "ci_low", "ci_high")]
        assert found == pytest.approx([mean, mean - half**0.5, mean + half**0.5]), (quantity, row["perturbation"])


def test_p_values_are_those_of_students_t_and_holm_s_correction_is_for_all_of_them() -> None:
    table = planes()
    for row in table.to_dict("records"):
        half = (row["along_share_ci_high"] - row["along_share_ci_low"]) / 2
        degrees = row["n_images"] - 1
        bound = 0 if row["perturbation"] == "adversary minus noise" else 0.5
        quantile = abs(row["along_share_mean"] - bound) / half * scipy.stats.t.ppf(0.975, degrees)
        assert row["p_value"] == pytest.approx(2 * scipy.stats.t.sf(quantile, degrees), rel=1e-6)
        assert (row["p_value"] < 0.05) == (row["verdict"] != "undecided")
    ordered = table.sort_values("p_value")
    largest = 0.0
    for rank, row in enumerate(ordered.to_dict("records")):
        largest = max(largest, min(1, (len(table) - rank) * row["p_value"]))
        assert row["p_holm"] == pytest.approx(largest)
        assert row["verdict_holm"] == (row["verdict"] if largest < 0.05 else "undecided")


def test_holm_takes_back_what_one_of_many_decides() -> None:
    frame = predictions()
    barely = (frame["adversarial_set"] == "second") & (frame["classifier"] == "mine") & (frame["denoiser"] == "none")
    frame.loc[barely, "logits_along_share"] += 0.033  # 2.3 standard errors
    table = decision_planes(frame, CLASSIFIERS, SETS, ["unet"], CONTROLS)
    row = rows_of(table, "adversary", adversarial_set="second", classifier="mine", denoiser="none").iloc[0]
    assert (row["verdict"], row["verdict_holm"]) == ("tangential", "undecided")
    assert row["p_value"] < 0.05 < row["p_holm"]
    text = decision_planes_table.TABLE.markdown(table, Labels())
    assert "| second | w/o DN | (tangential) |" in " ".join(text.split())
    decided = (table["verdict"] != "undecided").sum()
    assert f"Verdicts that could be: 24. Decided each by itself: {decided}; with Holm's" in text
    assert f"for all of them: {(table['verdict_holm'] != 'undecided').sum()}." in text


def test_an_interval_without_width_is_no_verdict() -> None:
    """Of two classes all that a change of the centred logits can do lies along them."""
    frame = predictions()
    frame["logits_along_share"] = np.where(frame["logits_along_share"].isna(), np.nan, 1.0)
    table = decision_planes(frame, ["mine"], SETS, [], CONTROLS)
    assert (table[["along_share_mean", "along_share_ci_low"]].iloc[0] == 1).all()
    assert set(table["verdict"]) == set(table["verdict_holm"]) == {"undecided"}
    assert table[["p_value", "p_holm"]].isna().all(axis=None)
    assert "Verdicts that could be: 0. Decided" in decision_planes_table.TABLE.markdown(table, Labels())


def test_decision_planes_markdown() -> None:
    caption, first, second = decision_planes_table.TABLE.markdown(planes(), Labels()).split("\n\n**")
    assert "which cover images of one training." in caption
    assert "1 / (n - 1)" in caption
    assert "Verdicts that could be: 24." in caption
    assert parse_markdown(caption) == [
        ["Classifier", "The paper", "Noise", "Adversaries", "Adversaries minus noise"],
        ["ResNet V2-50", "radial", "1 tangential, 1 radial", "1 radial, 1 undecided", "1 more radial, 1 undecided"],
        ["mine", "", "1 tangential, 1 radial", "1 tangential, 1 undecided", "2 more tangential"],
    ]
    assert first.startswith("ResNet V2-50**\n")
    assert second.startswith("mine**\n")
    head, *rows = parse_markdown(first)
    assert [row[:4] for row in rows[3:7]] == [
        ["noise: gaussian", "w/ UN", "radial", "50"],
        ["attack", "w/o DN", "radial", "49"],
        ["minus sign", "w/o DN", "more radial", "49"],
        ["minus gaussian", "w/o DN", "undecided", "49"],
    ]
    attack, difference = (dict(zip(head, row, strict=True)) for row in rows[4:6])
    assert attack["Along"].startswith("0.30 [0.27, 0.3")
    assert difference["Along"].startswith("-0.30 [-0.3")
    assert attack["Length (%)"] == "-25.0 [-25.0, -25.0]"
    assert difference["Angle (°)"] == "+20.0 [+20.0, +20.0]"
    assert (attack["Margin, clean"], difference["Margin, clean"]) == ("4.00", "")
    assert difference["Margin, change"] == "-2.50 [-2.50, -2.50]"


def test_labels_of_the_study_stand_in_place_of_the_names() -> None:
    labels = Labels(
        {"classifiers": {"mine": "Net"}, "adversarial_sets": {"sign": "Noise"}, "denoisers": {"unet": "Mine"}}
    )
    _, _, second = decision_planes_table.TABLE.markdown(planes(), labels).split("\n\n**")
    assert second.startswith("Net**\n")
    assert [row[:2] for row in parse_markdown(second)[1:7:2]] == [
        ["noise: Noise", "w/o DN"],
        ["noise: gaussian", "w/o DN"],
        ["attack", "w/o DN"],
    ]
    assert parse_markdown(second)[6][:2] == ["minus Noise", "w/o DN"]
    assert parse_markdown(second)[2][:2] == ["noise: Noise", "w/ Mine"]
    table = amplification(distances(), ["mine"], ["unet"], CONTROLS)
    _, only = amplification_table.TABLE.markdown(table, labels).split("\n\n**")
    assert only.startswith("Net**\n")
    assert [row[1:3] for row in parse_markdown(only)[1:3]] == [["Noise", "w/o DN"], ["Noise", "w/ Mine"]]


def test_a_study_without_controls_says_that_nothing_is_compared() -> None:
    table = decision_planes(predictions(), ["mine"], ["attack", "second"], ["unet"], {})
    assert set(table["perturbation"]) == {"adversary"}
    assert table["control"].isna().all()
    text = decision_planes_table.TABLE.markdown(table, Labels())
    assert "\n\nNothing is compared: " in text
    assert "Nothing is compared" not in decision_planes_table.TABLE.markdown(planes(), Labels())
    # Of one classifier that the paper does not have.
    assert "| Classifier | Adversaries |" in " ".join(text.split())


def test_a_set_that_changes_nothing_has_no_plane() -> None:
    frame = predictions()
    frame.loc[frame["adversarial_set"] == "second", "logits_along_share"] = np.nan
    row = decision_planes(frame, ["mine"], ["second"], [], {}).iloc[0]
    assert row["n_images"] == 0
    assert np.isnan(row["margin_change_mean"]) and np.isnan(row["p_value"])
    assert row["verdict"] == "undecided"


def test_decision_planes_name_what_is_missing() -> None:
    frame = predictions()
    with pytest.raises(MissingResultError, match=r"predictions/other/\*\.csv\.gz has no row with classifier=other"):
        decision_planes(frame, ["other"], SETS, ["unet"], CONTROLS)
    with pytest.raises(MissingResultError, match=r"has no column logits_angle"):
        decision_planes(frame.drop(columns="logits_angle"), CLASSIFIERS, SETS, ["unet"], CONTROLS)
    with pytest.raises(MissingResultError, match=r"predictions/mine/sign\.csv\.gz has no row .*fusionnet"):
        decision_planes(frame, ["mine"], SETS, ["fusionnet"], CONTROLS)
    with pytest.raises(MissingResultError, match=r"predictions/mine/attack\.csv\.gz has no row .*none"):
        decision_planes(frame[frame["adversarial_set"] != "attack"], ["mine"], SETS, [], CONTROLS)


def distances() -> pd.DataFrame:
    """Rows of images at three layers; image 3 of `attack` is not perturbed."""
    index = np.arange(N_IMAGES)
    frames = []
    for classifier, name, condition, position in product(CLASSIFIERS, SETS, CONDITIONS, (1, 2, 3)):
        keys = {"classifier": classifier, "adversarial_set": name, "denoiser": condition, "position": position}
        errors = np.where((index == 3) & (name == "attack"), 0, position if name == "attack" else 1) * (1 + index)
        frames.append(pd.DataFrame({**keys, "index": index, "relative_error": errors}))
    return pd.concat(frames).sample(frac=1, random_state=1)


def test_amplification_is_the_ratio_on_the_same_images() -> None:
    table = amplification(distances(), CLASSIFIERS, ["unet"], CONTROLS)
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
    frame = distances()
    frame.loc[(frame["adversarial_set"] == "attack") & (frame["position"] == 2), "relative_error"] *= 5
    table = amplification(frame, CLASSIFIERS, ["unet"], CONTROLS)
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
    frame = distances().astype({"relative_error": float})
    sign = (frame["adversarial_set"] == "sign") & (frame["position"] == 1)
    frame.loc[sign & (frame["index"] == 5), "relative_error"] = np.inf
    frame.loc[sign & (frame["index"] == 6), "relative_error"] = np.nan
    table = amplification(frame, ["mine"], [], {"sign": "attack"})
    assert table["n_images"].tolist() == [47, 49, 49]
    assert table["amplification"].tolist() == pytest.approx([1, 2, 3])


def test_three_significant_of_small_numbers() -> None:
    assert three_significant(0.000123) == "0.000123"
