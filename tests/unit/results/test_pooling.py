from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from perturbflow.results.bootstrap import estimate, resampled_means
from perturbflow.results.intervals import wilson_interval
from perturbflow.results.pooling import (
    pool_accuracies,
    pool_distances,
    pool_errors,
    pool_interventions,
    pool_to_files,
)
from perturbflow.results.reading import MissingResultError

REPLICATES = [0, 1, 4]
RNG = np.random.default_rng(0)
T = scipy.stats.t.ppf(0.975, len(REPLICATES) - 1)


def accuracies() -> pd.DataFrame:
    rows = [
        {"classifier": "vgg19", "adversarial_set": "fgsm", "denoiser": denoiser, "split": split, "top1": RNG.random()}
        for _ in REPLICATES
        for denoiser in ("none", "unet")
        for split in ("train", "val")
    ]
    return pd.DataFrame(rows).assign(n_images=50, replicate=np.repeat(REPLICATES, 4))


def test_accuracies_over_replicates() -> None:
    frame = accuracies()
    pooled = pool_accuracies(frame.sample(frac=1, random_state=0))
    for row in pooled.to_dict("records"):
        of_row = frame[(frame["denoiser"] == row["denoiser"]) & (frame["split"] == row["split"])]["top1"]
        mean, between = of_row.mean(), T * of_row.std() / 3**0.5
        low, high = wilson_interval(mean * 50, 50)
        assert row["top1"] == pytest.approx(mean)
        assert row["top1_ci_low"] == pytest.approx(max(mean - np.hypot(between, mean - low), 0))
        assert row["top1_ci_high"] == pytest.approx(min(mean + np.hypot(between, high - mean), 1))
        assert row["interval_covers"] == "3 trainings and images"
        assert row["n_images"] == 50
    assert len(pooled) == 4


@pytest.mark.parametrize("n_replicates", [2, 3])
def test_intervals_of_accuracies_cover_the_true_one(n_replicates: int) -> None:
    """Where the trainings' accuracies vary, and the images on which they err are drawn for each."""
    rng, found = np.random.default_rng(n_replicates), 0
    for _ in range(400):
        shares = rng.binomial(200, np.clip(rng.normal(0.7, 0.05, n_replicates), 0, 1)) / 200
        frame = pd.DataFrame({"classifier": "a", "split": "val", "top1": shares, "n_images": 200})
        pooled = pool_accuracies(frame.assign(replicate=range(n_replicates)), ["classifier", "split"]).iloc[0]
        found += pooled["top1_ci_low"] <= 0.7 <= pooled["top1_ci_high"]
    assert found / 400 >= 0.95 - 3 * (0.05 * 0.95 / 400) ** 0.5


def test_rows_that_a_replicate_lacks_are_told() -> None:
    frame = accuracies()
    with pytest.raises(MissingResultError, match="replicate 4 has other rows"):
        pool_accuracies(frame[(frame["replicate"] != 4) | (frame["split"] == "val")])


def images(keys: dict[str, list[object]], column: str, n_images: int = 20) -> pd.DataFrame:
    """A row a replicate, image and combination of keys."""
    index = pd.MultiIndex.from_product(
        [REPLICATES, *keys.values(), range(n_images)], names=["replicate", *keys, "index"]
    )
    return pd.DataFrame({column: RNG.exponential(size=len(index))}, index=index).reset_index()


def test_distances_over_replicates() -> None:
    per_image = images({"denoiser": ["none", "unet"], "position": [1, 2]}, "cosine")
    per_image.loc[per_image["position"].eq(2) & per_image["index"].lt(3), "cosine"] = np.nan
    keys = ["replicate", "denoiser", "position"]
    summary = per_image.groupby(keys, as_index=False)["cosine"].agg(cosine_mean="mean", cosine_std="std")
    summary = summary.assign(classifier="a", adversarial_set="x", layer="conv", n_images=20, interval_covers="one")
    summary = summary.assign(cosine_ci_low=0.0, cosine_ci_high=0.0)
    summary["linear_cka_mean"] = RNG.random(len(summary))
    summary["linear_cka_std"] = np.nan
    summary["linear_cka_ci_low"] = summary["linear_cka_mean"] - 0.1
    summary["linear_cka_ci_high"] = summary["linear_cka_mean"] + 0.2
    pooled = pool_distances(summary, per_image)
    assert pooled.columns.tolist() == summary.columns.drop("replicate").tolist()
    assert len(pooled) == 4
    for row in pooled.to_dict("records"):
        of_row = per_image[(per_image["denoiser"] == row["denoiser"]) & (per_image["position"] == row["position"])]
        values = of_row.pivot(index="replicate", columns="index", values="cosine").to_numpy()
        low, high = estimate(resampled_means(values), 20 if row["position"] == 1 else 17).interval()
        assert row["cosine_mean"] == pytest.approx(np.nanmean(values))
        assert (row["cosine_ci_low"], row["cosine_ci_high"]) == pytest.approx((low, high))
        assert row["cosine_std"] == pytest.approx(np.nanstd(values.mean(axis=0), ddof=1))
        cka = summary[(summary["denoiser"] == row["denoiser"]) & (summary["position"] == row["position"])]
        between = T * cka["linear_cka_mean"].std() / 3**0.5
        assert row["linear_cka_mean"] == pytest.approx(cka["linear_cka_mean"].mean())
        assert row["linear_cka_ci_low"] == pytest.approx(row["linear_cka_mean"] - np.hypot(between, 0.1))
        assert row["linear_cka_ci_high"] == pytest.approx(row["linear_cka_mean"] + np.hypot(between, 0.2))
        assert row["interval_covers"] == "3 trainings and images"


