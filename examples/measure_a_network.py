"""Measure a network at every tap: how far an adversary moves its feature maps, and noise of the same size.

    python -m examples.measure_a_network [name of a network of timm]

The network has random weights here, so that nothing has to be downloaded; with `weights="imagenet"` it is timm's.
"""

import sys

import numpy as np
import torch

from perturbflow.attacks.gradient_sign import FGSM
from perturbflow.attacks.noise import sign_noise
from perturbflow.classifiers.building import build_classifier
from perturbflow.measuring.propagation import layer_distances

torch.manual_seed(0)
name = sys.argv[1] if len(sys.argv) > 1 else "resnet10t"
classifier = build_classifier(name, n_classes=10, input_size=64).eval().requires_grad_(False)

# Pixels as the workflow's files hold them: uint8 (N, H, W, 3).
clean = np.random.default_rng(0).integers(0, 256, (16, 64, 64, 3), dtype=np.uint8)
images = torch.from_numpy(clean).permute(0, 3, 1, 2)
labels = classifier(images.float()).argmax(1)

adversaries = np.empty(clean.shape, np.float32)
for finished in FGSM(step=1.0, max_steps=4, early_stop=False).stream(classifier, None, images, labels):
    adversaries[finished.index.numpy()] = finished.images.permute(0, 2, 3, 1).numpy()
noise = sign_noise(clean, adversaries, np.random.default_rng(0))

distances = layer_distances(
    classifier,
    clean,
    {"adversary": adversaries, "noise": noise},
    labels.numpy(),
    ["normalized_euclidean", "cosine", "relative_error"],
    batch_size=64,
    device=torch.device("cpu"),
)
print(f"{'tap':<24} {'NE-D':>9} {'COS-D':>9} {'relative error: adversary':>26} {'noise':>7}")
for position, tap in enumerate(classifier.taps):
    ned, cosd, adversary = (distances.per_image[metric][0, position].mean() for metric in distances.per_image)
    noise_error = distances.per_image["relative_error"][1, position].mean()
    print(f"{tap.layer:<24} {ned:9.2e} {cosd:9.2e} {adversary:26.4f} {noise_error:7.4f}")
