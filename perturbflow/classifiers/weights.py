"""Weights from files, loaded into a network."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from timm.models import load_state_dict
from torch import Tensor, nn

logger = logging.getLogger(__name__)


def load_weights_of_file(
    network: nn.Module, timm_names: Callable[[dict[str, Tensor]], dict[str, Tensor]], path: Path
) -> None:
    """Load a file of weights; a last layer of another number of classes is left as it is.

    timm_names: gives weights that carry torchvision's names those of timm.
    Raises FileNotFoundError, or ValueError for a file that cannot be read or does not fit the network.
    """
    if not path.is_file():
        raise FileNotFoundError(f"weights: {path} does not exist; give a file, `imagenet` or `none`.")
    try:
        state = load_state_dict(str(path))
        state = timm_names(state.get("network", state))
    except Exception as error:  # of many kinds: whatever the formats' readers raise
        raise ValueError(f"weights: {path} cannot be read as a file of weights: {error}") from error
    _load_all_but_other_head(network, state, path)


def _load_all_but_other_head(network: nn.Module, state: Mapping[str, Any], path: Path) -> None:
    """Load the weights. Raises ValueError where any but the last layer's is missing, left over or of another shape.

    A last layer that does not fit in whole is left as it is, with a warning.
    """
    own = network.state_dict()
    unfit = [
        name
        for name in {**own, **state}
        if name not in own or name not in state or own[name].shape != getattr(state[name], "shape", None)
    ]
    # Files older than PyTorch 0.4.1 lack the counters of batch normalisation, which only count.
    heads = tuple(f"{head}." for head in _heads(network))
    head_names = tuple(name for name in {**own, **state} if name.startswith(heads))
    if misfit := [name for name in unfit if name not in head_names and "num_batches" not in name]:
        raise ValueError(f"weights: {path} does not fit the network at {', '.join(misfit[:3])}")
    head_unfit = set(head_names) & set(unfit)
    if head_unfit:
        logger.warning("%s: its last layer does not fit; that of the network stays untrained", path)
    left_out = {*unfit, *(head_names if head_unfit else ())}
    network.load_state_dict({name: value for name, value in state.items() if name not in left_out}, strict=False)


def _heads(network: Any) -> list[str]:
    """Paths of the last layers: what the network calls its classifier, else its last module with weights."""
    classifier = network.get_classifier() if hasattr(network, "get_classifier") else ()
    layers = classifier if isinstance(classifier, tuple) else (classifier,)
    heads = [path for path, module in network.named_modules() if any(module is layer for layer in layers)]
    return heads or [name.rpartition(".")[0] for name in network.state_dict()][-1:]
