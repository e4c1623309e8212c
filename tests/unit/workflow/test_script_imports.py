"""No job pays for modules that it does not need: what each script must not import."""

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.workflow import import_statements
from perturbflow.planning.source_digest import source_digests

# What no script needs to start: the checks of a config, which only Snakemake's process makes; one source of images;
# windows.
NOBODY = {
    "jsonschema",
    "snakemake",
    "sklearn",
    "matplotlib.pyplot",
    "IPython",
}
OPTIONAL = {"torch", "timm", "torchvision", "foolbox", "pandas", "scipy", "matplotlib"}

ATTACK = {"torch", "timm", "torchvision", "foolbox", "scipy"}
MEASURING = {"torch", "timm", "torchvision", "pandas", "scipy"}
TRAINING = {"torch", "timm", "torchvision", "pandas"}
FIGURE = {"pandas", "matplotlib"}
TABLE = {"pandas"}
POOLED = {"pandas", "scipy"}
MAY_IMPORT = {
    "adaptive_adversarial": ATTACK,
    "adversarial": ATTACK,
    "classifier": TRAINING,
    "control": set(),
    "data": set(),
    "denoised": {"torch"},
    "denoiser": {"torch", "pandas"},
    "figure": FIGURE,
    "foolbox_adversarial": ATTACK,
    "guided_denoiser": TRAINING,
    "intervene": MEASURING,
    "join_adversarial": set(),
    "join_denoised": set(),
    "mean_squared_error": TABLE,
    "measure": MEASURING,
    "pool_interventions": POOLED,
    "pool_measurements": POOLED,
    "pool_study": POOLED,
    "study_warnings": TABLE,
    "table": TABLE,
}


def scripts(repository: Path) -> dict[str, Path]:
    return {path.stem: path for path in (repository / "workflow/scripts").glob("*.py")}


def test_every_script_is_listed(repository: Path) -> None:
    assert set(scripts(repository)) == set(MAY_IMPORT)


def chains() -> list[list[str]]:
    """The scripts in rows in which each may import all that those before it may."""
    rows: list[list[str]] = []
    for script in sorted(MAY_IMPORT, key=lambda script: len(MAY_IMPORT[script])):
        row = next((row for row in rows if MAY_IMPORT[row[-1]] <= MAY_IMPORT[script]), None)
        if row is None:
            rows.append(row := [])
        row.append(script)
    return rows


@pytest.mark.slow
@pytest.mark.parametrize("row", chains(), ids=", ".join)
def test_a_script_imports_nothing_that_it_does_not_need(row: list[str], repository: Path) -> None:
    """In one process a row, since to import torch and timm takes seconds."""
    program = "import sys\n"
    for script in row:
        unwanted = NOBODY | (OPTIONAL - MAY_IMPORT[script])
        program += f"{import_statements(scripts(repository)[script])}\n"
        program += f"print({script!r}, *sorted({unwanted} & set(sys.modules)))\n"
    run = subprocess.run(
        [sys.executable, "-c", program], env={"PYTHONPATH": str(repository)}, capture_output=True, text=True
    )
    assert (run.returncode, run.stderr, run.stdout.splitlines()) == (0, "", row)


TRAINS_CLASSIFIERS = {"classifiers/train.py", "classifiers/training.py", "training.py"}
TRAINS_DENOISERS = {"denoisers/train.py", "denoisers/training.py", "training.py"}
ADAPTIVE = {"attacks/adaptive_set.py", "denoisers/defended.py", "denoisers/networks.py"}
FOOLBOX = {f"attacks/{module}.py" for module in ("foolbox_set", "foolbox_attack", "foolbox_options", "random_numbers")}
GUIDED = {"denoisers/guided_train.py", "denoisers/guided_loss.py", "classifiers/building.py"}
MEASURED = {"measuring/measure.py", "measuring/propagation.py", "classifiers/accuracy.py"}
INTERVENED = {"measuring/intervene.py", "measuring/interventions.py"}
# Modules an edit of which must not rerun what a script makes.
DEPENDS_NOT_ON = {
    "adaptive_adversarial": TRAINS_CLASSIFIERS | TRAINS_DENOISERS | {"attacks/noise.py"},
    "adversarial": FOOLBOX | ADAPTIVE | TRAINS_CLASSIFIERS | {"attacks/noise.py", "classifiers/accuracy.py"},
    "classifier": TRAINS_DENOISERS - {"training.py"} | {"attacks/gradient_sign.py", "files/sets.py"},
    "control": {"attacks/adversarial_set.py", "attacks/gradient_sign.py", "classifiers/building.py"},
    "denoised": TRAINS_DENOISERS | GUIDED | {"attacks/adversarial_set.py"},
    "denoiser": TRAINS_CLASSIFIERS - {"training.py"} | GUIDED | {"attacks/adversarial_set.py", "files/sets.py"},
    "foolbox_adversarial": ADAPTIVE | TRAINS_CLASSIFIERS | {"attacks/gradient_sign_set.py", "attacks/noise.py"},
    "guided_denoiser": TRAINS_CLASSIFIERS - {"training.py"} | {"attacks/adversarial_set.py", "files/sets.py"},
    "intervene": MEASURED | TRAINS_CLASSIFIERS | {"measuring/mse.py", "files/sets.py"},
    "mean_squared_error": MEASURED | INTERVENED | {"files/sets.py"},
    "measure": INTERVENED | TRAINS_CLASSIFIERS | {"measuring/mse.py", "files/sets.py"},
}


@pytest.mark.parametrize("script", DEPENDS_NOT_ON)
def test_an_edit_elsewhere_reruns_no_script_that_need_not(script: str, repository: Path) -> None:
    others = {f"perturbflow/{module}" for module in DEPENDS_NOT_ON[script]}
    assert all((repository / module).is_file() for module in others)
    assert not others & source_digests(scripts(repository)[script], repository).keys()
