"""What came of each attack, and the warnings beside a table's numbers."""

import pandas as pd
import pytest

from perturbflow.results.warnings import StudyWarning
from perturbflow.tables.attacks import TABLE
from perturbflow.tables.table import with_warnings, write_table

HEAD = "adversarial_set,split,n_images,n_wrong_before,n_fooled,steps_mean,l2_mean,l2_max,linf_mean,linf_max\n"


@pytest.fixture
def sets(tmp_path):
    rows = {"fgsm": "fgsm,val,4,1,2,3.7,5,9,2,4", "pgd": "pgd,val,4,,2,,5,9,2,4", "noise": "noise,val,4,,,,3.75,9,1,4"}
    for name, row in rows.items():
        (tmp_path / f"{name}.csv").write_text(f"{HEAD}{row}\n")
    return [str(tmp_path / f"{name}.csv") for name in rows]


def test_warnings_stand_beside_the_rows_that_they_touch(sets, tmp_path):
    warnings = [StudyWarning("adversarial_set", "pgd", "fooled 2"), StudyWarning("classifier", "c", "guesses")]
    labels = {"adversarial_sets": {"pgd": "PGD, 5 steps"}}
    paths = str(tmp_path / "attacks.csv"), str(tmp_path / "attacks.md")
    write_table(TABLE, {"sets": sets}, {"adversarial_sets": ["fgsm", "pgd", "noise"]}, labels, *paths, warnings)
    written = pd.read_csv(paths[0], keep_default_na=False)
    assert written["warnings"].tolist() == ["", "pgd: fooled 2", ""]
    assert written["n_wrong_before"].tolist() == ["1", "", ""] and written["n_fooled"].tolist() == ["2", "2", ""]
    text = (tmp_path / "attacks.md").read_text(encoding="utf-8")
    assert text.endswith("\n\nTo be minded:\n\n- PGD, 5 steps: fooled 2.\n")
    roles = pd.DataFrame(
        {"adversarial_set": ["pgd", "fgsm"], "attacker": ["a", "b"], "stopping_classifier": ["c", None]}
    )
    assert with_warnings(roles, warnings)["warnings"].tolist() == ["pgd: fooled 2; c: guesses", ""]
