from collections.abc import Callable
from itertools import pairwise, product
from math import inf, nan
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from perturbflow.results.bootstrap import N_RESAMPLES
from perturbflow.results.reading import read_results
from perturbflow.tables.claims.claim import CLAIMS, Region
from perturbflow.tables.claims.table import TABLE, claims
from perturbflow.vocabulary import (
    COSD,
    MODIFIED_CLASSIFIERS,
    NED,
    PAPER_CLASSIFIERS,
    PAPER_DENOISERS,
    PAPER_SETS,
    Labels,
)
from tests.unit.tables.test_paper import parse_markdown

ROOT = Path(__file__).parents[3]
PAPER = {f"paper{number}": read_results(str(ROOT / f"resources/paper/table{number}.csv")) for number in (3, 4, 5, 7)}
CLASSIFIERS = [*PAPER_CLASSIFIERS, *MODIFIED_CLASSIFIERS]
N_IMAGES = 60
CLEAN_ACCURACY = 0.95
Study = dict[str, Any]


def ned(classifier: str, name: str, condition: str, position: int) -> float:
    """As the paper has it: flat through the convolutions, then a jump."""
    at_logits = {"resnetv2_50": 5, "vgg19": 200, "densenet201_prelu": 10, "densenet201_conv": 22}
    value = at_logits.get(classifier, 20) if position == 4 else 1.1 - 0.1 * position
    value *= 2 if name in ("fgsm_v2", "ifgsm_v2") else 1
    return value if condition == "none" else value * (0.75 if classifier == "resnetv2_50" else 0.9)


def cosd(classifier: str, name: str, condition: str, position: int) -> float:
    """Growing through the convolutions, and from there but in two classifiers fading."""
    at_logits = {"resnetv2_50": 0.9, "densenet201_prelu": 0.8}
    value = at_logits.get(classifier, 0.1) if position == 4 else 0.2 * position
    return value if condition == "none" else value * (0.4 if position == 4 else 0.7)


def accuracy(classifier: str, name: str, condition: str) -> float:
    if condition == "none":
        return 0.3
    return 0.8 if classifier == "resnetv2_50" else 0.6


def mse(name: str, condition: str) -> float:
    if condition == "none":
        return 4
    return 8 if name == "fgsm_v1" else 2


def opposite_ned(classifier: str, name: str, condition: str, position: int) -> float:
    at_logits = {"resnetv2_50": 0.8, "vgg19": 0.1, "densenet201_prelu": 0.7, "densenet201_conv": 0.05}
    value = at_logits.get(classifier, 0.3) if position == 4 else 0.5 + 0.2 * position
    value *= 0.5 if name in ("fgsm_v2", "ifgsm_v2") else 1
    return value if condition == "none" else value * (2 if classifier == "resnetv2_50" else 1.3)


def opposite_cosd(classifier: str, name: str, condition: str, position: int) -> float:
    at_logits = {"resnetv2_50": 0.05, "densenet201_prelu": 0.1}
    value = at_logits.get(classifier, 0.9) if position == 4 else 1 - 0.2 * position
    return value if condition == "none" else 1.5 * value


def opposite_accuracy(classifier: str, name: str, condition: str) -> float:
    """The denoisers do harm; the modified classifiers are other ones."""
    if classifier in MODIFIED_CLASSIFIERS:
        return 0.6 if condition == "none" else 0.55
    return 0.3 if condition == "none" else 0.25 if classifier != "resnetv2_50" else 0.05


def opposite_mse(name: str, condition: str) -> float:
    return 4 if condition == "none" else 2 if name == "fgsm_v1" else 8


