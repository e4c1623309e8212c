"""The classifiers: networks that take pixels and name the feature maps to observe.

Those of the paper (Table 6, Section 4) are in ARCHITECTURES; any other network comes from timm by its name or from
anywhere by its import path.
"""

from __future__ import annotations

import difflib
import inspect
import logging
import math
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
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

from perturbflow.classifiers.finding_taps import Tap, child_taps, module_at, named_taps, stage_taps
from perturbflow.machine.import_paths import load_object, make

# The paper's: pixels become -1..1.
NORMALIZATION = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}

logger = logging.getLogger(__name__)


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
    the normalisation happen inside, so that gradients and distances live in pixel space.
    normalization: `mean` that is subtracted from each channel, and `std` that it is divided by, in units of 0..1.

    Raises AttributeError for a tap whose module the network lacks, ValueError for a normalisation of other than three
    finite means and positive standard deviations.
    """

    divisor: Tensor
    offset: Tensor

    def __init__(
        self,
        network: nn.Module,
        taps: Sequence[Tap],
        input_size: int,
        normalization: Mapping[str, Sequence[float]] | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.taps = tuple(taps)
        self.input_size = input_size
        mean, std = _checked({**NORMALIZATION, **(normalization or {})})
        # Not persistent: checkpoints hold them as settings.
        self.register_buffer("divisor", _per_channel([255 * s for s in std]), persistent=False)
        self.register_buffer("offset", _per_channel([m / s for m, s in zip(mean, std, strict=True)]), persistent=False)
        for tap in self.taps:
            module_at(network, tap.module)

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits (B, n_classes) of pixels (B, 3, H, W) in 0..255."""
        size = (self.input_size, self.input_size)
        if pixels.shape[-2:] != size:
            pixels = F.interpolate(pixels, size, mode="bilinear", align_corners=False)
        logits: Tensor = self.network(pixels / self.divisor - self.offset)
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
            module_at(self.network, tap.module).register_forward_hook(hook_for(position, tap))
            for position, tap in enumerate(self.taps)
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    @contextmanager
    def replaced(self, position: int, replace: Callable[[Tensor], Tensor]) -> Iterator[None]:
        """While open, each forward pass goes on from `replace(map)` instead of the map of the tap at `position`.

        The map is what the tap's `cut`, else its `module`, puts out, without the ReLU of `rectify`. It and what
        `replace` returns must be used at once: layers that work in place may overwrite both. At a cut the pass can
        go on with another number of images.
        Raises ValueError, in the pass, where the replacement of an image has another shape.
        """

        def hook(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
            replacement = replace(output)
            if replacement.shape[1:] != output.shape[1:]:
                shapes = f"{tuple(replacement.shape[1:])} instead of {tuple(output.shape[1:])}"
                raise ValueError(f"at {tap.module} the pass cannot go on from a map of another shape: {shapes}")
            return replacement

        tap = self.taps[position]
        handle = module_at(self.network, tap.cut or tap.module).register_forward_hook(hook)
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
    first norm of the next block, all of whose layers read the transition itself.
    """
    counts = [len(getattr(network.features, f"denseblock{i}")) for i in range(1, 5)]
    transitions = [
        Tap("1 transition", f"features.denseblock{i + 1}.denselayer1.norm1", cut=f"features.transition{i}")
        for i in range(1, 4)
    ]
    return [
        Tap(f"1 conv, 1 max pool, {counts[0]} dense layers", "features.transition1.norm"),
        transitions[0],
        Tap(f"{counts[1]} dense layers", "features.transition2.norm"),
        transitions[1],
        Tap(f"{counts[2]} dense layers", "features.transition3.norm"),
        transitions[2],
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
    taps: Sequence[str] | Mapping[str, str] | None = None,
    normalization: Mapping[str, Sequence[float]] | None = None,
) -> Classifier:
    """A classifier of the registry, of timm, or of anybody's own.

    architecture: a name of ARCHITECTURES, a name of timm, or `package.module:name`, which is imported and called with
    `num_classes` and the options.
    weights: `none` (random, from torch's current seed), `imagenet` (timm's, downloaded) or the path of a file:
    a checkpoint of this project or any that timm reads (.pth, .safetensors). The last layer is replaced where
    the file's number of classes differs.
    options: keyword arguments of the builder. Those of the registry's shrink the network.
    taps: paths of modules, or the wording of each and its path; by default the registry's, or what `stage_taps` and
    `child_taps` find. For taps that the registry does not declare the network runs once.
    normalization: as for `Classifier`.

    Raises ValueError, which begins with the name of the setting, for an unknown architecture or option, for weights
    that do not fit, and for taps that cannot be observed.
    """
    options = dict(options or {})
    entry = ARCHITECTURES.get(architecture)
    if entry:
        network = _of_registry(architecture, n_classes, input_size, weights, options)
    elif ":" in architecture:
        network = _imported(architecture, n_classes, weights, options)
    else:
        network = _of_timm(architecture, n_classes, input_size, weights, options)
    if weights not in ("none", "imagenet"):
        _load_weights_of_file(network, entry.timm_names if entry else dict, Path(weights))
    if taps is not None:
        found = named_taps(network, taps, architecture, n_classes, input_size)
    elif entry:
        found = list(entry.taps(network))
    else:
        find = child_taps if ":" in architecture else stage_taps
        found = find(network, architecture, n_classes, input_size)
    return Classifier(network, found, input_size, normalization)


def _of_registry(
    architecture: str, n_classes: int, input_size: int, weights: str, options: Mapping[str, Any]
) -> nn.Module:
    entry = ARCHITECTURES[architecture]
    allowed = [name for name in inspect.signature(entry.build).parameters if name != "n_classes"]
    if unknown := [name for name in options if name not in allowed]:
        raise ValueError(f"options.{unknown[0]}: {architecture} has no such option; it takes: {', '.join(allowed)}")
    if weights != "imagenet":
        network = entry.build(n_classes, **options)
    elif options:
        raise ValueError(f"weights: ImageNet weights do not fit {architecture} shrunk by {options}")
    else:
        network = timm.create_model(entry.timm_name, pretrained=True, num_classes=n_classes)
    entry.adjust(network, input_size)
    return network


def _of_timm(architecture: str, n_classes: int, input_size: int, weights: str, options: Mapping[str, Any]) -> nn.Module:
    """A network of timm; made for `input_size` where it would otherwise be fixed at another size."""
    config = timm_config(architecture, weights)
    build = partial(timm.create_model, architecture, pretrained=weights == "imagenet", num_classes=n_classes)
    if config and config.fixed_input_size and "img_size" not in options:
        try:
            return make(architecture, partial(build, img_size=input_size), options)
        except ValueError:  # not every network of a fixed size can be given another one
            pass
    return make(architecture, build, options)


def timm_config(architecture: str, weights: str) -> Any:
    """What timm knows about a network and its weights, None for nothing.

    Raises ValueError, with the nearest names of all networks, where timm does not know the network, and where `weights`
    is `imagenet` and timm has none.
    """
    try:
        if timm.is_model(architecture):
            config = timm.get_pretrained_cfg(architecture)
            if weights == "imagenet" and not (config and config.has_weights):
                raise ValueError(f"weights: timm has no weights for {architecture}; give a file or none")
            return config
    except RuntimeError:  # weights of a name that timm does not know, as in resnet50.of_nobody
        pass
    known = [*ARCHITECTURES, *timm.list_models(), *timm.list_pretrained()]
    near = difflib.get_close_matches(architecture, dict.fromkeys(known), n=5) or list(ARCHITECTURES)
    raise ValueError(
        f"architecture: {architecture} is known neither here nor to timm; the nearest are {', '.join(near)}; "
        "a network of your own is written package.module:name"
    )


def _imported(architecture: str, n_classes: int, weights: str, options: Mapping[str, Any]) -> nn.Module:
    """A network from `package.module:name`, called with `num_classes` and the options."""
    if weights == "imagenet":
        raise ValueError(f"weights: imagenet is for networks of timm; for {architecture} give a file or none")
    try:
        build = load_object(architecture)
    except ValueError as error:
        raise ValueError(f"architecture: {error}") from error
    if not callable(build):
        raise ValueError(f"architecture: {architecture} is a {type(build).__name__}, not something to call")
    network = make(architecture, partial(build, num_classes=n_classes), options)
    if not isinstance(network, nn.Module):
        raise ValueError(f"architecture: {architecture} gives a {type(network).__name__}, not a torch.nn.Module")
    return network


def _load_weights_of_file(
    network: nn.Module, timm_names: Callable[[dict[str, Tensor]], dict[str, Tensor]], path: Path
) -> None:
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
    of_head = tuple(name for name in {**own, **state} if name.startswith(heads))
    if misfit := [name for name in unfit if name not in of_head and "num_batches" not in name]:
        raise ValueError(f"weights: {path} does not fit the network at {', '.join(misfit[:3])}")
    head_unfit = set(of_head) & set(unfit)
    if head_unfit:
        logger.warning("%s: its last layer does not fit; that of the network stays untrained", path)
    left_out = {*unfit, *(of_head if head_unfit else ())}
    network.load_state_dict({name: value for name, value in state.items() if name not in left_out}, strict=False)


def _heads(network: Any) -> list[str]:
    """Paths of the last layers: what the network calls its classifier, else its last module with weights."""
    classifier = network.get_classifier() if hasattr(network, "get_classifier") else ()
    layers = classifier if isinstance(classifier, tuple) else (classifier,)
    heads = [path for path, module in network.named_modules() if any(module is layer for layer in layers)]
    return heads or [name.rpartition(".")[0] for name in network.state_dict()][-1:]


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


def save_classifier(path: Path, classifier: Classifier, description: Mapping[str, Any]) -> None:
    """Write a checkpoint: the network's weights and what `load_classifier` needs to build it again.

    description: architecture, n_classes, input_size, options, taps and normalization, as for `build_classifier`, and
    anything else.
    """
    # Into an open file: given a path, torch writes the path's name as well, and equal weights would have other digests.
    with path.open("wb") as file:
        torch.save({**description, "network": classifier.network.state_dict()}, file)


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
        taps=checkpoint.get("taps"),
        normalization=checkpoint.get("normalization"),
    )
    classifier.network.load_state_dict(checkpoint["network"])
    classifier.requires_grad_(False)
    return classifier.eval().to(device).to(memory_format=torch.channels_last)
