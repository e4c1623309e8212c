"""Which jobs run after which change. Every test starts from a finished study and really asks Snakemake."""

import re
from collections import Counter
from pathlib import Path

import h5py
import pandas as pd
import pytest

from perturbflow.vocabulary import set_colors
from tests.workflow.study import Study, jobs, tiny_config

pytestmark = pytest.mark.workflow

LABELLED_TABLES = [*(f"table{n}" for n in range(1, 6)), "attacks", "decision_planes", "amplification", "claims"]
TABLES = [*LABELLED_TABLES, "warnings"]
FIGURES = ["figure figure=figure2", "figure figure=figure3"]
GEOMETRY_FIGURE = "geometry_figure classifier=resnetv2_50"
INTERVENTION_FIGURE = "intervention_figure classifier=resnetv2_50"
INTERVENE = "intervene classifier=resnetv2_50, adversarial_set=fgsm"
SETS = ["fgsm", "ifgsm", "noise"]
# What depends on the distances, and on the accuracy, of every set.
OF_ALL_SETS = ["table1", "table5", "decision_planes", *FIGURES, GEOMETRY_FIGURE, "warnings"]
# What depends on fgsm, its control and the interventions with it.
OF_FGSM = ["amplification", "claims", INTERVENE, INTERVENTION_FIGURE]


def of_set(adversarial_set: str) -> list[str]:
    """The jobs that make and measure one adversarial set."""
    rule = "control" if adversarial_set == "noise" else "adversarial"
    return [
        f"{rule} adversarial_set={adversarial_set}",
        denoised(adversarial_set),
        *measured(adversarial_set),
    ]


def denoised(adversarial_set: str) -> str:
    return f"denoised denoiser=unet, adversarial_set={adversarial_set}"


def measured(adversarial_set: str) -> list[str]:
    return [
        f"mean_squared_error adversarial_set={adversarial_set}",
        f"measure classifier=resnetv2_50, adversarial_set={adversarial_set}",
    ]


def test_the_first_run_runs_every_job_once(finished_study: Study) -> None:
    assert finished_study.first_run == Counter(
        [
            "data",
            "classifier classifier=resnet18",
            "classifier classifier=resnetv2_50",
            "denoiser denoiser=unet",
            *(job for name in SETS for job in of_set(name)),
            INTERVENE,
            *TABLES,
            *FIGURES,
            GEOMETRY_FIGURE,
            INTERVENTION_FIGURE,
        ]
    )


def test_neither_another_place_nor_how_it_runs_reruns_anything(study: Study, tmp_path: Path) -> None:
    moved = Study((study.folder).rename(tmp_path / "elsewhere"))
    config = tiny_config()
    config["compute"] |= {"batch_size": 7, "threads": 2}
    moved.configure(config)
    assert moved.run() == Counter()


def test_the_step_of_one_attack_reruns_that_set_and_what_follows(study: Study) -> None:
    config = tiny_config()
    config["adversarial_sets"]["ifgsm"]["step"] = 4.0
    study.configure(config)
    # Table 2 lists the steps; Table 3 is about the classifiers alone.
    assert study.stale() == Counter([*of_set("ifgsm"), "table2", "table4", "attacks", *OF_ALL_SETS])


def test_the_step_of_an_attack_that_a_denoiser_is_trained_on_reruns_the_denoiser_too(study: Study) -> None:
    config = tiny_config()
    config["adversarial_sets"]["fgsm"]["step"] = 4.0
    study.configure(config)
    follows = [*of_set("fgsm"), *of_set("noise"), "denoiser denoiser=unet", denoised("ifgsm"), *measured("ifgsm")]
    assert study.stale() == Counter([*follows, "table2", "table4", "attacks", *OF_ALL_SETS, *OF_FGSM])


def test_the_colour_of_a_figure_reruns_that_figure_alone(study: Study) -> None:
    config = tiny_config()
    config["figures"]["figure2"]["colors"] = {"fgsm": "#117733"}
    study.configure(config)
    assert study.stale() == Counter(["figure figure=figure2"])


def test_a_label_of_the_vocabulary_redraws_tables_and_figures_alone(study: Study) -> None:
    study.edit("perturbflow/vocabulary.py", '"U-Net"', '"U-net"')
    assert jobs(study.snakemake("--dry-run").stdout) == Counter(
        [*LABELLED_TABLES, *FIGURES, GEOMETRY_FIGURE, INTERVENTION_FIGURE]
    )