def study(
    ned: Callable[..., float] = ned,
    cosd: Callable[..., float] = cosd,
    accuracy: Callable[..., float] = accuracy,
    mse: Callable[..., float] = mse,
    *,
    classifiers: list[str] = CLASSIFIERS,
    sets: tuple[str, ...] = PAPER_SETS,
    denoisers: tuple[str, ...] = PAPER_DENOISERS,
    scatter: float = 0.05,
) -> Study:
    """Arguments of `claims` for four positions; distances scatter lognormally, accuracies hardly."""
    rng = np.random.default_rng(0)
    index = np.arange(N_IMAGES)
    distances, predictions, errors = [], [], []
    for name, condition in product(sets, ["none", *denoisers]):
        version = {"adversarial_set": name, "denoiser": condition, "index": rng.permutation(index)}
        noise = scatter * rng.normal(size=N_IMAGES)
        for split, factor in (("train", 1), ("val", 1000)):
            errors.append(
                pd.DataFrame({**version, "split": split, "mse_px2": factor * mse(name, condition) * np.exp(noise)})
            )
        for classifier in classifiers:
            keys = {"classifier": classifier, **version}
            distances.extend(
                pd.DataFrame(
                    {
                        **keys,
                        "position": position,
                        NED: ned(classifier, name, condition, position) * np.exp(noise),
                        COSD: cosd(classifier, name, condition, position) * np.exp(noise),
                    }
                )
                for position in (1, 2, 3, 4)
            )
            rank = version["index"] / N_IMAGES
            right = {"predicted": accuracy(classifier, name, condition), "predicted_clean": CLEAN_ACCURACY}
            predictions.append(
                pd.DataFrame(
                    {**keys, "label": 7, **{column: np.where(rank < share, 7, 1) for column, share in right.items()}}
                )
            )
    layers = pd.DataFrame(
        [
            (classifier, position, "logits" if position == 4 else "spatial")
            for classifier in classifiers
            for position in (1, 2, 3, 4)
        ],
        columns=["classifier", "position", "kind"],
    )
    return {
        "distances_images": pd.concat(distances),
        "layers": layers,
        "predictions": pd.concat(predictions),
        "mse_images": pd.concat(errors),
        "classifiers": classifiers,
        "adversarial_sets": sets,
        "denoisers": denoisers,
    }


def row(table: pd.DataFrame, claim: str, subject: str) -> pd.Series:
    rows = table[(table["claim"] == claim) & (table["subject"] == subject)]
    assert len(rows) == 1
    return rows.iloc[0]


@pytest.fixture(scope="module")
def paper_like() -> pd.DataFrame:
    return claims(**study(), **PAPER)


@pytest.mark.parametrize(
    ("region", "text", "cases"),
    [
        (Region(low=1), "> 1", {(1.1, 2): "holds", (1, 2): "undecided", (0.5, 1): "fails", (0.5, 0.9): "fails"}),
        (Region(high=1), "< 1", {(-3, 0.9): "holds", (0.9, 1): "undecided", (1, 2): "fails"}),
        (Region(low=1, closed=True), ">= 1", {(1, 2): "holds", (0.5, 1): "undecided", (0.5, 0.9): "fails"}),
        (Region(high=0.5, closed=True), "<= 0.5", {(0.1, 0.5): "holds", (0.5, 1): "undecided", (0.6, 1): "fails"}),
        (Region(0, 1), "in (0, 1)", {(0.1, 0.9): "holds", (0, 0.5): "undecided", (-1, 0): "fails", (1, 2): "fails"}),
        (Region(-5, 5, closed=True), "in [-5, 5]", {(-5, 5): "holds", (4, 6): "undecided", (6, 7): "fails"}),
        (Region(0.5, 1), "in (0.5, 1)", {(0.4, 2): "undecided", (nan, nan): "undecided", (-inf, 0): "fails"}),
    ],
)
def test_region(region: Region, text: str, cases: dict[tuple[float, float], str]) -> None:
    assert str(region) == text
    assert {bounds: region.verdict(*bounds) for bounds in cases} == cases


def test_all_claims_hold_where_all_is_as_the_paper_says(paper_like: pd.DataFrame) -> None:
    assert paper_like.loc[paper_like["verdict"] != "holds", ["claim", "subject"]].to_numpy().tolist() == []
    assert paper_like["claim"].unique().tolist() == [claim.name for claim in CLAIMS]
    assert paper_like["of_paper"].all()
    assert paper_like["note"].isna().all()
    assert (paper_like["ci_low"] <= paper_like["effect"]).all()
    assert (paper_like["effect"] <= paper_like["ci_high"]).all()


