"""What came of each attack, and the warnings beside a table's numbers."""

import h5py
import numpy as np
import pandas as pd
import pytest

from perturbflow.results.reading import read_results
from perturbflow.results.warnings import StudyWarning
from perturbflow.tables.attacks import TABLE, attacks
from perturbflow.tables.table import with_warnings, write_table

RECIPES = {
    "fgsm": {"attack": "fgsm", "attacker": "c", "stopping_classifier": "d"},
    "pgd": {"attack": "LinfPGD", "attacker": "c", "stopping_classifier": None},
    "noise": {"attack": "sign_noise", "norm_of": "fgsm"},
}


@pytest.fixture
def sets(tmp_path):
    """Four images each; of fgsm the first was wrong before, the next two are fooled."""
    steps = {"fgsm": [0, 2, 4, 5], "pgd": [-1] * 4, "noise": [0] * 4}
    paths = []
    for name in RECIPES:
        path = tmp_path / "adversarial" / name / "val.h5"
        path.parent.mkdir(parents=True)
        with h5py.File(path, "w") as file:
            file["images"] = np.zeros((4, 2, 2, 3), np.float32)
            file["index"] = file["label"] = np.arange(4)
            file["steps"] = steps[name]
            file["succeeded"] = np.array([False, True, True, False]) & (name != "noise")
            file["already_misclassified"] = np.array([True, False, False, False]) & (name == "fgsm")
            file["l2"], file["linf"] = [0.0, 2.0, 4.0, 9.0], [0.0, 1.0, 1.0, 4.0]
        paths.append(str(path))
    return paths


def test_each_set_and_split(sets):
    table = attacks(read_results(sets), RECIPES).set_index("adversarial_set")
    assert table.loc["fgsm"].to_dict() == {
        "split": "val",
        "n_images": 4,
        "n_wrong_before": 1,
        "n_fooled": 2,
        "steps_mean": pytest.approx(11 / 3),
        "l2_mean": 5.0,
        "l2_max": 9.0,
        "linf_mean": 2.0,
        "linf_max": 4.0,
    }
    assert table.loc["pgd", "n_fooled"] == 2 and table.loc["pgd", ["n_wrong_before", "steps_mean"]].isna().all()
    assert table.loc["noise", ["n_wrong_before", "n_fooled", "steps_mean"]].isna().all()
    assert table.loc["noise", "l2_mean"] == 3.75


def test_warnings_stand_beside_the_rows_that_they_touch(sets, tmp_path):
    warnings = [StudyWarning("adversarial_set", "pgd", "fooled 2"), StudyWarning("classifier", "c", "guesses")]
    write_table(
        TABLE,
        {"sets": sets},
        {"adversarial_sets": RECIPES},
        {"adversarial_sets": {"pgd": "PGD, 5 steps"}},
        str(tmp_path / "attacks.csv"),
        str(tmp_path / "attacks.md"),
        warnings[:1],
    )
    written = pd.read_csv(tmp_path / "attacks.csv", keep_default_na=False)
    assert written["warnings"].tolist() == ["", "pgd fooled 2", ""]
    assert (tmp_path / "attacks.md").read_text().endswith("\n\nTo be minded:\n\n- PGD, 5 steps fooled 2.\n")
    roles = pd.DataFrame(
        {"adversarial_set": ["pgd", "fgsm"], "attacker": ["a", "b"], "stopping_classifier": ["c", None]}
    )
    assert with_warnings(roles, warnings)["warnings"].tolist() == ["pgd fooled 2; c guesses", ""]
