"""The classifiers: timm networks that take pixels and name the feature maps to observe (the paper's Table 6)."""

from __future__ import annotations

import inspect
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import torch
import torch.nn.functional as F
from timm.models import load_state_dict
from timm.models.densenet import _filter_torchvision_pretrained as timm_names_of_densenet
from timm.models.inception_resnet_v2 import InceptionResnetV2
from timm.models.resnet import BasicBlock, ResNet
from timm.models.senet import SENet, SEResNetBlock
from timm.models.vgg import VGG, ClassifierHead, ConvMlp
from timm.models.vgg import _filter_fn as timm_names_of_vgg
from timm.models.vgg import cfgs as vgg_configurations
from torch import Tensor, nn


@dataclass(frozen=True)
class Tap:
    """A feature map to observe.

    layer: what has run just before it, in the words of the paper's Table 6.
    module: dotted path of the module of the network whose output it is.
    rectify: observe the output after a ReLU, for the two maps that no ReLU of the network follows directly.
    """

    layer: str
    module: str
    rectify: bool = False


@dataclass(frozen=True)
class Architecture:
    """A network of the registry.

    build: makes the network from the number of classes and the keyword arguments that shrink it.
    taps: gives the taps of a network that `build` made and `adjust` changed.
    timm_name: timm's name, under which its ImageNet weights are found.
    adjust: changes the network that timm knows, for an input of so many pixels; or does nothing.
    timm_names: gives weights that carry torchvision's names those of timm, where the two differ.
    """

    build: Callable[..., nn.Module]
    taps: Callable[[nn.Module], Sequence[Tap]]
    timm_name: str
    adjust: Callable[[nn.Module, int], None] = lambda network, input_size: None
    timm_names: Callable[[dict[str, Tensor]], dict[str, Tensor]] = lambda state: state