def test_all_claims_fail_where_all_is_the_other_way_round() -> None:
    table = claims(**study(opposite_ned, opposite_cosd, opposite_accuracy, opposite_mse), **PAPER)
    assert table.loc[table["verdict"] != "fails", ["claim", "subject"]].to_numpy().tolist() == []


@pytest.mark.parametrize(
    ("claim", "subject", "effect"),
    [
        ("ned_jumps_at_the_last_layer", "densenet201", 20),
        ("ned_jumps_most_in_vgg19", "vgg19", 10),
        ("larger_perturbation_larger_ned", "senet154", 2),
        ("ned_is_not_amplified_by_convolutions", "vgg19", 0.8),
        ("cosd_is_amplified_by_convolutions", "vgg19", 3),
        ("cosd_fades_at_the_last_layer", "vgg19", 0.1 / 0.6),
        ("cosd_stays_at_the_last_layer", "resnetv2_50", 1.5),
        ("ned_is_lowest_in_resnetv2_50", "resnetv2_50", 0.25),
        ("cosd_is_largest_in_resnetv2_50", "resnetv2_50", 9),
        ("denoisers_cut_the_mse", "unet, mifgsm", 0.5),
        ("denoisers_raise_the_mse_of_fgsm_v1", "fusionnet, fgsm_v1", 2),
        ("denoisers_bring_back_part_of_the_accuracy", "vgg19, unet", 30 / 65),
        ("resnetv2_50_gains_most", "resnetv2_50, unet", 20),
        ("denoisers_lower_ned_a_little", "vgg19, unet", 0.9),
        ("denoisers_lower_ned_of_resnetv2_50_by_20_to_30", "resnetv2_50, unet", 0.75),
        ("denoisers_lower_ned_most_in_resnetv2_50", "resnetv2_50, unet", 0.75 / 0.9),
        ("denoisers_lower_cosd_in_the_middle", "vgg19, unet", 0.7),
        ("denoisers_halve_cosd_of_resnetv2_50", "resnetv2_50, fusionnet", 0.4),
        ("fc_to_convolution_keeps_the_accuracy", "densenet201_conv", 0),
        ("fc_to_convolution_keeps_ned", "densenet201_conv", 1.1),
        ("prelu_lowers_ned", "densenet201_prelu", 0.5),
        ("prelu_raises_cosd", "densenet201_prelu", 8),
        ("prelu_keeps_the_accuracy", "densenet201_prelu", 0),
        ("prelu_gains_less_than_resnetv2_50", "densenet201_prelu, unet", -20),
    ],
)
def test_effects(paper_like: pd.DataFrame, claim: str, subject: str, effect: float) -> None:
    assert row(paper_like, claim, subject)["effect"] == pytest.approx(effect, rel=0.03, abs=1e-9)


def test_every_claim_has_a_known_effect() -> None:
    [parameters] = [mark.args[1] for mark in test_effects.pytestmark]
    assert [claim for claim, _, _ in parameters] == [claim.name for claim in CLAIMS]


