from collections.abc import Callable
from itertools import product
from math import nan
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from perturbflow.results.bootstrap import N_RESAMPLES
from perturbflow.results.reading import read_results
from perturbflow.tables.claims.claim import CLAIMS
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
PAPER = {
    "paper_claims": read_results(str(ROOT / "resources/paper/claims.csv")),
    **{f"paper{number}": read_results(str(ROOT / f"resources/paper/table{number}.csv")) for number in (3, 4, 5, 7)},
}
CLASSIFIERS = [*PAPER_CLASSIFIERS, *MODIFIED_CLASSIFIERS]
N_IMAGES = 200
CLEAN_ACCURACY = 0.95
Study = dict[str, Any]


# What cannot all be so: Section 4 has NE-D explode in all classifiers, the conclusion has it disappear in ResNet V2-50.
CONTRADICTED = ("ned_explodes_at_the_last_layer", "resnetv2_50")


def ned(classifier: str, name: str, condition: str, position: int) -> float:
    """As the paper has it: flat through the convolutions, then a jump."""
    at_logits = {"resnetv2_50": 0.05, "vgg19": 200, "densenet201_prelu": 10, "densenet201_conv": 22}
    value = at_logits.get(classifier, 20) if position == 4 else 1.1 - 0.1 * position
    value *= 2 if name in ("fgsm_v2", "ifgsm_v2") else 1
    return value if condition == "none" else value * (0.75 if classifier == "resnetv2_50" else 0.9)


def cosd(classifier: str, name: str, condition: str, position: int) -> float:
    """Growing through the convolutions, in two classifiers up, down and up, and from there but in two fading."""
    at_logits = {"resnetv2_50": 9, "densenet201_prelu": 0.8}
    on_the_way = 0.1 if position == 2 and classifier in ("inception_resnet_v2", "densenet201") else 0.2 * position
    value = at_logits.get(classifier, 0.05) if position == 4 else on_the_way
    if condition == "none":
        return value
    return value * (0.7 if position < 4 else 0.4 if classifier == "resnetv2_50" else 0.9)


def accuracy(classifier: str, name: str, condition: str) -> float:
    raw = {"fgsm_v1": 0.97, "mifgsm": 0.97, "ifgsm_v1": 0.8}.get(name, 0.3)
    if condition == "none":
        return raw
    return raw + (0.2 if classifier == "resnetv2_50" else 0.1) * (raw < 0.9)


def mse(name: str, condition: str) -> float:
    raw = 5 if name == "mifgsm" else 4
    if condition == "none":
        return raw
    return 2 * raw if name == "fgsm_v1" else raw / 2


def opposite_ned(classifier: str, name: str, condition: str, position: int) -> float:
    at_logits = {"resnetv2_50": 0.8, "vgg19": 0.1, "densenet201_prelu": 0.7, "densenet201_conv": 0.05}
    value = at_logits.get(classifier, 0.3) if position == 4 else 0.1 + 0.35 * position
    value *= 0.5 if name in ("fgsm_v2", "ifgsm_v2") else 1
    return value if condition == "none" else value * (2 if classifier == "resnetv2_50" else 1.3)


def opposite_cosd(classifier: str, name: str, condition: str, position: int) -> float:
    at_logits = {"resnetv2_50": 0.05, "densenet201_prelu": 0.1, "densenet201_conv": 2}
    value = at_logits.get(classifier, 0.9) if position == 4 else 1 - 0.2 * position
    return value if condition == "none" else 1.5 * value


def opposite_accuracy(classifier: str, name: str, condition: str) -> float:
    """The denoisers do harm; the modified classifiers are worse ones."""
    raw = {"fgsm_v2": 0.98, "ifgsm_v2": 0.98, "mifgsm": 0.2}.get(name, 0.3)
    raw -= 0.1 * (classifier in MODIFIED_CLASSIFIERS)
    return raw if condition == "none" else raw - (0.15 if classifier == "resnetv2_50" else 0.1)


def opposite_mse(name: str, condition: str) -> float:
    raw = 3 if name == "mifgsm" else 4
    return raw if condition == "none" else raw / 2 if name == "fgsm_v1" else 2 * raw