def test_interventions_over_replicates() -> None:
    keys = {"denoiser": ["none"], "position": [0, 1], "part": ["along"], "fraction": [0.5, 1.0]}
    per_image = images(keys, "margin")
    by = ["replicate", *keys]
    summary = per_image.groupby(by, as_index=False)["margin"].agg(margin_mean="mean", margin_std="std")
    summary = summary.assign(n_images=20, interval_covers="one", top1=RNG.random(len(summary)))
    bounds = ("top1_ci_low", "top1_ci_high", "margin_ci_low", "margin_ci_high")
    summary = summary.assign(**dict.fromkeys(bounds, 0.0))
    pooled = pool_interventions(summary, per_image)
    assert pooled.columns.tolist() == summary.columns.drop("replicate").tolist()
    row = pooled[(pooled["position"] == 1) & (pooled["fraction"] == 0.5)].iloc[0]
    of_row = per_image[(per_image["position"] == 1) & (per_image["fraction"] == 0.5)]
    assert row["margin_mean"] == pytest.approx(of_row["margin"].mean())
    assert row["margin_ci_low"] < row["margin_mean"] < row["margin_ci_high"]
    of_row = summary[(summary["position"] == 1) & (summary["fraction"] == 0.5)]
    assert row["top1"] == pytest.approx(of_row["top1"].mean())
    assert row["top1_ci_low"] < row["top1"] < row["top1_ci_high"]


def test_errors_over_replicates() -> None:
    per_image = pd.concat(
        [
            images({"denoiser": ["none", "unet"], "split": [split]}, "mse_px2", n)
            for split, n in (("train", 30), ("val", 7))
        ]
    )
    summary = per_image.groupby(["replicate", "denoiser", "split"], as_index=False)["mse_px2"].mean()
    pooled = pool_errors(summary.assign(adversarial_set="x", n_images=1), per_image)
    row = pooled[(pooled["denoiser"] == "unet") & (pooled["split"] == "val")].iloc[0]
    of_row = per_image[(per_image["denoiser"] == "unet") & (per_image["split"] == "val")]
    values = of_row.pivot(index="replicate", columns="index", values="mse_px2").to_numpy()
    low, high = estimate(resampled_means(values), 7).interval()
    assert row["mse_px2"] == pytest.approx(values.mean())
    assert (row["mse_px2_ci_low"], row["mse_px2_ci_high"]) == pytest.approx((low, high))
    assert len(pooled) == 4


def test_files_of_several_sets(tmp_path: Path) -> None:
    """Files come replicate by replicate, each with the sets in the order of the outputs."""
    inputs = []
    for number, folder in enumerate(["", "replicates/1/"]):
        for name, top1 in (("x", 0.25), ("y", 0.5)):
            path = tmp_path / f"{folder}accuracy/a/{name}.csv"
            path.parent.mkdir(parents=True, exist_ok=True)
            row = {"classifier": "a", "adversarial_set": name, "denoiser": "none", "split": "val"}
            pd.DataFrame([{**row, "top1": top1 + 0.1 * number, "n_images": 10}]).to_csv(path, index=False)
            inputs.append(str(path))
    outputs = [str(tmp_path / f"pooled/{name}.csv") for name in ("x", "y")]
    (tmp_path / "pooled").mkdir()
    pool_to_files(pool_accuracies, outputs, inputs)
    found = [pd.read_csv(output).iloc[0] for output in outputs]
    assert [(row["adversarial_set"], row["top1"]) for row in found] == [("x", 0.3), ("y", 0.55)]