class Classifier(nn.Module):
    """A network that takes pixels.

    forward: float (B, 3, H, W) in 0..255 -> logits (B, n_classes). Resizing to `input_size` (bilinear) and
    the normalisation to [-1, 1] happen inside, so that gradients and distances live in pixel space.
    """

    def __init__(self, network: nn.Module, taps: Sequence[Tap], input_size: int) -> None:
        super().__init__()
        self.network = network
        self.taps = tuple(taps)
        self.input_size = input_size
        for tap in self.taps:
            network.get_submodule(tap.module)

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits (B, n_classes) of pixels (B, 3, H, W) in 0..255."""
        size = (self.input_size, self.input_size)
        if pixels.shape[-2:] != size:
            pixels = F.interpolate(pixels, size, mode="bilinear", align_corners=False)
        logits: Tensor = self.network(pixels / 127.5 - 1)
        return logits

    @contextmanager
    def observed(self, receive: Callable[[int, Tensor], None]) -> Iterator[None]:
        """While open, each forward pass calls `receive(position, feature_map)` at each tap, as it goes by.

        position counts from 0 in the order of `taps`. The map must be used at once: layers that work in place
        may overwrite it as soon as `receive` returns.
        """

        def hook_for(position: int, tap: Tap) -> Callable[[nn.Module, Any, Tensor], None]:
            def hook(module: nn.Module, inputs: Any, output: Tensor) -> None:
                receive(position, F.relu(output) if tap.rectify else output)

            return hook

        handles = [
            self.network.get_submodule(tap.module).register_forward_hook(hook_for(position, tap))
            for position, tap in enumerate(self.taps)
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


def _scaled(channels: Sequence[int], width: float) -> list[int]:
    return [max(8, round(count * width / 8) * 8) for count in channels]


def _resnet18(n_classes: int, blocks: Sequence[int] = (2, 2, 2, 2), width: float = 1.0) -> nn.Module:
    return ResNet(
        BasicBlock,
        tuple(blocks),
        num_classes=n_classes,
        channels=tuple(_scaled((64, 128, 256, 512), width)),
    )


def _resnet18_taps(network: nn.Module) -> list[Tap]:
    return [
        Tap("1 conv", "act1"),
        Tap("1 max pool", "maxpool"),
        *(Tap(f"{len(getattr(network, f'layer{i}'))} basic blocks", f"layer{i}") for i in range(1, 5)),
        Tap("1 avg pool", "global_pool"),
        Tap("1 FC", "fc"),
    ]


def _resnetv2_50(n_classes: int, blocks: Sequence[int] = (3, 4, 6, 3), width: float = 1.0) -> nn.Module:
    return timm.create_model(
        "resnetv2_50",
        num_classes=n_classes,
        layers=list(blocks),
        channels=tuple(_scaled((256, 512, 1024, 2048), width)),
        stem_chs=_scaled((64,), width)[0],
    )


def _resnetv2_50_taps(network: Any) -> list[Tap]:
    """Pre-activation: the map after a stage becomes positive in the first `norm1` of the next one.

    The stem's convolution is followed by the pooling, with no ReLU between them: it gets one of its own.
    """
    stages = [len(stage.blocks) for stage in network.stages]
    return [
        Tap("1 conv", "stem.conv", rectify=True),
        Tap("1 max pool", "stages.0.blocks.0.norm1"),
        *(Tap(f"{stages[i]} bottlenecks", f"stages.{i + 1}.blocks.0.norm1") for i in range(3)),
        Tap(f"{stages[3]} bottlenecks", "norm"),
        Tap("1 avg pool", "head.global_pool"),
        Tap("1 FC", "head.fc"),
    ]


def _vgg19(n_classes: int, width: float = 1.0, batch_norm: bool = False) -> nn.Module:
    configuration = [entry if entry == "M" else _scaled((entry,), width)[0] for entry in vgg_configurations["vgg19"]]
    network = VGG(configuration, num_classes=n_classes, norm_layer=nn.BatchNorm2d if batch_norm else None)
    if width != 1:
        # timm fixes the hidden layers at 4096 units, which would be most of a narrow network.
        hidden = _scaled((4096,), width)[0]
        convolution = next(m for m in reversed(list(network.features)) if isinstance(m, nn.Conv2d))
        network.pre_logits = ConvMlp(convolution.out_channels, hidden, 7, drop_rate=0.0)
        network.head_hidden_size = hidden
        network.head = ClassifierHead(hidden, n_classes)
        network._initialize_weights()
    return network


def _vgg19_taps(network: Any) -> list[Tap]:
    """The ReLU before each max pool, the two hidden fully connected layers after theirs, the logits."""
    pools = [index for index, module in enumerate(network.features) if isinstance(module, nn.MaxPool2d)]
    procedures = ["2 convs", "2 convs", "4 convs", "4 convs", "4 convs"]
    return [
        *(Tap(layer, f"features.{pool - 1}") for layer, pool in zip(procedures, pools, strict=True)),
        Tap("1 FC", "pre_logits.act1"),
        Tap("1 FC", "pre_logits.act2"),
        Tap("1 FC", "head.fc"),
    ]


def _senet154(n_classes: int, blocks: Sequence[int] = (3, 8, 36, 3), bottleneck: bool = True) -> nn.Module:
    if bottleneck:
        return timm.create_model("legacy_senet154", num_classes=n_classes, layers=tuple(blocks))
    return SENet(
        SEResNetBlock,
        tuple(blocks),
        groups=1,
        reduction=16,
        input_3x3=True,
        num_classes=n_classes,
    )


def _senet154_taps(network: Any) -> list[Tap]:
    return [
        Tap("3 convs", "layer0"),
        *(Tap(f"{len(getattr(network, f'layer{i}'))} SE blocks", f"layer{i}") for i in range(1, 5)),
        Tap("1 avg pool", "global_pool"),
        Tap("1 FC", "last_linear"),
    ]


def _inception_resnet_v2(n_classes: int, blocks: Sequence[int] = (10, 20, 9)) -> nn.Module:
    network = InceptionResnetV2(num_classes=n_classes)
    if any(count > full for count, full in zip(blocks, (10, 20, 9), strict=True)):
        raise ValueError(f"inception_resnet_v2 has 10, 20 and 9 blocks; blocks can lower them, got {list(blocks)}")
    for repeat, count in zip(("repeat", "repeat_1", "repeat_2"), blocks, strict=True):
        setattr(network, repeat, getattr(network, repeat)[:count])
    return network


def _unstride_inception_resnet_v2(network: Any, input_size: int) -> None:
    """The paper's adjustment: the first convolution, of stride 2 at 299 px, gets stride 1 for 128 px."""
    network.conv2d_1a.conv.stride = (1, 1)


