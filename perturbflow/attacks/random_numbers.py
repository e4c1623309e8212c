"""Random numbers that an image gets whatever other images are in its batch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode


class NumbersOfImages(TorchFunctionMode):
    """While it is entered, `torch.rand` and `torch.randn` draw for each image of a batch from a source of its own.

    That is where all attacks of Foolbox draw from, but for the two that ask NumPy. What has the shape of a batch of n
    images, (n, ...) or, several draws at once, (..., n, C, H, W), is drawn image by image. What has no place for the
    images, such as the one direction of the boundary attack, (C * H * W, 1), is drawn from a source that all images
    share, so that it depends on no batch either.

    images: (n, C, H, W) on the device where is drawn; draws on another device are let alone. seed: 0..2**32 - 1. rows:
    of the images in their data, (n,). stage: a number for each attack on these images, which then draw other numbers.
    """

    def __init__(self, images: Tensor, seed: int, rows: Iterable[int], stage: int) -> None:
        super().__init__()
        self.shape = tuple(images.shape)
        self.device = images.device
        self.of_images = [_generator([seed, stage, row], self.device) for row in rows]
        self.shared = _generator([seed, stage], self.device)

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        keywords = dict(kwargs or {})
        is_draw = function in (torch.rand, torch.randn) and args and "generator" not in keywords
        if not is_draw or keywords.get("device") != self.device:
            return function(*args, **keywords)
        shape = args if isinstance(args[0], int) else tuple(args[0])
        axis = self._axis_of_images(shape)
        if axis is None:
            return function(shape, generator=self.shared, **keywords)
        of_one = shape[:axis] + shape[axis + 1 :]
        return torch.stack([function(of_one, generator=one, **keywords) for one in self.of_images], axis)

    def _axis_of_images(self, shape: tuple[int, ...]) -> int | None:
        """Along which axis of a draw the images lie."""
        n_images, *of_image = self.shape
        if len(shape) > len(self.shape):
            return len(shape) - len(self.shape) if shape[-len(self.shape) :] == self.shape else None
        is_direction = shape == (int(np.prod(of_image)), 1)  # a batch may have as many images as an image has values
        return 0 if shape[:1] == (n_images,) and not is_direction else None


def seed_others(seed: int, row: int) -> None:
    """Seed what draws otherwise, for the batch that begins with a row of the data.

    That are a network that draws random numbers, by the row, and NumPy, from whose global numbers two of Foolbox's
    attacks draw: the spatial one the same for all images, so that the batches of a set begin with the same numbers.
    """
    torch.manual_seed(_number([seed, row]))
    np.random.seed(_number([seed]) % 2**32)  # noqa: NPY002 - the global numbers are those that Foolbox takes


def _generator(key: Sequence[int], device: torch.device) -> torch.Generator:
    return torch.Generator(device).manual_seed(_number(key))


def _number(key: Sequence[int]) -> int:
    """A seed of 63 bits, so that no two images of a large data set have the same one."""
    return int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> np.uint64(1))
