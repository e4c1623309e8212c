"""A network trained on ImageNet, as it is, on photographs."""

import pytest
import torch

from perturbflow.classifiers.accuracy import top1_of_array
from perturbflow.classifiers.building import classifier_of_data, load_classifier, save_classifier
from perturbflow.data.photographs import photographs
from perturbflow.planning.checks import mistakes
from tests.inputs import decode, load_config

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def photos():
    return decode(photographs({"splits": ["val"]}, 0)["val"], 224)


@pytest.mark.parametrize(("predict_among", "n_logits", "at_least"), [("all", 1000, 17), ("data", 19, 18)])
def test_lite0_knows_what_is_on_the_photographs(repository, photos, tmp_path, predict_among, n_logits, at_least):
    """Of its own size, normalisation and interpolation, which timm tells; from a checkpoint as well."""
    settings = load_config(repository / "config/look.yaml")["classifiers"]["lite0"]
    settings |= {"input_size": None, "predict_among": predict_among}
    classifier, description = classifier_of_data(settings, photos.class_names)
    assert (classifier.input_size, classifier.interpolation) == (224, "bicubic")
    save_classifier(tmp_path / "checkpoint.pt", classifier, description)
    loaded = load_classifier(tmp_path / "checkpoint.pt", CPU)
    assert 20 * top1_of_array(loaded, photos.images, photos.labels, 20, CPU) >= at_least
    with torch.no_grad():
        assert loaded(torch.zeros(1, 3, 224, 224)).shape == (1, n_logits)


def test_the_look_is_right(repository):
    assert mistakes(load_config(repository / "config/look.yaml")) == []


def test_the_photographs_are_a_val_split(repository):
    config = load_config(repository / "config/look.yaml")
    config["data"]["splits"] = ["train", "val"]
    (mistake,) = mistakes(config)
    assert mistake.startswith("data: the photographs are a val split alone")