def test_labels_and_colours_of_the_study_are_those_of_all_its_tables_and_figures(study: Study) -> None:
    config = tiny_config()
    config["classifiers"]["resnetv2_50"]["label"] = "The small net"
    config["adversarial_sets"]["noise"]["label"] = "Noise, ± 1"
    config["denoisers"]["unet"]["label"] = "Small U-Net"
    config["figures"]["figure3"]["adversarial_sets"] = ["noise"]
    study.configure(config)
    assert study.run() == Counter([*LABELLED_TABLES, *FIGURES, GEOMETRY_FIGURE, INTERVENTION_FIGURE])

    results = study.folder / "results/tiny"
    colors = set_colors(SETS)
    assert colors.pop("ifgsm") == "#000000"  # the colour of axes as well
    for figure, sets in [("figure2", [*colors]), ("figure3", ["noise"]), ("geometry/resnetv2_50", [*colors])]:
        svg = (results / f"figures/{figure}.svg").read_text(encoding="utf-8")
        assert {name for name, color in colors.items() if f"stroke: {color.lower()}" in svg} == set(sets)
        assert all(f">{label}<" in svg for label in ("The small net", "Noise, ± 1", "w/ Small U-Net"))
    assert ">The small net<" in (results / "figures/interventions/resnetv2_50.svg").read_text(encoding="utf-8")
    for table, label in [
        ("table1", "denoiser Small U-Net"),
        ("table2", "| Noise, ± 1 "),
        ("table3", "| The small net |"),
        ("table4", "| Small U-Net |"),
        ("table5", "| The small net w/ Small U-Net |"),
        ("decision_planes", "**The small net**"),
        ("amplification", "| Noise, ± 1 "),
        ("claims", "| The small net "),
    ]:
        assert label in re.sub(" +", " ", (results / f"tables/{table}.md").read_text(encoding="utf-8")), table


def test_the_code_of_the_attacks_reruns_the_sets_but_no_classifier(study: Study) -> None:
    study.edit("perturbflow/attacks/gradient_sign.py", "images = images.detach()", "images = images.clone().detach()")
    expected = [*(job for name in SETS for job in of_set(name)), "denoiser denoiser=unet"]
    assert study.stale() == Counter([*expected, "table4", "attacks", *OF_ALL_SETS, *OF_FGSM])


def test_the_code_of_the_controls_reruns_the_control_alone(study: Study) -> None:
    study.edit("perturbflow/attacks/noise.py", "1.0 - 2 * generator", "1 - 2.0 * generator")
    expected = [*of_set("noise"), "table4", "attacks", *OF_ALL_SETS, "amplification"]
    assert study.stale() == Counter(expected)


def test_the_code_of_the_distances_reruns_measuring_alone(study: Study) -> None:
    study.edit(
        "perturbflow/measuring/metrics.py",
        "change.difference.shape[1:].numel()",
        "(0 + change.difference.shape[1:].numel())",
    )
    measure = [f"measure classifier=resnetv2_50, adversarial_set={name}" for name in SETS]
    assert study.stale() == Counter([*measure, *OF_ALL_SETS, *OF_FGSM])


def test_the_code_of_the_interventions_reruns_these_alone(study: Study) -> None:
    study.edit(
        "perturbflow/measuring/interventions.py",
        "from __future__ import annotations",
        "from __future__ import annotations\n\nUNUSED = 0",
    )
    assert study.stale() == Counter([INTERVENE, INTERVENTION_FIGURE])


def test_the_code_of_the_claims_reruns_that_table_alone(study: Study) -> None:
    study.edit(
        "perturbflow/tables/claims/statements.py",
        "from __future__ import annotations",
        "from __future__ import annotations\n\nUNUSED = 0",
    )
    assert study.stale() == Counter(["claims"])


def test_the_code_of_the_figures_reruns_the_figures_alone(study: Study) -> None:
    study.edit(
        "perturbflow/figures/propagation.py",
        "from __future__ import annotations",
        "from __future__ import annotations\n\nUNUSED = 0",
    )
    assert study.stale() == Counter(FIGURES)


