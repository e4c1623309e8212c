"""The table of the paper's claims against the reference, row by row, on made-up studies."""

from itertools import product
from math import isnan, nan
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from perturbflow.results.reading import read_results
from perturbflow.tables.claims import claim as claims_of_package
from perturbflow.tables.claims.table import claims
from perturbflow.vocabulary import COSD, MODIFIED_CLASSIFIERS, NED, PAPER_CLASSIFIERS, PAPER_DENOISERS, PAPER_SETS
from tests.reference import claims as reference
from tests.reference.intervals import holm

ROOT = Path(__file__).parents[2]
CLASSIFIERS = [*PAPER_CLASSIFIERS, *MODIFIED_CLASSIFIERS]
KINDS = ["spatial", "spatial", "spatial", "pooled", "logits"]
N_IMAGES, N_RESAMPLES = 12, 40


def made_up(n_trainings: int) -> tuple[dict[str, pd.DataFrame], list[reference.Training]]:
    """Frames as the CSV files hold them, and the same numbers for the reference."""
    rng = np.random.default_rng(n_trainings)
    index = np.arange(N_IMAGES)
    distances, predictions, errors, trainings = [], [], [], []
    for number in range(n_trainings):
        one = reference.Training(
            {},
            {},
            {},
            {},
            {name: [1, 2, 3] for name in CLASSIFIERS},
            dict.fromkeys(CLASSIFIERS, len(KINDS)),
            range(N_IMAGES),
        )
        for name, condition in product(PAPER_SETS, ["none", *PAPER_DENOISERS]):
            keys = {"replicate": number, "adversarial_set": name, "denoiser": condition, "index": index}
            error = rng.lognormal(size=N_IMAGES)
            errors.append(pd.DataFrame({**keys, "split": "train", "mse_px2": error}))
            one.errors[name, condition] = error.tolist()
            for classifier in CLASSIFIERS:
                for position in range(1, 1 + len(KINDS)):
                    scale = rng.lognormal()
                    values = {metric: scale * rng.lognormal(sigma=0.4, size=N_IMAGES) for metric in (NED, COSD)}
                    place = {"classifier": classifier, "position": position}
                    distances.append(pd.DataFrame({**keys, **place, **values}))
                    for metric, called in ((NED, reference.NED), (COSD, reference.COSD)):
                        one.distances[called, classifier, name, condition, position] = values[metric].tolist()
                right, right_clean = rng.random(N_IMAGES) < 0.5, rng.random(N_IMAGES) < 0.9
                predicted = {"predicted": np.where(right, 7, 1), "predicted_clean": np.where(right_clean, 7, 1)}
                predictions.append(pd.DataFrame({**keys, "classifier": classifier, "label": 7, **predicted}))
                one.right[classifier, name, condition] = right.astype(int).tolist()
                one.right_clean[classifier, name, condition] = right_clean.astype(int).tolist()
        trainings.append(one)
    layers = pd.DataFrame(
        [(name, place, kind) for name in CLASSIFIERS for place, kind in enumerate(KINDS, 1)],
        columns=["classifier", "position", "kind"],
    )
    frames = {"distances_images": distances, "predictions": predictions, "mse_images": errors}
    return {"layers": layers, **{name: pd.concat(parts) for name, parts in frames.items()}}, trainings


@pytest.mark.parametrize("n_trainings", [1, 3])
def test_claims_of_a_study(n_trainings: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perturbflow.results.bootstrap.N_RESAMPLES", N_RESAMPLES)
    frames, trainings = made_up(n_trainings)
    paper = {
        f"paper{number}": read_results(str(ROOT / f"resources/paper/table{number}.csv")) for number in (3, 4, 5, 7)
    }
    quoted = read_results(str(ROOT / "resources/paper/claims.csv"))
    table = claims(
        **frames,
        **paper,
        paper_claims=quoted,
        classifiers=CLASSIFIERS,
        adversarial_sets=PAPER_SETS,
        denoisers=PAPER_DENOISERS,
    )
    regions = {one.name: one.region for one in claims_of_package.CLAIMS}
    p_values = []
    for row in table.to_dict("records"):
        region = regions[row["claim"]]
        subject = row["subject"].split(", ")
        bounds = (region.low, region.high, region.closed)
        expected = reference.put(trainings, row["claim"], subject, *bounds, N_RESAMPLES)
        where = f"{row['claim']}: {row['subject']}"
        assert row["verdict"] == expected["verdict"], where
        for column in ("effect", "ci_low", "ci_high", "p_value"):
            assert row[column] == pytest.approx(expected[column], rel=1e-6, abs=1e-12, nan_ok=True), (where, column)
        p_values.append(nan if isnan(row["p_value"]) else float(expected["p_value"]))
    adjusted = holm(p_values)
    assert table["p_holm"].tolist() == pytest.approx(adjusted, rel=1e-6, nan_ok=True)
    standing = [verdict if p < 0.05 else "undecided" for verdict, p in zip(table["verdict"], adjusted, strict=True)]
    assert table["verdict_holm"].tolist() == standing
    assert {"fails", "undecided"} <= set(table["verdict"])
    assert table["claim"].nunique() == len(claims_of_package.CLAIMS)
