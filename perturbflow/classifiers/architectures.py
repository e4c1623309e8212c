"""The networks of the paper, with the feature maps of its Table 6 and the changes of its Section 4."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import timm
from timm.models.densenet import _filter_torchvision_pretrained as timm_names_of_densenet
from timm.models.inception_resnet_v2 import InceptionResnetV2
from timm.models.resnet import BasicBlock, ResNet
from timm.models.senet import SENet, SEResNetBlock
from timm.models.vgg import VGG, ClassifierHead, ConvMlp
from timm.models.vgg import _filter_fn as timm_names_of_vgg
from timm.models.vgg import cfgs as vgg_configurations
from torch import Tensor, nn

from perturbflow.classifiers.taps import Tap

Builder = Callable[..., nn.Module]
Adjustment = Callable[[nn.Module, int], None]
Renaming = Callable[[dict[str, Tensor]], dict[str, Tensor]]


@dataclass(frozen=True)
class Architecture:
    """A network of the registry.

    build: makes the network from the number of classes and the keyword arguments that shrink it.
    taps: gives the taps of a network that `build` made and `adjust` changed.
    timm_name: timm's name, under which its ImageNet weights are found.
    adjust: changes the network that timm knows, for an input of so many pixels; or does nothing.
    timm_names: gives weights that carry torchvision's names those of timm, where the two differ.
    """

    build: Builder
    taps: Callable[[nn.Module], Sequence[Tap]]
    timm_name: str
    adjust: Adjustment
    timm_names: Renaming


ARCHITECTURES: dict[str, Architecture] = {}


def architecture(
    taps: Callable[[nn.Module], Sequence[Tap]],
    timm_name: str,
    adjust: Adjustment = lambda network, input_size: None,
    timm_names: Renaming = lambda state: state,
) -> Callable[[Builder], Builder]:
    """Register a builder as the architecture of the function's name; the arguments are those of `Architecture`.

    Its first argument is the number of classes, the others are the options of the config. They, and of `blocks` the
    number of stages, are read from this file, not imported, when a config is checked
    (perturbflow/planning/declarations.py).
    """

    def register(build: Builder) -> Builder:
        ARCHITECTURES[build.__name__] = Architecture(build, taps, timm_name, adjust, timm_names)
        return build

    return register


def _scaled(channels: Sequence[int], width: float) -> list[int]:
    return [max(8, round(count * width / 8) * 8) for count in channels]


def _resnet18_taps(network: nn.Module) -> list[Tap]:
    return [
        Tap("1 conv", "act1", "spatial"),
        Tap("1 max pool", "maxpool", "spatial"),
        *(Tap(f"{len(getattr(network, f'layer{i}'))} basic blocks", f"layer{i}", "spatial") for i in range(1, 5)),
        Tap("1 avg pool", "global_pool", "pooled"),
        Tap("1 FC", "fc", "logits"),
    ]


@architecture(taps=_resnet18_taps, timm_name="resnet18")
def resnet18(n_classes: int, blocks: Sequence[int] = (2, 2, 2, 2), width: float = 1.0) -> nn.Module:
    """ResNet-18. blocks: of each stage. width: factor on the channels."""
    return ResNet(
        BasicBlock,
        tuple(blocks),
        num_classes=n_classes,
        channels=tuple(_scaled((64, 128, 256, 512), width)),
    )


def _resnetv2_50_taps(network: Any) -> list[Tap]:
    """Pre-activation: the map after a stage becomes positive in the first `norm1` of the next one.

    The stem's convolution is followed by the pooling, with no ReLU between them: it gets one of its own.
    """
    stages = [len(stage.blocks) for stage in network.stages]
    return [
        Tap("1 conv", "stem.conv", "spatial", rectify=True),
        Tap("1 max pool", "stages.0.blocks.0.norm1", "spatial"),
        *(Tap(f"{stages[i]} bottlenecks", f"stages.{i + 1}.blocks.0.norm1", "spatial") for i in range(3)),
        Tap(f"{stages[3]} bottlenecks", "norm", "spatial"),
        Tap("1 avg pool", "head.global_pool", "pooled"),
        Tap("1 FC", "head.fc", "logits"),
    ]


@architecture(taps=_resnetv2_50_taps, timm_name="resnetv2_50")
def resnetv2_50(n_classes: int, blocks: Sequence[int] = (3, 4, 6, 3), width: float = 1.0) -> nn.Module:
    """ResNet V2-50. blocks: of each stage. width: factor on the channels."""
    return timm.create_model(
        "resnetv2_50",
        num_classes=n_classes,
        layers=list(blocks),
        channels=tuple(_scaled((256, 512, 1024, 2048), width)),
        stem_chs=_scaled((64,), width)[0],
    )


def _vgg19_taps(network: Any) -> list[Tap]:
    """The ReLU before each max pool, the two hidden fully connected layers after theirs, the logits."""
    pools = [index for index, module in enumerate(network.features) if isinstance(module, nn.MaxPool2d)]
    procedures = ["2 convs", "2 convs", "4 convs", "4 convs", "4 convs"]
    return [
        *(Tap(layer, f"features.{pool - 1}", "spatial") for layer, pool in zip(procedures, pools, strict=True)),
        Tap("1 FC", "pre_logits.act1", "fully connected"),
        Tap("1 FC", "pre_logits.act2", "fully connected"),
        Tap("1 FC", "head.fc", "logits"),
    ]


@architecture(taps=_vgg19_taps, timm_name="vgg19", timm_names=timm_names_of_vgg)
def vgg19(n_classes: int, width: float = 1.0, batch_norm: bool = False) -> nn.Module:
    """VGG-19. width: factor on the channels and hidden units. batch_norm: after each convolution."""
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


def _senet154_taps(network: Any) -> list[Tap]:
    return [
        Tap("3 convs", "layer0", "spatial"),
        *(Tap(f"{len(getattr(network, f'layer{i}'))} SE blocks", f"layer{i}", "spatial") for i in range(1, 5)),
        Tap("1 avg pool", "global_pool", "pooled"),
        Tap("1 FC", "last_linear", "logits"),
    ]


@architecture(taps=_senet154_taps, timm_name="legacy_senet154")
def senet154(n_classes: int, blocks: Sequence[int] = (3, 8, 36, 3), bottleneck: bool = True) -> nn.Module:
    """SENet-154. blocks: of each stage. bottleneck: false for the smaller blocks of two convolutions."""
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


def _unstride_inception_resnet_v2(network: Any, input_size: int) -> None:
    """The paper's adjustment: the first convolution, of stride 2 at 299 px, gets stride 1 for 128 px."""
    network.conv2d_1a.conv.stride = (1, 1)


