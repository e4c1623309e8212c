"""What brings package and reference together: one network in both, images in memory for both, the study's CSV files."""

from pathlib import Path

import numpy as np
import pandas as pd
import torch

from perturbflow.classifiers import classifier as package
from perturbflow.classifiers.taps import Tap
from tests.reference.networks import Classifier

LOGIT_ROUNDING = 1e-5
"""How far off the study's logits, below 1, are in single precision. Where that decides, both answers are right."""

# Numbers that are the same in single precision, in which the package holds them.
NORMALIZATION = {"mean": (0.5, 0.25, 0.5), "std": (0.5, 0.25, 1.0)}


def classifier_of_the_package(reference: Classifier) -> package.Classifier:
    """The same network with the same feature maps, written as the package writes them."""
    taps = []
    for feature_map in reference.feature_maps:
        element = "".join(f"[{key}]" for key in feature_map.element)
        taps.append(Tap("", feature_map.module + element, "spatial", feature_map.relu, feature_map.cut))
    normalization = {name: getattr(reference, name).flatten().tolist() for name in ("mean", "std")}
    built = package.Classifier(reference.network, taps, reference.input_size, normalization)
    built.register_forward_pre_hook(lambda module, inputs: (inputs[0].double(),))
    return built.double().eval().requires_grad_(False)


def images_in_memory(n_images: int, size: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Clean images, uint8 (N, H, W, 3), and the same under two conditions, float32.

    The first image is black, the second is as it was under the first condition.
    """
    generator = np.random.default_rng(0)
    clean = generator.integers(0, 256, (n_images, size, size, 3), np.uint8)
    clean[0] = 0
    noise = generator.normal(0, 30, (2, *clean.shape))
    noise[0, 1] = 0
    return clean, {
        name: (clean + noise[row]).clip(0, 255).astype(np.float32) for row, name in enumerate(["none", "unet"])
    }


def as_reference(images: np.ndarray) -> list[torch.Tensor]:
    """(N, H, W, 3) -> float64 (3, H, W) each."""
    return list(torch.from_numpy(images.astype(np.float64)).permute(0, 3, 1, 2))


def read_csv(path: Path) -> pd.DataFrame:
    """A CSV file of the study, in which `none` is a name."""
    return pd.read_csv(path, keep_default_na=False, na_values=[""])
