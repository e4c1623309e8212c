"""The workflow's decision planes, from logits to the CSV file, against the reference."""

import pandas as pd
import pytest
import torch

from perturbflow.measuring.decision_planes import centred_change
from perturbflow.measuring.margins import margins
from perturbflow.measuring.propagation import LayerDistances, prediction_frame
from perturbflow.results.writing import write_csv
from perturbflow.tables.decision_planes import TABLE
from perturbflow.tables.table import write_table
from tests.reference import decision_planes as reference

SETS = ["fgsm", "sign", "gaussian", "ifgsm"]
CONTROLS = {"sign": "fgsm", "gaussian": "fgsm"}
N_IMAGES, N_CLASSES = 14, 6


def made_up_logits(n_trainings: int) -> tuple[torch.Tensor, dict[str, torch.Tensor], torch.Tensor]:
    """Clean ones (n_trainings, N, n_classes), those of each set, and labels; single precision, as of a network.

    FGSM shortens them, noise turns them; i-FGSM leaves the first image as it was, in the last training every third.
    """
    generator = torch.Generator().manual_seed(n_trainings)

    def random(scale: float) -> torch.Tensor:
        return scale * torch.randn(n_trainings, N_IMAGES, N_CLASSES, generator=generator)

    clean = 4 + random(3)
    # What softmax does not see: another number on all logits of each image.
    shifts = 5 * torch.randn(n_trainings, N_IMAGES, 1, generator=generator)
    sets = {
        "fgsm": 0.5 * clean + random(0.6) + shifts,
        "sign": clean + random(0.5) - shifts,
        "gaussian": clean + random(0.4),
        "ifgsm": clean * 0.8 + random(1.0),
    }
    sets["ifgsm"][:, 0] = clean[:, 0]
    sets["ifgsm"][-1, ::3] = clean[-1, ::3]
    return clean, sets, torch.arange(N_IMAGES) % N_CLASSES


def written_table(
    folder, clean: torch.Tensor, sets: dict[str, torch.Tensor], labels: torch.Tensor, controls: dict[str, str]
) -> pd.DataFrame:
    """What the workflow makes of the logits: predictions/<classifier>/<set>.csv.gz, then the table from these."""
    paths = []
    for replicate in range(len(clean)):
        for name, trainings in sets.items():
            logits = torch.stack([clean[replicate], trainings[replicate]])
            measured = LayerDistances(
                {},
                {},
                torch.zeros(0).numpy(),
                logits.argmax(-1).numpy(),
                margins(logits, labels).numpy(),
                {column: values.numpy() for column, values in centred_change(logits).items()},
            )
            home = folder / f"replicates/{replicate}" if replicate else folder
            path = home / f"predictions/net/{name}.csv.gz"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_csv(prediction_frame(measured, ["none"], 3 * torch.arange(N_IMAGES).numpy(), labels.numpy()), path)
            paths.append(str(path))
    settings = {"classifiers": ["net"], "adversarial_sets": [*sets], "denoisers": [], "controls": controls}
    write_table(TABLE, {"predictions": paths}, settings, {}, str(folder / "planes.csv"), str(folder / "planes.md"))
    return pd.read_csv(folder / "planes.csv")


@pytest.mark.parametrize("n_trainings", [1, 2])
def test_decision_planes_are_those_of_the_reference(tmp_path, n_trainings: int) -> None:
    clean, sets, labels = made_up_logits(n_trainings)
    table = written_table(tmp_path, clean, sets, labels, CONTROLS)
    logits = {name: trainings.tolist() for name, trainings in sets.items()}
    expected = reference.decision_planes(clean.tolist(), logits, labels.tolist(), CONTROLS)
    assert len(table) == len(expected) == 6
    assert {*table["verdict"]} > {"radial", "more tangential"}
    for row, of_reference in zip(table.to_dict("records"), expected, strict=True):
        for column, value in of_reference.items():
            # The file has six digits.
            close = value if isinstance(value, str) else pytest.approx(value, rel=2e-5, nan_ok=True)
            assert row[column] == close, column


def test_without_controls_adversaries_stand_alone(tmp_path) -> None:
    clean, sets, labels = made_up_logits(1)
    table = written_table(tmp_path, clean, sets, labels, {})
    logits = {name: trainings.tolist() for name, trainings in sets.items()}
    expected = reference.decision_planes(clean.tolist(), logits, labels.tolist(), {})
    assert table["perturbation"].tolist() == [row["perturbation"] for row in expected] == ["adversary"] * 4
    assert table["verdict_holm"].tolist() == [row["verdict_holm"] for row in expected]
