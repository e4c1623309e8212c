"""The classifier: a network that takes pixels, whose feature maps can be observed and replaced."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from perturbflow.classifiers.taps import ITSELF, Tap, element_at, module_at, with_element

# The paper's: pixels become -1..1.
NORMALIZATION = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
INTERPOLATION = "bilinear"
INTERPOLATIONS = ("bilinear", "bicubic", "nearest")


class LogitsOfClasses(nn.Module):
    """The logits (B, len(indices)) at `indices`, in this order, of the logits (B, K) that a network gives."""

    indices: Tensor

    def __init__(self, indices: Sequence[int]) -> None:
        super().__init__()
        # Not persistent: checkpoints hold them as a setting.
        self.register_buffer("indices", Tensor(list(indices)).long(), persistent=False)

    def forward(self, logits: Tensor) -> Tensor:
        return logits.index_select(1, self.indices)


class Classifier(nn.Module):
    """A network that takes pixels.

    forward: float (B, 3, H, W) in 0..255 -> logits (B, n_logits). Resizing to `input_size` and the normalisation happen
    inside, so that gradients and distances live in pixel space.
    normalization: `mean` that is subtracted from each channel, and `std` that it is divided by, in units of 0..1.
    interpolation: of INTERPOLATIONS; larger images are antialiased, as Pillow resizes them, but not by `nearest`.
    logit_indices: the logits that count, of those that the network gives; by default all. The last tap is these.

    Raises AttributeError for a tap whose module the network lacks, ValueError for a normalisation of other than three
    finite means and positive standard deviations, and for another interpolation.
    """

    divisor: Tensor
    offset: Tensor

    def __init__(
        self,
        network: nn.Module,
        taps: Sequence[Tap],
        input_size: int,
        normalization: Mapping[str, Sequence[float]] | None = None,
        interpolation: str = INTERPOLATION,
        logit_indices: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.taps = tuple(taps)
        self.input_size = input_size
        if interpolation not in INTERPOLATIONS:
            raise ValueError(f"interpolation: {interpolation} is not one of {', '.join(INTERPOLATIONS)}")
        self.interpolation = interpolation
        self.logits = None if logit_indices is None else LogitsOfClasses(logit_indices)
        mean, std = _checked({**NORMALIZATION, **(normalization or {})})
        self.normalization = {"mean": [*mean], "std": [*std]}
        # Not persistent: checkpoints hold them as settings.
        self.register_buffer("divisor", _per_channel([255 * s for s in std]), persistent=False)
        self.register_buffer("offset", _per_channel([m / s for m, s in zip(mean, std, strict=True)]), persistent=False)
        for tap in self.taps:
            module_at(network, tap.module)

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits (B, n_logits) of pixels (B, 3, H, W) in 0..255."""
        size = (self.input_size, self.input_size)
        if pixels.shape[-2:] != size:
            if self.interpolation == "nearest":
                pixels = F.interpolate(pixels, size, mode="nearest-exact")
            else:
                # Only with it does torch's bicubic kernel have the shape of Pillow's.
                antialias = max(pixels.shape[-2:]) > self.input_size or self.interpolation == "bicubic"
                pixels = F.interpolate(pixels, size, mode=self.interpolation, align_corners=False, antialias=antialias)
        logits: Tensor = self.network(pixels / self.divisor - self.offset)
        return logits if self.logits is None else self.logits(logits)

    def _observed_at(self, position: int) -> tuple[nn.Module, str]:
        """The module whose output the tap at `position` observes, and the path that tells of what element."""
        if self.logits is not None and position == len(self.taps) - 1:
            return self.logits, ITSELF
        path = self.taps[position].module
        return module_at(self.network, path), path

    @contextmanager
    def observed(self, receive: Callable[[int, Tensor], None]) -> Iterator[None]:
        """While open, each forward pass calls `receive(position, feature_map)` at each tap, as it goes by.

        position counts from 0 in the order of `taps`. The map must be used at once: layers that work in place
        may overwrite it as soon as `receive` returns.
        """

        def hook_for(position: int, path: str) -> Callable[[nn.Module, Any, Any], None]:
            def hook(module: nn.Module, inputs: Any, output: Any) -> None:
                feature_map = element_at(output, path)
                receive(position, F.relu(feature_map) if self.taps[position].rectify else feature_map)

            return hook

        handles = []
        for position in range(len(self.taps)):
            module, path = self._observed_at(position)
            handles.append(module.register_forward_hook(hook_for(position, path)))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    @contextmanager
    def replaced(self, position: int, replace: Callable[[Tensor], Tensor]) -> Iterator[None]:
        """While open, each forward pass goes on from `replace(map)` instead of the map of the tap at `position`.

        The map is what the tap's `cut`, else its `module`, puts out, without the ReLU of `rectify`. It and what
        `replace` returns must be used at once: layers that work in place may overwrite both. Of an output with several
        elements the others stay as they are. At a cut the pass can go on with another number of images.
        Raises ValueError, in the pass, where the replacement of an image has another shape.
        """
        tap = self.taps[position]
        module, path = (module_at(self.network, tap.cut), tap.cut) if tap.cut else self._observed_at(position)

        def hook(module: nn.Module, inputs: Any, output: Any) -> Any:
            feature_map = element_at(output, path)
            replacement = replace(feature_map)
            if replacement.shape[1:] != feature_map.shape[1:]:
                shapes = f"{tuple(replacement.shape[1:])} instead of {tuple(feature_map.shape[1:])}"
                raise ValueError(f"at {tap.module} the pass cannot go on from a map of another shape: {shapes}")
            return with_element(output, path, replacement)

        handle = module.register_forward_hook(hook)
        try:
            yield
        finally:
            handle.remove()


def _checked(normalization: Mapping[str, Sequence[float]]) -> tuple[Sequence[float], Sequence[float]]:
    """Mean and standard deviation. Raises ValueError where they are not three finite numbers, the latter positive."""
    mean, std = normalization["mean"], normalization["std"]
    if len(mean) != 3 or not all(map(math.isfinite, mean)):
        raise ValueError(f"normalization.mean: must be three numbers, got {mean}")
    if len(std) != 3 or not all(math.isfinite(s) and s > 0 for s in std):
        raise ValueError(f"normalization.std: must be three positive numbers, got {std}")
    return mean, std


def _per_channel(values: Sequence[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float32).reshape(1, -1, 1, 1)


def count_parameters(classifier: Classifier) -> int:
    """Number of trainable numbers, as in the paper's Table 3."""
    return sum(parameter.numel() for parameter in classifier.network.parameters())


def count_layers(classifier: Classifier) -> int:
    """Convolutions and fully connected layers on the main path: neither shortcuts nor squeeze-and-excitation.

    Those are told by their names in the registry's networks; in others they may be counted.
    """
    return sum(
        isinstance(module, nn.Conv2d | nn.Linear) and "downsample" not in name and "se_module" not in name
        for name, module in classifier.network.named_modules()
    )
