"""What the reference runs, against what the package runs: input, feature maps by name, denoised images."""

import numpy as np
import pytest
import torch

from perturbflow.classifiers.building import load_classifier
from tests.reference.comparison import NORMALIZATION, as_reference, classifier_of_the_package, images_in_memory
from tests.reference.networks import Classifier, read_classifier, read_column, read_images, read_unet
from tests.reference.small_networks import Branching
from tests.workflow.study import Study


@pytest.mark.parametrize("input_size", [16, 27, 40, 11, 5], ids=lambda size: f"16 to {size}")
def test_images_are_resized_and_normalised_as_the_reference_does(input_size: int) -> None:
    clean, _ = images_in_memory(3, 16)
    reference = Classifier(Branching(seed=0), [], input_size, **NORMALIZATION)
    package = classifier_of_the_package(reference)
    logits = package(torch.stack(as_reference(clean)))
    for image, found in zip(as_reference(clean), logits, strict=True):
        torch.testing.assert_close(found, reference(image), rtol=0, atol=1e-10)
    assert logits.std(0).min() > 1e-4


@pytest.mark.workflow
@pytest.mark.parametrize("name", ["resnet18", "resnetv2_50"])
def test_the_study_s_classifiers_give_the_reference_s_logits(finished_study: Study, name: str) -> None:
    results = finished_study.folder / "results/tiny"
    path = results / f"classifiers/{name}/checkpoint.pt"
    reference, package = read_classifier(path), load_classifier(path, torch.device("cpu"))
    images = read_images(results / "data/val.h5")
    logits = package(torch.stack(images).float())
    expected = torch.stack([reference(image) for image in images])
    torch.testing.assert_close(logits.double(), expected, rtol=0, atol=1e-5 * float(expected.abs().max()))
    if name == "resnetv2_50":
        assert [tap.module for tap in package.taps] == [of_map.module for of_map in reference.feature_maps]
        assert [tap.rectify for tap in package.taps] == [of_map.relu for of_map in reference.feature_maps]


@pytest.mark.workflow
@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize("name", ["fgsm", "ifgsm", "noise"])
def test_the_study_s_denoised_images_are_the_reference_s(finished_study: Study, name: str, split: str) -> None:
    results = finished_study.folder / "results/tiny"
    unet = read_unet(results / "denoisers/unet/checkpoint.pt")
    adversarial, denoised = results / f"adversarial/{name}/{split}.h5", results / f"denoised/unet/{name}/{split}.h5"
    assert read_column(denoised, "index") == read_column(adversarial, "index")
    changes = []
    for image, found in zip(read_images(adversarial), read_images(denoised), strict=True):
        # Rounding to single precision, of pixels up to 255.
        torch.testing.assert_close(found, unet(image).clip(0, 255), rtol=0, atol=1e-4)
        changes.append(float((found - image).abs().max()))
    assert np.min(changes) > 0.1
