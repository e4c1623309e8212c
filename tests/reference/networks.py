"""What the reference runs: networks in double precision, from the numbers of a checkpoint or from memory.

Images are one at a time: float64 (3, H, W), pixels of 0 to 255.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Takes an image and gives its logits (n_classes,), or an image.
Network = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class FeatureMap:
    """A row of the paper's Table 6: what is observed, and where a pass can go on from another map.

    module: whose output it is. element: where in the output, if that is a tuple or mapping. relu: the paper observes
    maps after a ReLU; where the network has none just there, one is put on what is observed. cut: the module from whose
    output the rest of the network is computed, where that is not `module`.
    """

    module: str
    element: tuple[int | str, ...] = ()
    relu: bool = False
    cut: str = ""


class Classifier:
    """A network that takes pixels (Section 2.2): resized bilinearly, normalised, and then the network itself."""

    def __init__(
        self,
        network: nn.Module,
        feature_maps: Sequence[FeatureMap],
        input_size: int,
        mean: Sequence[float] = (0.5, 0.5, 0.5),
        std: Sequence[float] = (0.5, 0.5, 0.5),
    ) -> None:
        self.network = network.double().eval().requires_grad_(False)
        self.feature_maps = feature_maps
        self.input_size = input_size
        self.mean, self.std = (torch.tensor(values, dtype=torch.float64)[:, None, None] for values in (mean, std))

    def __call__(self, image: Tensor) -> Tensor:
        """Logits (n_classes,)."""
        resized = resize(image, self.input_size)
        return self.network(((resized / 255 - self.mean) / self.std)[None])[0]

    def maps(self, image: Tensor) -> list[Tensor]:
        """The feature maps of an image (Figure 1), each as a vector."""
        seen = {}

        def look(number: int, feature_map: FeatureMap) -> Callable[..., None]:
            def hook(module: nn.Module, inputs: Any, output: Any) -> None:
                for key in feature_map.element:
                    output = output[key]
                # A copy: layers that follow may overwrite it.
                seen[number] = (output.relu() if feature_map.relu else output).clone().flatten()

            return hook

        hooks = [
            self.network.get_submodule(feature_map.module).register_forward_hook(look(number, feature_map))
            for number, feature_map in enumerate(self.feature_maps)
        ]
        self(image)
        for hook in hooks:
            hook.remove()
        return [seen[number] for number in range(len(self.feature_maps))]


def behind(denoiser: Network, classifier: Network) -> Network:
    """A classifier behind a denoiser, whose output is clipped: what an adaptive attack is against."""
    return lambda image: classifier(denoiser(image).clip(0, 255))


def resize(image: Tensor, size: int) -> Tensor:
    """Bilinear interpolation to size x size; a larger image is antialiased, as Pillow does it."""
    height, width = image.shape[-2:]
    if height == width == size:
        return image
    return interpolation(height, size) @ image @ interpolation(width, size).T


def interpolation(n_from: int, n_to: int) -> Tensor:
    """Weights (n_to, n_from): a triangle around each new pixel's centre, as wide as two old or two new pixels."""
    scale = n_from / n_to
    new = (torch.arange(n_to, dtype=torch.float64) + 0.5) * scale
    old = torch.arange(n_from, dtype=torch.float64) + 0.5
    weights = (1 - (old - new[:, None]).abs() / max(scale, 1)).clip(min=0)
    return weights / weights.sum(1, keepdim=True)


RESNETV2_50 = [
    FeatureMap("stem.conv", relu=True),  # 1 conv
    FeatureMap("stages.0.blocks.0.norm1"),  # 1 max pool, after the ReLU with which the next block begins
    FeatureMap("stages.1.blocks.0.norm1"),  # the bottlenecks of the first stage, likewise
    FeatureMap("stages.2.blocks.0.norm1"),
    FeatureMap("stages.3.blocks.0.norm1"),
    FeatureMap("norm"),  # the bottlenecks of the last stage
    FeatureMap("head.global_pool"),  # 1 avg pool
    FeatureMap("head.fc"),  # 1 FC
]


def read_classifier(path: Path) -> Classifier:
    """ResNet-18 or ResNet V2-50 of a checkpoint, narrowed as its options say."""
    checkpoint = torch.load(path, weights_only=True)
    options = checkpoint["options"]

    def narrowed(*channels: int) -> list[int]:
        return [max(8, round(count * options["width"] / 8) * 8) for count in channels]

    if checkpoint["architecture"] == "resnet18":
        layers, channels = tuple(options["blocks"]), narrowed(64, 128, 256, 512)
        network = timm.create_model("resnet18", num_classes=checkpoint["n_classes"], layers=layers, channels=channels)
        feature_maps = []
    else:
        layers, channels, (stem,) = options["blocks"], narrowed(256, 512, 1024, 2048), narrowed(64)
        network = timm.create_model(
            "resnetv2_50", num_classes=checkpoint["n_classes"], layers=layers, channels=channels, stem_chs=stem
        )
        feature_maps = RESNETV2_50
    network.load_state_dict(checkpoint["network"])
    return Classifier(network, feature_maps, checkpoint["input_size"], **checkpoint["normalization"])


def read_unet(path: Path) -> Network:
    """The U-Net of a checkpoint, which adds its output to the image (Liao et al. 2018)."""
    weights = {
        name: values.double() if values.is_floating_point() else values
        for name, values in torch.load(path, weights_only=True)["network"].items()
    }

    def convolve(features: Tensor, name: str, stride: int) -> Tensor:
        """3x3 convolution, batch normalisation by the running statistics, ReLU."""
        features = F.conv2d(features[None], weights[f"{name}.0.weight"], stride=stride, padding=1)[0]
        mean, variance, factor, shift = (
            weights[f"{name}.1.{part}"][:, None, None] for part in ("running_mean", "running_var", "weight", "bias")
        )
        return ((features - mean) / (variance + 1e-5).sqrt() * factor + shift).relu()

    def denoise(image: Tensor) -> Tensor:
        features = image / 127.5 - 1
        on_the_way_down = []
        for level, n_convolutions in enumerate([2, 3, 3, 3, 3]):
            for number in range(n_convolutions):
                halves = level > 0 and number == 0
                features = convolve(features, f"down.{level}.{number}", stride=2 if halves else 1)
            on_the_way_down.append(features)
        on_the_way_down.pop()
        for level, n_convolutions in enumerate([3, 3, 3, 2]):
            features = torch.cat([resize(features, 2 * features.shape[-1]), on_the_way_down.pop()])
            for number in range(n_convolutions):
                features = convolve(features, f"up.{level}.{number}", stride=1)
        change = F.conv2d(features[None], weights["last.weight"], weights["last.bias"])[0]
        return image + 127.5 * change

    return denoise


def read_images(path: Path) -> list[Tensor]:
    """The images of an HDF5 file."""
    with h5py.File(path) as file:
        return list(torch.from_numpy(file["images"][:]).double().permute(0, 3, 1, 2))


def read_column(path: Path, name: str) -> list[Any]:
    """A column of an HDF5 file, as `label`."""
    with h5py.File(path) as file:
        return file[name][:].tolist()
