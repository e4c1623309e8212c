"""Margins and predictions from logits, and logits that are no numbers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def margins(logits: Tensor, labels: Tensor) -> Tensor:
    """Logit of the true class minus the largest of the others, float64 (..., N), of logits (..., N, n_classes)."""
    true = labels.expand(logits.shape[:-1])[..., None]
    others = logits.scatter(-1, true, -torch.inf).amax(-1)
    return logits.gather(-1, true)[..., 0].double() - others.double()


def count_not_finite(logits: Tensor) -> Tensor:
    """How many images' logits are not finite, int64 (n_conditions,), of logits (n_conditions, N, n_classes)."""
    return (~logits.isfinite()).any(-1).sum(1)


def check_finite(n_not_finite: Tensor, n_images: int, names: Sequence[str]) -> None:
    """Raise ValueError where `count_not_finite` found any: the images' distances would be NaN as well."""
    for name, n_broken in zip(names, n_not_finite.tolist(), strict=True):
        if n_broken:
            raise ValueError(
                f"the classifier's logits are not finite for {n_broken} of {n_images} images ({name}): "
                "either it has diverged in its training or what made these images has; see their history.csv"
            )