def _inception_resnet_v2_taps(network: Any) -> list[Tap]:
    """The last Block8 has no ReLU; its map gets one of its own, as the paper's maps all do."""
    return [
        Tap("1 conv", "conv2d_1a", "spatial"),
        Tap("1 conv", "conv2d_2a", "spatial"),
        Tap("1 conv", "conv2d_2b", "spatial"),
        Tap("1 conv", "conv2d_3b", "spatial"),
        Tap("1 conv", "conv2d_4a", "spatial"),
        Tap("1 max pool, 1 mixed_b", "mixed_5b", "spatial"),
        Tap(f"{len(network.repeat)} Block35s", "repeat", "spatial"),
        Tap("mixed_a", "mixed_6a", "spatial"),
        Tap(f"{len(network.repeat_1)} Block17s", "repeat_1", "spatial"),
        Tap("mixed_a", "mixed_7a", "spatial"),
        Tap(f"{len(network.repeat_2)} Block8s", "repeat_2", "spatial"),
        Tap("1 Block8", "block8", "spatial", rectify=True),
        Tap("1 conv, 1 avg pool", "global_pool", "pooled"),
        Tap("1 FC", "classif", "logits"),
    ]


@architecture(taps=_inception_resnet_v2_taps, timm_name="inception_resnet_v2", adjust=_unstride_inception_resnet_v2)
def inception_resnet_v2(n_classes: int, blocks: Sequence[int] = (10, 20, 9)) -> nn.Module:
    """Inception-ResNet V2. blocks: of each kind; raises ValueError for more than 10, 20 or 9."""
    network = InceptionResnetV2(num_classes=n_classes)
    if any(count > full for count, full in zip(blocks, (10, 20, 9), strict=True)):
        raise ValueError(f"inception_resnet_v2 has 10, 20 and 9 blocks; blocks can lower them, got {list(blocks)}")
    for repeat, count in zip(("repeat", "repeat_1", "repeat_2"), blocks, strict=True):
        setattr(network, repeat, getattr(network, repeat)[:count])
    return network


