"""Attack a batch of photographs: i-FGSM, image by image until the classifier errs, and what another one then says.

    python -m examples.attack_a_batch

The networks have random weights here, so that nothing has to be downloaded; with `weights="imagenet"` they are timm's.
"""

from pathlib import Path

import foolbox
import numpy as np
import torch
from PIL import Image

from perturbflow.attacks.gradient_sign import IterativeFGSM, misclassified
from perturbflow.classifiers.building import build_classifier

torch.manual_seed(0)
attacker, other = (
    build_classifier("resnet18", n_classes=10, input_size=64, options={"width": width}).eval().requires_grad_(False)
    for width in (0.25, 0.5)
)

# The photographs that come with Foolbox, as pixels: float (B, 3, H, W), 0 to 255.
files = sorted((Path(foolbox.__file__).parent / "data").glob("imagenet_*.jpg"))[:8]
photographs = np.stack([np.asarray(Image.open(file).convert("RGB").resize((64, 64))) for file in files])
images = torch.from_numpy(photographs).permute(0, 3, 1, 2).float()
labels = attacker(images).argmax(1)  # with random weights, what it says is the truth

# White box: the attacker is the stopping classifier as well.
attack = IterativeFGSM(step=0.255, max_steps=20)
for finished in attack.stream(attacker, attacker, images, labels):
    errors = (finished.images - images[finished.index]).square().mean((1, 2, 3))
    transferred = misclassified(other, finished.images, other(images[finished.index]).argmax(1))
    for row, steps, fooled, error, transfers in zip(
        *(finished.index, finished.steps, finished.succeeded, errors, transferred), strict=True
    ):
        print(
            f"{files[row].name}: {steps} steps, {error:.2f} pixels squared; "
            f"attacker {'fooled' if fooled else 'not fooled'}, other network {'fooled' if transfers else 'not fooled'}"
        )