def test_a_comment_a_docstring_and_layout_rerun_nothing(study: Study) -> None:
    for module in (study.folder / "perturbflow").rglob("*.py"):
        module.write_text(module.read_text(encoding="utf-8") + "\n\n# A new comment.\n", encoding="utf-8")
    for file in (study.folder / "perturbflow").rglob("__init__.py"):
        assert file.read_text(encoding="utf-8").startswith('"""')
        file.write_text('"""Something else."""\n', encoding="utf-8")
    (study.folder / "perturbflow/machine/__init__.py").write_text("", encoding="utf-8")
    study.edit(
        "perturbflow/attacks/gradient_sign.py",
        '"""Gradient of the cross-entropy',
        '"""The gradient of the cross-entropy',
    )
    study.edit("workflow/scripts/measure.py", "def main() -> None:", "def main() -> None:  # measures\n")
    assert study.run() == Counter()


def test_the_code_of_augmentation_retrains_classifiers_and_no_denoiser(study: Study) -> None:
    """Checkpoints of equal weights are equal files: what is stale then is so for its own code."""
    study.edit("perturbflow/classifiers/training.py", "low, high = crop_scale", "low, high = tuple(crop_scale)")
    checkpoint = "results/tiny/classifiers/resnet18/checkpoint.pt"
    assert study.run(checkpoint) == Counter(["classifier classifier=resnet18"])
    measure = [f"measure classifier=resnetv2_50, adversarial_set={name}" for name in SETS]
    other = ["classifier classifier=resnetv2_50", "table3", *measure, *OF_ALL_SETS, *OF_FGSM]
    assert study.stale() == Counter(other)

    study.edit("perturbflow/denoisers/training.py", "import torch\n", "import torch\n\nUNUSED = 0\n")
    follows = ["denoiser denoiser=unet", *(job for name in SETS for job in [denoised(name), measured(name)[0]])]
    assert study.stale() == Counter([*other, *follows, "table4", "attacks"])


def test_one_artifact_can_be_asked_for_by_its_path(study: Study) -> None:
    for adversarial_set in ("ifgsm", "fgsm"):
        (study.folder / f"results/tiny/distances/resnetv2_50/{adversarial_set}.csv").unlink()
    jobs = study.stale("results/tiny/distances/resnetv2_50/ifgsm.csv")
    assert jobs == Counter(["measure classifier=resnetv2_50, adversarial_set=ifgsm"])


def test_a_path_with_an_unknown_name_is_refused(study: Study) -> None:
    result = study.snakemake("results/tiny/distances/resnetv2_50/fgsm_v9.csv", check=False)
    assert result.returncode != 0
    assert "fgsm_v9" in result.stdout


def test_the_artifacts_are_what_the_documentation_says(finished_study: Study) -> None:
    results = finished_study.folder / "results/tiny"
    with h5py.File(results / "adversarial/fgsm/train.h5") as adversarial, h5py.File(results / "data/train.h5") as data:
        assert adversarial["images"].shape == data["images"].shape == (48, 32, 32, 3)
        assert adversarial["images"].dtype == "float32"
        assert (adversarial["label"][:] == data["label"][:]).all()
        largest_change = abs(adversarial["images"][:] - data["images"][:]).max(axis=(1, 2, 3))
        assert (largest_change <= 8.0 * adversarial["steps"][:] + 1e-4).all()
        assert not largest_change[adversarial["already_misclassified"][:]].any()
        accuracy_during_attack = 1 - (adversarial["succeeded"][:] | adversarial["already_misclassified"][:]).mean()
        assert set(adversarial.attrs) >= {"config", "versions", "git_commit", "attacker_sha256"}
    accuracy = pd.read_csv(results / "accuracy/resnetv2_50/fgsm.csv")
    assert len(accuracy) == 4
    distances = pd.read_csv(results / "distances/resnetv2_50/fgsm.csv")
    assert distances.groupby("denoiser").position.apply(list).to_dict() == {
        "none": [*range(1, 9)],
        "unet": [*range(1, 9)],
    }
    per_image = pd.read_csv(results / "distances/resnetv2_50/fgsm_images.csv.gz")
    means = per_image.groupby(["denoiser", "position"]).cosine.mean().reset_index(drop=True)
    assert means.tolist() == pytest.approx(distances.cosine_mean.tolist())
    assert 0 <= accuracy_during_attack <= 1