def _densenet201_taps(network: Any) -> list[Tap]:
    """A dense block's map becomes positive in the norm of the transition after it; a transition's in the
    first norm of the next block, all of whose layers read the transition itself.
    """
    counts = [len(getattr(network.features, f"denseblock{i}")) for i in range(1, 5)]
    transitions = [
        Tap(
            "1 transition",
            f"features.denseblock{i + 1}.denselayer1.norm1",
            "spatial",
            cut=f"features.transition{i}",
        )
        for i in range(1, 4)
    ]
    return [
        Tap(f"1 conv, 1 max pool, {counts[0]} dense layers", "features.transition1.norm", "spatial"),
        transitions[0],
        Tap(f"{counts[1]} dense layers", "features.transition2.norm", "spatial"),
        transitions[1],
        Tap(f"{counts[2]} dense layers", "features.transition3.norm", "spatial"),
        transitions[2],
        Tap(f"{counts[3]} dense layers", "features.norm5", "spatial"),
        Tap("1 pool, 1 FC", "classifier", "logits"),
    ]


@architecture(taps=_densenet201_taps, timm_name="densenet201", timm_names=timm_names_of_densenet)
def densenet201(n_classes: int, blocks: Sequence[int] = (6, 12, 48, 32), width: float = 1.0) -> nn.Module:
    """DenseNet-201. blocks: layers of each dense block. width: factor on the growth rate."""
    return timm.create_model(
        "densenet201", num_classes=n_classes, growth_rate=round(32 * width), block_config=tuple(blocks)
    )


def _fc_to_conv(network: Any, input_size: int) -> None:
    """Average pooling and FC become one convolution over the whole last map, 4x4 at 128 px (Section 4 of the paper)."""
    side = -(-input_size // 4) // 8  # the stem halves twice, rounding up; the transitions three times, rounding down
    convolution = nn.Conv2d(network.num_features, network.num_classes, side)
    network.global_pool = nn.Identity()
    network.classifier = nn.Sequential(OrderedDict(conv=convolution, flatten=nn.Flatten()))


def _densenet201_conv_taps(network: Any) -> list[Tap]:
    return [*_densenet201_taps(network)[:-1], Tap("1 conv", "classifier", "logits")]


@architecture(
    taps=_densenet201_conv_taps, timm_name="densenet201", adjust=_fc_to_conv, timm_names=timm_names_of_densenet
)
def densenet201_conv(n_classes: int, blocks: Sequence[int] = (6, 12, 48, 32), width: float = 1.0) -> nn.Module:
    """`densenet201` with a convolution for its pooling and FC (Section 4 of the paper)."""
    return densenet201(n_classes, blocks, width)


def _prelu_after_fc(network: Any, input_size: int) -> None:
    """A PReLU of slope 0.25 after the FC (Section 4 of the paper)."""
    network.classifier = nn.Sequential(OrderedDict(fc=network.classifier, prelu=nn.PReLU(init=0.25)))


def _densenet201_prelu_taps(network: Any) -> list[Tap]:
    return [*_densenet201_taps(network)[:-1], Tap("1 pool, 1 FC, 1 PReLU", "classifier", "logits")]


@architecture(
    taps=_densenet201_prelu_taps, timm_name="densenet201", adjust=_prelu_after_fc, timm_names=timm_names_of_densenet
)
def densenet201_prelu(n_classes: int, blocks: Sequence[int] = (6, 12, 48, 32), width: float = 1.0) -> nn.Module:
    """`densenet201` with a PReLU after its FC (Section 4 of the paper)."""
    return densenet201(n_classes, blocks, width)