def test_the_papers_own_effects(paper_like: pd.DataFrame) -> None:
    strong = ["fgsm_v2", "ifgsm_v1", "ifgsm_v2", "mifgsm"]
    both = pd.concat([PAPER["paper5"], PAPER["paper7"]])

    def mean(classifier: str, denoiser: str, sets: list[str]) -> float:
        rows = both[(both["classifier"] == classifier) & (both["denoiser"] == denoiser)]
        return float(rows.loc[rows["adversarial_set"].isin(sets), "top1_train_pct"].mean())

    def paper_effect(claim: str, subject: str) -> float:
        return float(row(paper_like, claim, subject)["effect_paper"])

    gains = {
        classifier: mean(classifier, "unet", strong) - mean(classifier, "none", strong) for classifier in CLASSIFIERS
    }
    others = max(gains[classifier] for classifier in PAPER_CLASSIFIERS[1:])
    assert paper_effect("denoisers_cut_the_mse", "unet, fgsm_v2") == pytest.approx(8.537 / 13.439)
    assert paper_effect("denoisers_raise_the_mse_of_fgsm_v1", "fusionnet, fgsm_v1") == pytest.approx(0.230 / 0.051)
    assert paper_effect("resnetv2_50_gains_most", "resnetv2_50, unet") == pytest.approx(gains["resnetv2_50"] - others)
    assert paper_effect("denoisers_bring_back_part_of_the_accuracy", "vgg19, unet") == pytest.approx(
        gains["vgg19"] / (99.221 - mean("vgg19", "none", strong))
    )
    assert paper_effect("prelu_gains_less_than_resnetv2_50", "densenet201_prelu, unet") == pytest.approx(
        gains["densenet201_prelu"] - gains["resnetv2_50"]
    )
    change = [
        mean("densenet201_conv", condition, list(PAPER_SETS)) - mean("densenet201", condition, list(PAPER_SETS))
        for condition in ("none", *PAPER_DENOISERS)
    ]
    assert paper_effect("fc_to_convolution_keeps_the_accuracy", "densenet201_conv") == pytest.approx(np.mean(change))
    assert paper_like.loc[paper_like["claim"].str.contains("ned|cosd"), "effect_paper"].isna().all()


def test_interval_against_a_loop_over_resamples() -> None:
    settings = study(scatter=0.5)
    maps = settings["distances_images"]
    maps = maps[(maps["classifier"] == "vgg19") & (maps["denoiser"] == "none")]
    images = maps.pivot_table(index="index", columns=["adversarial_set", "position"], values=NED)
    draws = np.random.default_rng(0).integers(N_IMAGES, size=(N_RESAMPLES, N_IMAGES))

    def jump(sample: pd.DataFrame) -> float:
        by_position = sample.mean().groupby("position").mean()
        return float(by_position[4] / by_position[:3].max())

    jumps = [jump(images.iloc[draw]) for draw in draws[:200]]
    table = claims(**settings, **PAPER)
    found = row(table, "ned_jumps_at_the_last_layer", "vgg19")
    assert found["effect"] == pytest.approx(jump(images))
    # The first 200 of the 2,000 resamples: the bounds agree to within their own scatter.
    low, high = np.percentile(jumps, [2.5, 97.5])
    width = high - low
    assert found["ci_low"] == pytest.approx(low, abs=0.2 * width)
    assert found["ci_high"] == pytest.approx(high, abs=0.2 * width)


def test_paired_images_cancel_what_they_share() -> None:
    """All distances of an image scatter by one factor: ratios of means are exact."""
    settings = study(scatter=0)
    maps, factor = settings["distances_images"], np.exp(np.random.default_rng(1).normal(size=N_IMAGES))
    maps[NED] *= factor[maps["index"]]
    found = row(claims(**settings, **PAPER), "denoisers_lower_ned_a_little", "vgg19, unet")
    assert [found["ci_low"], found["effect"], found["ci_high"]] == pytest.approx([0.9] * 3)


def test_undecided_where_the_interval_holds_the_bound() -> None:
    table = claims(**study(mse=lambda name, condition: 4, scatter=0.3), **PAPER)
    verdicts = table.loc[table["claim"] == "denoisers_cut_the_mse", "verdict"]
    assert "undecided" in set(verdicts)
    assert "holds" not in set(verdicts)


def test_no_loss_of_accuracy_leaves_nothing_to_bring_back() -> None:
    table = claims(**study(accuracy=lambda *_: CLEAN_ACCURACY), **PAPER)
    found = row(table, "denoisers_bring_back_part_of_the_accuracy", "vgg19, unet")
    assert np.isnan(found["effect"])
    assert found["verdict"] == "undecided"
    assert found["note"] == "undefined in 100.0% of the resamples"


