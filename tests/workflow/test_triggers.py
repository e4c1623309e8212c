"""The profiles' rerun-triggers leave out that a job's list of inputs changed. Nothing stale is missed for that."""

import re
import shutil
from collections.abc import Callable
from typing import Any

import pytest

from tests.workflow.study import Study, tiny_config

pytestmark = pytest.mark.workflow

Config = dict[str, Any]


def another_set(config: Config) -> None:
    config["adversarial_sets"]["ifgsm2"] = {**config["adversarial_sets"]["ifgsm"], "max_steps": 1}


def no_set(config: Config) -> None:
    del config["adversarial_sets"]["ifgsm"]


def other_order_of_sets(config: Config) -> None:
    config["adversarial_sets"] = dict(reversed(config["adversarial_sets"].items()))


def a_set_of_the_papers_name(config: Config) -> None:
    config["adversarial_sets"]["fgsm_v1"] = config["adversarial_sets"].pop("ifgsm")


def other_stopping_classifier(config: Config) -> None:
    config["adversarial_sets"]["ifgsm"]["stopping_classifier"] = "resnetv2_50"


def other_attacker(config: Config) -> None:
    config["adversarial_sets"]["ifgsm"]["attacker"] = "resnetv2_50"


def a_denoiser_that_the_attacker_knows(config: Config) -> None:
    config["adversarial_sets"]["ifgsm"]["denoiser"] = "unet"


def other_norm(config: Config) -> None:
    config["adversarial_sets"]["noise"]["norm_of"] = "ifgsm"


def another_denoiser(config: Config) -> None:
    config["denoisers"]["other"] = config["denoisers"]["unet"]


def other_mix(config: Config) -> None:
    config["denoisers"]["unet"]["mix"] = {"fgsm": 0.5, "ifgsm": 0.5}


def a_guide(config: Config) -> None:
    config["denoisers"]["unet"] |= {"loss": "logits", "guide": "resnetv2_50"}


def other_split(config: Config) -> None:
    config["measure"]["split"] = "val"


def another_measured_classifier(config: Config) -> None:
    config["measure"]["classifiers"].append("resnet18")


def other_interventions(config: Config) -> None:
    config["interventions"]["adversarial_sets"] = ["ifgsm"]


def other_classifier_of_table1(config: Config) -> None:
    """One that is measured for this table alone."""
    config["tables"]["table1"]["classifier"] = "resnet18"


def a_table7(config: Config) -> None:
    another_measured_classifier(config)
    config["tables"]["table7"] = {"classifiers": ["resnet18"]}


def other_sets_of_a_figure(config: Config) -> None:
    config["figures"]["figure2"]["adversarial_sets"] = ["ifgsm"]


def weights_of_a_file(config: Config) -> None:
    config["classifiers"]["resnet18"]["weights"] = "mine.pt"


EDITS: list[Callable[[Config], None]] = [
    another_set,
    no_set,
    other_order_of_sets,
    a_set_of_the_papers_name,
    other_stopping_classifier,
    other_attacker,
    a_denoiser_that_the_attacker_knows,
    other_norm,
    another_denoiser,
    other_mix,
    a_guide,
    other_split,
    another_measured_classifier,
    other_interventions,
    other_classifier_of_table1,
    a_table7,
    other_sets_of_a_figure,
    weights_of_a_file,
]


@pytest.fixture(scope="module")
def edited(finished_study: Study, tmp_path_factory: pytest.TempPathFactory) -> Study:
    study = finished_study.copy_to(tmp_path_factory.mktemp("edited") / "perturbflow")
    shutil.copy2(study.folder / "results/tiny/classifiers/resnet18/checkpoint.pt", study.folder / "mine.pt")
    return study


@pytest.mark.parametrize("edit", EDITS)
def test_whoever_has_other_inputs_has_other_params(edit: Callable[[Config], None], edited: Study) -> None:
    config = tiny_config()
    edit(config)
    edited.configure(config)
    plan = edited.snakemake("--dry-run", "--rerun-triggers", "mtime", "params", "input").stdout
    reasons = [reason.split("; ") for reason in re.findall(r"^    reason: (.*)$", plan, re.MULTILINE)]
    by_input = "Set of input files has changed since last execution"
    # Of a job whose inputs are newer than its outputs Snakemake does not ask further.
    assert any(by_input in reason or reason[0].startswith("Updated input files") for reason in reasons)
    assert [by_input] not in reasons
