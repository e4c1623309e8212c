"""Trainings in two processes, as a profile that gives a job two GPUs asks for them; on the CPU."""

import pandas as pd
import pytest

from tests.workflow.study import Study, jobs, tiny_config

pytestmark = pytest.mark.workflow

TWO = ("--resources", "gpu=2", "--set-resources", "classifier:gpu=2", "denoiser:gpu=2", "guided_denoiser:gpu=2")


def test_a_study_goes_on_with_two_devices_a_training(study: Study) -> None:
    """A classifier and both kinds of denoisers; nothing that is there is made again, and nothing else is left.

    Beside them a batch that cannot be shared, which is refused in the log.
    """
    config = tiny_config()
    config["classifiers"]["resnetv2_50"]["training"] = {"batch_size": 9}
    config["classifiers"]["vgg19"] = {"architecture": "vgg19", "options": {"width": 0.05}}
    plain = config["denoisers"]["unet"]
    config["denoisers"]["second"] = {**plain, "architecture": "fusionnet"}
    config["denoisers"]["guided"] = {**plain, "loss": "logits", "guide": "resnet18"}
    study.configure(config)
    made = {"classifiers/vgg19", "denoisers/second", "denoisers/guided"}
    results = study.folder / "results/tiny"
    refused = "classifiers/resnetv2_50"
    run = study.snakemake(*(f"results/tiny/{folder}/checkpoint.pt" for folder in [*made, refused]), *TWO, check=False)
    assert run.returncode != 0
    classifiers = {"classifier classifier=vgg19", "classifier classifier=resnetv2_50"}
    assert jobs(run.stdout).keys() == {*classifiers, "denoiser denoiser=second", "guided_denoiser denoiser=guided"}
    for folder in made:
        log = (results / "logs" / f"{folder}.log").read_text(encoding="utf-8")
        assert "training in 2 processes, on cpu, cpu" in log, log
        assert "CPU seconds" in log.splitlines()[-1]
        assert len(pd.read_csv(results / folder / "history.csv")) == (2 if "vgg19" in folder else 1)
        assert not (results / folder / "resume.pt").exists()
    message = "classifiers.resnetv2_50.training.batch_size: a batch of 9 images cannot be shared equally by 2 devices"
    assert message in (results / f"logs/{refused}.log").read_text(encoding="utf-8")