def test_not_measured_says_what_is_missing() -> None:
    settings = study(classifiers=["resnetv2_50", "vgg19"], sets=("fgsm_v2", "mifgsm"), denoisers=("unet",))
    table = claims(**settings, **PAPER)
    missing = {
        ("fc_to_convolution_keeps_ned", "densenet201_conv"): "classifier densenet201_conv",
        ("ned_jumps_most_in_vgg19", "vgg19"): "classifier senet154",
        ("resnetv2_50_gains_most", "resnetv2_50, unet"): "classifier senet154",
        ("denoisers_bring_back_part_of_the_accuracy", "vgg19, fusionnet"): "denoiser fusionnet",
        ("denoisers_raise_the_mse_of_fgsm_v1", "unet, fgsm_v1"): "adversarial set fgsm_v1",
        ("denoisers_cut_the_mse", "unet, ifgsm_v1"): "adversarial set ifgsm_v1",
    }
    for keys, note in missing.items():
        found = row(table, *keys)
        assert (found["verdict"], found["note"]) == ("not measured", note)
        assert np.isnan(found["effect"])
    assert row(table, "denoisers_cut_the_mse", "unet, mifgsm")["verdict"] == "holds"
    pooled = row(table, "denoisers_lower_ned_a_little", "vgg19, unet")
    assert (pooled["verdict"], pooled["adversarial_sets"]) == ("holds", "fgsm_v2, mifgsm")
    assert row(table, "larger_perturbation_larger_ned", "vgg19")["effect"] == pytest.approx(2, rel=0.05)


def test_not_measured_without_a_metric_or_without_anything() -> None:
    settings = study()
    settings["distances_images"] = settings["distances_images"].drop(columns=COSD)
    table = claims(**settings, **PAPER)
    about_cosd = table["claim"].str.contains("cosd")
    assert set(table.loc[about_cosd, "note"]) == {COSD}
    assert set(table.loc[~about_cosd, "verdict"]) == {"holds"}

    empty = {name: read_results([]) for name in ("distances_images", "layers", "predictions", "mse_images")}
    nothing = claims(**empty, **PAPER, classifiers=["mine"], adversarial_sets=["own_set"], denoisers=[])
    assert set(nothing["verdict"]) == {"not measured"}
    assert "not measured: adversarial set fgsm_v1 or" in TABLE.markdown(nothing, Labels())


def test_sets_beyond_the_papers_are_left_aside(paper_like: pd.DataFrame) -> None:
    settings = study()
    for name in ("distances_images", "predictions", "mse_images"):
        frame = settings[name]
        other = frame[frame["adversarial_set"] == "fgsm_v1"].assign(adversarial_set="noise")
        other = other.assign(**{column: 1e6 for column in (NED, COSD, "mse_px2") if column in other})
        both = pd.concat([frame, other])
        settings[name] = both.astype({"adversarial_set": "category", "denoiser": "category"})
    settings["adversarial_sets"] = ["noise", *PAPER_SETS]
    pd.testing.assert_frame_equal(claims(**settings, **PAPER), paper_like)


def test_claims_are_put_to_others_as_well(paper_like: pd.DataFrame) -> None:
    settings = study(classifiers=[*CLASSIFIERS, "mine"], denoisers=(*PAPER_DENOISERS, "lgd"))
    table = claims(**settings, **PAPER)
    others = table[~table["of_paper"]]
    assert len(table) - len(others) == len(paper_like)
    assert others["subject"].str.contains("mine|lgd").all()
    assert others["effect_paper"].isna().all()
    assert row(table, "denoisers_cut_the_mse", "lgd, fgsm_v2")["verdict"] == "holds"
    assert row(table, "denoisers_bring_back_part_of_the_accuracy", "mine, lgd")["verdict"] == "holds"
    assert row(table, "resnetv2_50_gains_most", "resnetv2_50, lgd")["verdict"] == "holds"
    assert row(table, "cosd_fades_at_the_last_layer", "mine")["verdict"] == "holds"
    first, second, *_ = TABLE.markdown(table, Labels()).split("\n\n")
    assert first == f"**Claims of the paper:** holds {len(paper_like)}, fails 0, undecided 0, not measured 0."
    assert f"holds {(others['verdict'] == 'holds').sum()}," in second


