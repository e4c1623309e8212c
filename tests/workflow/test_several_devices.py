"""Trainings in two processes, as a profile that gives a job two GPUs asks for them; on the CPU."""

import shutil
from pathlib import Path

import pandas as pd
import pytest

from tests.workflow.study import Study, tiny_config

pytestmark = pytest.mark.workflow

TWO = ("--resources", "gpu=2", "--set-resources", "classifier:gpu=2", "denoiser:gpu=2", "guided_denoiser:gpu=2")


def test_a_study_goes_on_with_two_devices_a_training(study: Study) -> None:
    """A classifier and both kinds of denoisers; nothing that is there is made again, and nothing else is left."""
    config = tiny_config()
    config["classifiers"]["vgg19"] = {"architecture": "vgg19", "options": {"width": 0.05}}
    plain = config["denoisers"]["unet"]
    config["denoisers"]["second"] = {**plain, "architecture": "fusionnet"}
    config["denoisers"]["guided"] = {**plain, "loss": "logits", "guide": "resnet18"}
    study.configure(config)
    made = {"classifiers/vgg19", "denoisers/second", "denoisers/guided"}
    results = study.folder / "results/tiny"
    jobs = study.run(*(f"results/tiny/{folder}/checkpoint.pt" for folder in made), *TWO)
    assert set(jobs) == {"classifier classifier=vgg19", "denoiser denoiser=second", "guided_denoiser denoiser=guided"}
    for folder in made:
        log = (results / "logs" / f"{folder}.log").read_text(encoding="utf-8")
        assert "training in 2 processes, on cpu, cpu" in log, log
        assert "CPU seconds" in log.splitlines()[-1]
        assert len(pd.read_csv(results / folder / "history.csv")) == (2 if "vgg19" in folder else 1)
        assert not (results / folder / "resume.pt").exists()


def test_a_batch_that_cannot_be_shared_is_refused_in_the_log(study: Study) -> None:
    config = tiny_config()
    config["classifiers"]["resnet18"]["training"] = {"batch_size": 9}
    study.configure(config)
    target = "classifiers/resnet18/checkpoint.pt"
    shutil.rmtree(study.folder / Path("results/tiny") / target.rpartition("/")[0])
    run = study.snakemake(f"results/tiny/{target}", *TWO, check=False)
    assert run.returncode != 0
    message = "classifiers.resnet18.training.batch_size: a batch of 9 images cannot be shared equally by 2 devices"
    assert message in (study.folder / "results/tiny/logs/classifiers/resnet18.log").read_text(encoding="utf-8")