def _inception_resnet_v2_taps(network: Any) -> list[Tap]:
    """The last Block8 has no ReLU; its map gets one of its own, as the paper's maps all do."""
    return [
        Tap("1 conv", "conv2d_1a"),
        Tap("1 conv", "conv2d_2a"),
        Tap("1 conv", "conv2d_2b"),
        Tap("1 conv", "conv2d_3b"),
        Tap("1 conv", "conv2d_4a"),
        Tap("1 max pool, 1 mixed_b", "mixed_5b"),
        Tap(f"{len(network.repeat)} Block35s", "repeat"),
        Tap("mixed_a", "mixed_6a"),
        Tap(f"{len(network.repeat_1)} Block17s", "repeat_1"),
        Tap("mixed_a", "mixed_7a"),
        Tap(f"{len(network.repeat_2)} Block8s", "repeat_2"),
        Tap("1 Block8", "block8", rectify=True),
        Tap("1 conv, 1 avg pool", "global_pool"),
        Tap("1 FC", "classif"),
    ]


def _densenet201(n_classes: int, blocks: Sequence[int] = (6, 12, 48, 32), width: float = 1.0) -> nn.Module:
    return timm.create_model(
        "densenet201", num_classes=n_classes, growth_rate=round(32 * width), block_config=tuple(blocks)
    )


def _densenet201_taps(network: Any) -> list[Tap]:
    """A dense block's map becomes positive in the norm of the transition after it; a transition's in the
    first norm of the next block.
    """
    counts = [len(getattr(network.features, f"denseblock{i}")) for i in range(1, 5)]
    return [
        Tap(f"1 conv, 1 max pool, {counts[0]} dense layers", "features.transition1.norm"),
        Tap("1 transition", "features.denseblock2.denselayer1.norm1"),
        Tap(f"{counts[1]} dense layers", "features.transition2.norm"),
        Tap("1 transition", "features.denseblock3.denselayer1.norm1"),
        Tap(f"{counts[2]} dense layers", "features.transition3.norm"),
        Tap("1 transition", "features.denseblock4.denselayer1.norm1"),
        Tap(f"{counts[3]} dense layers", "features.norm5"),
        Tap("1 pool, 1 FC", "classifier"),
    ]