def test_convolutions_end_at_the_first_fully_connected_layer() -> None:
    settings = study()
    layers = settings["layers"]
    layers.loc[(layers["classifier"] == "vgg19") & (layers["position"] == 3), "kind"] = "fully connected"
    table = claims(**settings, **PAPER)
    claim = "cosd_is_amplified_by_convolutions"
    assert row(table, claim, "vgg19")["effect"] == pytest.approx(2, rel=0.05)
    assert row(table, claim, "densenet201_conv")["effect"] == pytest.approx(3, rel=0.05)


def test_markdown(paper_like: pd.DataFrame) -> None:
    table = paper_like.copy()
    table.loc[table["claim"] == "prelu_lowers_ned", ["verdict", "note", "effect", "ci_low", "ci_high"]] = [
        "not measured",
        "classifier densenet201_prelu",
        nan,
        nan,
        nan,
    ]
    text = TABLE.markdown(table, Labels())
    first, _, counts, *claim_parts = text.split("\n\n")
    assert first == f"**Claims of the paper:** holds {len(table) - 1}, fails 0, undecided 0, not measured 1."
    count_rows = parse_markdown(counts)
    assert count_rows[0] == ["Claim", "Holds", "Fails", "Undecided", "Not measured"]
    assert count_rows[1] == ["`ned_jumps_at_the_last_layer`", "7", "", "", ""]
    assert ["`prelu_lowers_ned`", "", "", "", "1"] in count_rows
    assert len(count_rows) == 1 + len(CLAIMS)
    assert len(claim_parts) == 2 * len(CLAIMS)

    statements = dict(zip((part.split("`")[1] for part in claim_parts[::2]), claim_parts[1::2], strict=True))
    assert parse_markdown(statements["denoisers_raise_the_mse_of_fgsm_v1"])[1][::3] == ["FusionNet, FGSM v1", "> 1"]
    assert parse_markdown(statements["denoisers_raise_the_mse_of_fgsm_v1"])[1][4] == "4.51"
    assert parse_markdown(statements["prelu_lowers_ned"])[1:] == [
        ["DenseNet-201 (PReLU after FC)", "not measured: classifier densenet201_prelu", "", "< 1", ""]
    ]
    gain = parse_markdown(statements["prelu_gains_less_than_resnetv2_50"])[1]
    assert gain[2].startswith("-20.0 [-")
    assert "Over FGSM v2, i-FGSM v1, i-FGSM v2, mi-FGSM." in text


def test_labels_of_the_study_stand_in_place_of_the_names(paper_like: pd.DataFrame) -> None:
    labels = Labels(
        {
            "classifiers": {"vgg19": "Net", "unet": "a classifier of a denoiser's name"},
            "adversarial_sets": {"fgsm_v1": "One step", "vgg19": "a set of a classifier's name"},
            "denoisers": {"unet": "Mine"},
        }
    )
    parts = TABLE.markdown(paper_like, labels).split("\n\n")
    tables = {part.split("`")[1]: below for part, below in pairwise(parts) if part.startswith("`")}
    subjects = {claim: [row[0] for row in parse_markdown(below)[1:]] for claim, below in tables.items()}
    assert subjects["ned_jumps_most_in_vgg19"] == ["Net"]
    assert subjects["denoisers_raise_the_mse_of_fgsm_v1"] == ["FusionNet, One step", "Mine, One step"]
    assert "Net, Mine" in subjects["denoisers_lower_ned_a_little"]
    assert any(part.endswith(" Over One step, FGSM v2, i-FGSM v1, i-FGSM v2, mi-FGSM.") for part in parts)


def test_columns_are_all_that_is_used(paper_like: pd.DataFrame) -> None:
    settings = study()
    for name, columns in TABLE.columns.items():
        shared = {"classifier", "adversarial_set"} & set(settings[name].columns)
        settings[name] = settings[name][[column for column in settings[name] if column in {*columns, *shared}]]
    pd.testing.assert_frame_equal(claims(**settings, **PAPER), paper_like)