def predictions_of(share: float, index: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """7 for that share of the images, the same ones but for a random two, else 1."""
    right = index < round(share * N_IMAGES)
    if right.any() and not right.all():
        swapped = [rng.choice(np.flatnonzero(right)), rng.choice(np.flatnonzero(~right))]
        right[swapped] = ~right[swapped]
    return np.where(right, 7, 1)


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
    seed: int = 0,
) -> Study:
    """Arguments of `claims` for four positions; distances scatter lognormally, accuracies hardly."""
    rng = np.random.default_rng(seed)
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
            # Little beside it, but so that no ratio is the same for all images.
            own = {position: noise + 0.2 * scatter * rng.normal(size=N_IMAGES) for position in (1, 2, 3, 4)}
            distances.extend(
                pd.DataFrame(
                    {
                        **keys,
                        "position": position,
                        NED: ned(classifier, name, condition, position) * np.exp(own[position]),
                        COSD: cosd(classifier, name, condition, position) * np.exp(own[position]),
                    }
                )
                for position in (1, 2, 3, 4)
            )
            shares = {"predicted": accuracy(classifier, name, condition), "predicted_clean": CLEAN_ACCURACY}
            predicted = {column: predictions_of(share, version["index"], rng) for column, share in shares.items()}
            predictions.append(pd.DataFrame({**keys, "label": 7, **predicted}))
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


def test_all_claims_hold_where_all_is_as_the_paper_says(paper_like: pd.DataFrame) -> None:
    others = paper_like.loc[paper_like["verdict"] != "holds", ["claim", "subject"]].to_numpy().tolist()
    assert others == [[*CONTRADICTED]]
    assert paper_like["claim"].unique().tolist() == [claim.name for claim in CLAIMS]
    assert paper_like["of_paper"].all()
    assert paper_like["note"].isna().all()
    assert (paper_like["ci_low"] <= paper_like["effect"]).all()
    assert (paper_like["effect"] <= paper_like["ci_high"]).all()
    assert set(paper_like["interval_covers"]) == {"images of one training"}


def test_all_claims_fail_where_all_is_the_other_way_round() -> None:
    table = claims(**study(opposite_ned, opposite_cosd, opposite_accuracy, opposite_mse), **PAPER)
    # What is not amplified by convolutions there goes down, as the paper says of two classifiers.
    others = table.loc[table["verdict"] != "fails", ["claim", "subject"]].to_numpy().tolist()
    assert others == [["cosd_goes_up_and_down", name] for name in ("inception_resnet_v2", "densenet201")]