def _fc_to_conv(network: Any, input_size: int) -> None:
    """Average pooling and FC become one convolution over the whole last map, 4x4 at 128 px (Section 4 of the paper)."""
    side = -(-input_size // 4) // 8  # the stem halves twice, rounding up; the transitions three times, rounding down
    convolution = nn.Conv2d(network.num_features, network.num_classes, side)
    network.global_pool = nn.Identity()
    network.classifier = nn.Sequential(OrderedDict(conv=convolution, flatten=nn.Flatten()))


def _prelu_after_fc(network: Any, input_size: int) -> None:
    """A PReLU of slope 0.25 after the FC (Section 4 of the paper)."""
    network.classifier = nn.Sequential(OrderedDict(fc=network.classifier, prelu=nn.PReLU(init=0.25)))


def _densenet201_conv_taps(network: Any) -> list[Tap]:
    return [*_densenet201_taps(network)[:-1], Tap("1 conv", "classifier")]


def _densenet201_prelu_taps(network: Any) -> list[Tap]:
    return [*_densenet201_taps(network)[:-1], Tap("1 pool, 1 FC, 1 PReLU", "classifier")]


ARCHITECTURES: dict[str, Architecture] = {
    "resnet18": Architecture(_resnet18, _resnet18_taps, "resnet18"),
    "resnetv2_50": Architecture(_resnetv2_50, _resnetv2_50_taps, "resnetv2_50"),
    "vgg19": Architecture(_vgg19, _vgg19_taps, "vgg19", timm_names=timm_names_of_vgg),
    "senet154": Architecture(_senet154, _senet154_taps, "legacy_senet154"),
    "inception_resnet_v2": Architecture(
        _inception_resnet_v2, _inception_resnet_v2_taps, "inception_resnet_v2", _unstride_inception_resnet_v2
    ),
    "densenet201": Architecture(_densenet201, _densenet201_taps, "densenet201", timm_names=timm_names_of_densenet),
    "densenet201_conv": Architecture(
        _densenet201, _densenet201_conv_taps, "densenet201", _fc_to_conv, timm_names_of_densenet
    ),
    "densenet201_prelu": Architecture(
        _densenet201, _densenet201_prelu_taps, "densenet201", _prelu_after_fc, timm_names_of_densenet
    ),
}


def build_classifier(
    architecture: str,
    n_classes: int,
    input_size: int = 128,
    weights: str = "none",
    options: Mapping[str, Any] | None = None,
) -> Classifier:
    """A classifier of the registry.

    weights: `none` (random, from torch's current seed), `imagenet` (timm's, downloaded) or the path of a file:
    a checkpoint of this project or any that timm reads (.pth, .safetensors). The last layer is replaced where
    the file's number of classes differs.
    options: keyword arguments of the architecture's builder, to shrink it.

    Raises ValueError for an unknown architecture or option and for weights that do not fit.
    """
    if architecture not in ARCHITECTURES:
        raise ValueError(f"unknown architecture {architecture}; known: {', '.join(ARCHITECTURES)}")
    entry = ARCHITECTURES[architecture]
    options = dict(options or {})
    allowed = [name for name in inspect.signature(entry.build).parameters if name != "n_classes"]
    if unknown := [name for name in options if name not in allowed]:
        raise ValueError(f"{architecture} takes no option {unknown[0]}; it takes: {', '.join(allowed)}")

    if weights == "imagenet":
        if options:
            raise ValueError(f"{architecture}: ImageNet weights do not fit a network shrunk by {options}")
        network = timm.create_model(entry.timm_name, pretrained=True, num_classes=n_classes)
    else:
        network = entry.build(n_classes, **options)
    entry.adjust(network, input_size)
    if weights not in ("none", "imagenet"):
        _load_weights_of_file(network, entry, Path(weights))
    return Classifier(network, entry.taps(network), input_size)


def _load_weights_of_file(network: nn.Module, entry: Architecture, path: Path) -> None:
    if not path.is_file():
        raise FileNotFoundError(f"weights: {path} does not exist; give a file, `imagenet` or `none`.")
    try:
        state = load_state_dict(str(path))
        state = entry.timm_names(state.get("network", state))
    except Exception as error:  # of many kinds: whatever the formats' readers raise
        raise ValueError(f"weights: {path} cannot be read as a file of weights: {error}") from error
    _load_all_but_other_head(network, state, path)


def _load_all_but_other_head(network: nn.Module, state: Mapping[str, Any], path: Path) -> None:
    """Load the weights. Raises ValueError where any but the last layer's is missing, left over or of another shape.

    A last layer that does not fit in whole is left as it is.
    """
    head = next(name for name, module in network.named_modules() if module is network.get_classifier())  # type: ignore[operator]
    own = network.state_dict()
    unfit = [
        name
        for name in {**own, **state}
        if name not in own or name not in state or own[name].shape != getattr(state[name], "shape", None)
    ]
    # Files older than PyTorch 0.4.1 lack the counters of batch normalisation, which only count.
    of_head = tuple(name for name in {**own, **state} if name.startswith(f"{head}."))
    if misfit := [name for name in unfit if name not in of_head and "num_batches" not in name]:
        raise ValueError(f"weights: {path} does not fit the network at {', '.join(misfit[:3])}")
    left_out = {*unfit, *(of_head if set(of_head) & set(unfit) else ())}
    network.load_state_dict({name: value for name, value in state.items() if name not in left_out}, strict=False)


def count_parameters(classifier: Classifier) -> int:
    """Number of trainable numbers, as in the paper's Table 3."""
    return sum(parameter.numel() for parameter in classifier.network.parameters())


def count_layers(classifier: Classifier) -> int:
    """Convolutions and fully connected layers on the main path: neither shortcuts nor squeeze-and-excitation."""
    return sum(
        isinstance(module, nn.Conv2d | nn.Linear) and "downsample" not in name and "se_module" not in name
        for name, module in classifier.network.named_modules()
    )


def save_classifier(path: Path, classifier: Classifier, description: Mapping[str, Any]) -> None:
    """Write a checkpoint: the network's weights and what `load_classifier` needs to build it again.

    description: architecture, n_classes, input_size and options, as for `build_classifier`, and anything else.
    """
    torch.save({**description, "network": classifier.network.state_dict()}, path)


def load_classifier(path: str | Path, device: torch.device) -> Classifier:
    """A classifier from its checkpoint, in evaluation mode and frozen.

    Freezing halves the cost of an attack's gradient: that of the weights is not computed.
    """
    checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    classifier = build_classifier(
        checkpoint["architecture"],
        checkpoint["n_classes"],
        checkpoint["input_size"],
        options=checkpoint["options"],
    )
    classifier.network.load_state_dict(checkpoint["network"])
    classifier.requires_grad_(False)
    return classifier.eval().to(device).to(memory_format=torch.channels_last)
