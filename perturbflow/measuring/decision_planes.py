"""How a perturbation moves the logits: Figure 4 of the paper, image by image.

A number that is added to all logits changes no prediction and no probability: softmax does not see it. So each image's
mean logit is taken off first.
"""

from __future__ import annotations

import torch
from torch import Tensor

from perturbflow.measuring.metrics import Change, Maps, along_share, angle, norm_change

LOGITS_METRICS = {f"logits_{metric.__name__}": metric for metric in (along_share, norm_change, angle)}


def centred_change(logits: Tensor) -> dict[str, Tensor]:
    """`along_share`, `norm_change` and `angle` of the centred logits, by the names of LOGITS_METRICS.

    logits: (1 + n_conditions, N, n_classes), those of the clean images first. Returns float64 (n_conditions, N), NaN
    where it is undefined: each where all logits of the clean image are equal, the share also where nothing changes.
    """
    clean, *others = map(Maps, logits.double() - logits.double().mean(-1, keepdim=True))
    changes = [Change(clean, other) for other in others]
    return {name: torch.stack([metric(change) for change in changes]) for name, metric in LOGITS_METRICS.items()}
