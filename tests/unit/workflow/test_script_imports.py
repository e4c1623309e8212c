"""No job pays for modules that it does not need: what each script must not import, in a process of its own."""

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.workflow import import_statements

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
    "geometry_figure": FIGURE,
    "guided_denoiser": TRAINING,
    "intervene": MEASURING,
    "intervention_figure": FIGURE,
    "join_adversarial": set(),
    "join_denoised": set(),
    "mean_squared_error": TABLE,
    "measure": MEASURING,
    "table": TABLE,
}


def scripts(repository: Path) -> dict[str, Path]:
    return {path.stem: path for path in (repository / "workflow/scripts").glob("*.py")}


def test_every_script_is_listed(repository: Path) -> None:
    assert set(scripts(repository)) == set(MAY_IMPORT)


@pytest.mark.parametrize("script", MAY_IMPORT)
def test_a_script_imports_nothing_that_it_does_not_need(script: str, repository: Path) -> None:
    unwanted = NOBODY | (OPTIONAL - MAY_IMPORT[script])
    statements = import_statements(scripts(repository)[script])
    run = subprocess.run(
        [sys.executable, "-c", f"{statements}\nimport sys\nprint(*{unwanted} & set(sys.modules))"],
        env={"PYTHONPATH": str(repository)},
        capture_output=True,
        text=True,
    )
    assert (run.returncode, run.stderr, run.stdout.split()) == (0, "", [])