@pytest.mark.parametrize(
    ("claim", "subject", "effect"),
    [
        ("ned_explodes_at_the_last_layer", "densenet201", 20 / 0.8),
        ("ned_jumps_most_in_vgg19_as_a_ratio", "vgg19, senet154", 10),
        ("ned_jumps_most_in_vgg19_as_a_step", "vgg19, senet154", 180 * 1.4),
        ("larger_perturbation_larger_ned", "senet154", 2),
        ("ned_stays_small_in_the_convolutions", "vgg19", 0.8),
        ("cosd_is_amplified_by_convolutions", "vgg19", 3),
        ("cosd_increases_gradually", "vgg19", 1.5),
        ("cosd_goes_up_and_down", "densenet201", 0.5),
        ("cosd_decreases_at_the_last_layer", "vgg19", 0.05 / 0.6),
        ("cosd_disappears_at_the_last_layer", "vgg19", 0.05 / 0.6),
        ("cosd_stays_at_the_last_layer", "resnetv2_50", 15),
        ("cosd_explodes_in_resnetv2_50", "resnetv2_50", 15),
        ("ned_disappears_in_resnetv2_50", "resnetv2_50", 0.05 / 0.8),
        ("ned_is_lowest_in_resnetv2_50", "resnetv2_50, vgg19", 0.05 / 200),
        ("cosd_is_largest_in_resnetv2_50", "resnetv2_50, senet154", 180),
        ("denoisers_cut_the_mse", "unet, mifgsm", 0.5),
        ("denoisers_raise_the_mse_of_fgsm_v1", "fusionnet, fgsm_v1", 2),
        ("denoisers_bring_back_little_accuracy", "vgg19, unet", 7.5 / 35.75),
        ("small_sets_leave_a_reasonable_accuracy", "vgg19", (97 + 97 + 80) / 3),
        ("larger_sets_leave_a_lower_accuracy", "resnetv2_50, unet", 50 - (97 + 97 + 100) / 3),
        ("mifgsm_has_more_error", "mifgsm, ifgsm_v1", 1.25),
        ("mifgsm_leaves_more_accuracy", "inception_resnet_v2", 17),
        ("resnetv2_50_gains_most", "resnetv2_50, vgg19, unet", 7.5),
        ("denoisers_lower_ned_a_little", "vgg19, unet", 0.9),
        ("denoisers_lower_ned_of_resnetv2_50_by_20_to_30", "resnetv2_50, unet", 0.75),
        ("denoisers_lower_ned_most_in_resnetv2_50", "resnetv2_50, senet154, unet", 0.75 / 0.9),
        ("denoised_is_amplified_to_a_similar_level", "vgg19, unet", 0.9),
        ("cosd_becomes_identical_eventually", "vgg19, unet", 0.9),
        ("denoisers_lower_cosd_in_the_middle", "vgg19, unet", 0.7),
        ("denoisers_halve_cosd_of_resnetv2_50", "resnetv2_50, fusionnet", 0.4),
        ("fc_to_convolution_keeps_the_accuracy", "densenet201_conv", 0),
        ("fc_to_convolution_keeps_ned", "densenet201_conv", 1.1),
        ("fc_to_convolution_keeps_cosd", "densenet201_conv", 1),
        ("prelu_lowers_ned", "densenet201_prelu", 0.5),
        ("prelu_raises_cosd", "densenet201_prelu", 16),
        ("prelu_keeps_the_accuracy", "densenet201_prelu", 0),
        ("prelu_gains_less_than_resnetv2_50", "densenet201_prelu, unet", -7.5),
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
    assert paper_effect("denoisers_cut_the_mse", "unet, fgsm_v2") == pytest.approx(8.537 / 13.439)
    assert paper_effect("denoisers_raise_the_mse_of_fgsm_v1", "fusionnet, fgsm_v1") == pytest.approx(0.230 / 0.051)
    assert paper_effect("resnetv2_50_gains_most", "resnetv2_50, densenet201, unet") == pytest.approx(
        gains["resnetv2_50"] - gains["densenet201"]
    )
    assert paper_effect("denoisers_bring_back_little_accuracy", "vgg19, unet") == pytest.approx(
        gains["vgg19"] / (99.221 - mean("vgg19", "none", strong))
    )
    assert paper_effect("mifgsm_has_more_error", "mifgsm, ifgsm_v1") == pytest.approx(1.466 / 1.224)
    assert paper_effect("mifgsm_leaves_more_accuracy", "inception_resnet_v2") == pytest.approx(94.6 - 71.5)
    assert paper_effect("small_sets_leave_a_reasonable_accuracy", "vgg19") == pytest.approx((95.7 + 52.2 + 93.1) / 3)
    assert paper_effect("larger_sets_leave_a_lower_accuracy", "resnetv2_50, unet") == pytest.approx(
        (69.2 + 71.1) / 2 - (99.3 + 88.2 + 97.0) / 3
    )
    assert paper_effect("prelu_gains_less_than_resnetv2_50", "densenet201_prelu, unet") == pytest.approx(
        gains["densenet201_prelu"] - gains["resnetv2_50"]
    )
    change = [
        mean("densenet201_conv", condition, list(PAPER_SETS)) - mean("densenet201", condition, list(PAPER_SETS))
        for condition in ("none", *PAPER_DENOISERS)
    ]
    assert paper_effect("fc_to_convolution_keeps_the_accuracy", "densenet201_conv") == pytest.approx(np.mean(change))
    assert paper_like.loc[paper_like["claim"].str.contains("ned_|cosd"), "effect_paper"].isna().all()


def test_the_paper_holds_its_own_claims(paper_like: pd.DataFrame) -> None:
    """Where its tables give an effect it lies where its sentence puts it."""
    regions = {claim.name: claim.region for claim in CLAIMS}
    known = paper_like.dropna(subset="effect_paper")
    outside = [
        (name, subject)
        for name, subject, effect in known[["claim", "subject", "effect_paper"]].to_numpy()
        if not regions[name].low <= effect <= regions[name].high
    ]
    assert outside == []
    assert len(known) > 40


def test_every_claim_quotes_the_paper() -> None:
    quoted = PAPER["paper_claims"]
    assert quoted["claim"].tolist() == [claim.name for claim in CLAIMS]
    assert quoted.notna().all(axis=None)
    assert set(quoted["reading"]) == {"stated", "inferred", "table"}
    assert set(quoted["bar"]) == {"paper", "ours"}


@pytest.mark.parametrize("n_trainings", [1, 3])
def test_intervals_against_a_loop(n_trainings: int) -> None:
    """A ratio, on its logarithms: each training's by itself, the images by resampling, the trainings by t."""
    studies = [study(scatter=0.5, seed=seed) for seed in range(n_trainings)]
    settings = together(studies)
    draws = np.random.default_rng(0).integers(N_IMAGES, size=(N_RESAMPLES, N_IMAGES))
    logarithms, resampled = [], []
    for one in studies:
        maps = one["distances_images"]
        maps = maps[(maps["classifier"] == "vgg19") & (maps["denoiser"] == "none")]
        images = maps.pivot_table(index="index", columns=["position", "adversarial_set"], values=COSD)
        of_position = {position: images[position].to_numpy().mean(axis=1) for position in (3, 4)}
        logarithms.append(np.log(of_position[4].mean() / of_position[3].mean()))
        resampled.append([np.log(of_position[4][draw].mean() / of_position[3][draw].mean()) for draw in draws])
    together_ = np.mean(resampled, axis=0)
    variance = together_.var()
    half = 0.0
    if n_trainings > 1:
        own = sum(np.var(np.array(one) - together_) for one in resampled) / (n_trainings - 1)
        variance = max(variance - own / n_trainings, 0)
        half = scipy.stats.t.ppf(0.975, n_trainings - 1) ** 2 * np.var(logarithms, ddof=1) / n_trainings
    half += scipy.stats.t.ppf(0.975, N_IMAGES - 1) ** 2 * variance * N_IMAGES / (N_IMAGES - 1)
    expected = np.exp(np.mean(logarithms) + np.array([-1, 0, 1]) * half**0.5)

    found = row(claims(**settings, **PAPER), "cosd_decreases_at_the_last_layer", "vgg19")
    assert [found["ci_low"], found["effect"], found["ci_high"]] == pytest.approx(expected.tolist())
    assert found["interval_covers"] == ("3 trainings and images" if n_trainings > 1 else "images of one training")


def together(studies: list[Study]) -> Study:
    """Studies as the replicates of one."""
    frames = ("distances_images", "predictions", "mse_images")
    return {
        **studies[0],
        **{
            name: pd.concat([one[name].assign(replicate=number) for number, one in enumerate(studies)])
            for name in frames
        },
    }


def test_trainings_that_differ_undo_what_one_of_them_says() -> None:
    """One training says that the error is cut, another that it is raised; with each alone there is a verdict."""

    def other(name: str, condition: str) -> float:
        return 4 if condition == "none" else 6

    keys = ("denoisers_cut_the_mse", "unet, ifgsm_v2")
    alone = [study(), study(mse=other)]
    assert [row(claims(**one, **PAPER), *keys)["verdict"] for one in alone] == ["holds", "fails"]
    assert row(claims(**together(alone), **PAPER), *keys)["verdict"] == "undecided"


def test_verdicts_that_stand_together(paper_like: pd.DataFrame) -> None:
    """Holm's correction over all rows that have a verdict or could have."""
    table = claims(**study(scatter=1.5), **PAPER)
    ordered = table.sort_values("p_value")["p_value"].dropna().to_numpy()
    times = len(ordered) - np.arange(len(ordered))
    adjusted = np.minimum(np.maximum.accumulate(ordered * times), 1)
    assert table.sort_values("p_value")["p_holm"].dropna().to_numpy() == pytest.approx(adjusted)
    decided = table["verdict"].isin(["holds", "fails"])
    assert (table.loc[decided, "p_value"] < 0.05).all()
    standing = table["verdict_holm"].isin(["holds", "fails"])
    assert 0 < standing.sum() < decided.sum()
    assert (table.loc[standing, "p_holm"] < 0.05).all()
    text = TABLE.markdown(table, Labels())
    assert f"The table has {len(ordered)} verdicts" in text


def test_what_no_image_changes_is_no_verdict() -> None:
    table = claims(**study(accuracy=lambda classifier, *_: 1.0 if classifier == "vgg19" else 0.3), **PAPER)
    found = row(table, "small_sets_leave_a_reasonable_accuracy", "vgg19")
    assert (found["effect"], found["ci_low"], found["ci_high"]) == (100, 100, 100)
    assert (found["verdict"], found["verdict_holm"]) == ("undecided", "undecided")
    assert found["note"] == "the same with all images: no interval"
    assert np.isnan(found["p_value"])


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
    found = row(table, "denoisers_bring_back_little_accuracy", "vgg19, unet")
    assert np.isnan(found["effect"])
    assert found["verdict"] == "undecided"
    assert found["note"].startswith("undefined in ")


def test_not_measured_says_what_is_missing() -> None:
    settings = study(classifiers=["resnetv2_50", "vgg19"], sets=("fgsm_v2", "mifgsm"), denoisers=("unet",))
    table = claims(**settings, **PAPER)
    missing = {
        ("fc_to_convolution_keeps_ned", "densenet201_conv"): "classifier densenet201_conv",
        ("ned_jumps_most_in_vgg19_as_a_ratio", "vgg19, senet154"): "classifier senet154",
        ("resnetv2_50_gains_most", "resnetv2_50, senet154, unet"): "classifier senet154",
        ("denoisers_bring_back_little_accuracy", "vgg19, fusionnet"): "denoiser fusionnet",
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
    assert set(table.loc[~about_cosd, "verdict"]) == {"holds", "fails"}

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
    assert row(table, "denoisers_bring_back_little_accuracy", "mine, lgd")["verdict"] == "holds"
    assert row(table, "resnetv2_50_gains_most", "resnetv2_50, vgg19, lgd")["verdict"] == "holds"
    assert row(table, "cosd_decreases_at_the_last_layer", "mine")["verdict"] == "holds"
    first, second, *_ = TABLE.markdown(table, Labels()).split("\n\n")
    counted = f"holds {len(paper_like) - 1}, fails 1, undecided 0, not measured 0"
    assert first.startswith(f"**Claims of the paper:** {counted}; with Holm's correction holds ")
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
    columns = ["verdict", "verdict_holm", "note", "effect", "ci_low", "ci_high"]
    table.loc[table["claim"] == "prelu_lowers_ned", columns] = [
        "not measured",
        "not measured",
        "classifier densenet201_prelu",
        nan,
        nan,
        nan,
    ]
    text = TABLE.markdown(table, Labels())
    first, _, heading, counts, *claim_parts = text.split("\n\n")
    counted = f"holds {len(table) - 2}, fails 1, undecided 0, not measured 1"
    assert first.startswith(f"**Claims of the paper:** {counted}; with Holm's correction holds ")
    assert heading.startswith("Rows of each claim by verdict")
    count_rows = parse_markdown(counts)
    assert count_rows[0] == ["Claim", "Holds", "Fails", "Undecided", "Not measured"]
    assert count_rows[1] == ["`ned_explodes_at_the_last_layer`", "6", "1", "", ""]
    assert ["`prelu_lowers_ned`", "", "", "", "1"] in count_rows
    assert len(count_rows) == 1 + len(CLAIMS)
    assert len(claim_parts) == 4 * len(CLAIMS)

    statements = dict(zip((part.split("`")[1] for part in claim_parts[::4]), claim_parts[3::4], strict=True))
    assert claim_parts[1].startswith("> In all classifier with/without denoiser, NE-D explosively increases")
    assert claim_parts[1].endswith("(Section 4; stated)")
    assert claim_parts[2] == 'Bound (ours): "explosively" is read as tenfold.'
    assert parse_markdown(statements["denoisers_raise_the_mse_of_fgsm_v1"])[1][::3] == ["FusionNet, FGSM v1", "> 1"]
    assert parse_markdown(statements["denoisers_raise_the_mse_of_fgsm_v1"])[1][4] == "4.51"
    assert parse_markdown(statements["prelu_lowers_ned"])[1:] == [
        ["DenseNet-201 (PReLU after FC)", "not measured: classifier densenet201_prelu", "", "< 1", ""]
    ]
    gain = parse_markdown(statements["prelu_gains_less_than_resnetv2_50"])[1]
    assert gain[2].startswith("-7.50 [-")
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
    tables = {part.split("`")[1]: parts[place + 3] for place, part in enumerate(parts) if part.startswith("`")}
    subjects = {claim: [row[0] for row in parse_markdown(below)[1:]] for claim, below in tables.items()}
    assert subjects["ned_jumps_most_in_vgg19_as_a_step"][0] == "Net, ResNet V2-50"
    assert subjects["denoisers_raise_the_mse_of_fgsm_v1"] == ["FusionNet, One step", "Mine, One step"]
    assert "Net, Mine" in subjects["denoisers_lower_ned_a_little"]
    assert any(part.endswith(" Over One step, FGSM v2, i-FGSM v1, i-FGSM v2, mi-FGSM.") for part in parts)


def test_columns_are_all_that_is_used(paper_like: pd.DataFrame) -> None:
    settings = study()
    for name, columns in TABLE.columns.items():
        shared = {"classifier", "adversarial_set"} & set(settings[name].columns)
        settings[name] = settings[name][[column for column in settings[name] if column in {*columns, *shared}]]
    pd.testing.assert_frame_equal(claims(**settings, **PAPER), paper_like)
