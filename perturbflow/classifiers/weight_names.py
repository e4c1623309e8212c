"""Names that weights have elsewhere, and those that a network has for the same tensors."""

from __future__ import annotations

import inspect
import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from timm.layers import Conv2dSame
from torch import Tensor, nn

State = dict[str, Tensor]
Renaming = Callable[[State], State]

_COMPUTED = (
    *("num_batches_tracked", "n_averaged", "total_ops", "total_params"),
    *("relative_position_index", "relative_coords_table", "attn_mask"),
)
"""Tensors beside the weights that count or that the network computes: a file may lack them, or have more of them."""

_WRAPPERS = ("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
"""Attributes under which PyTorch's wrappers keep what they wrap: anywhere in a network."""


@dataclass(frozen=True)
class _Naming:
    """How a project names the layers that networks of timm have in the same order.

    families: the modules of timm.models whose networks these are; that their layers have one order is tested for each.
    names: of the project's modules, in the order in which they stand beside each other; numbers go by their size.
    same_padding: its convolutions pad as TensorFlow's do, which no shape tells.
    """

    project: str
    families: tuple[str, ...]
    names: tuple[str, ...]
    same_padding: bool = False


_NAMINGS = (
    _Naming(
        "EfficientNet-PyTorch",
        ("efficientnet",),
        (
            *("_conv_stem", "_expand_conv", "_bn0", "_depthwise_conv", "_blocks", "_conv_head", "_bn1"),
            *("_se_reduce", "_se_expand", "_project_conv", "_bn2", "_fc"),
        ),
        same_padding=True,
    ),
    _Naming(
        "torchvision",
        ("convnext", "efficientnet", "mobilenetv3", "swin_transformer"),
        (
            *("features", "layers", "norm1", "attn", "norm2", "mlp", "conv", "block", "fc1", "fc2"),
            *("qkv", "proj", "norm", "reduction", "classifier", "head"),
        ),
    ),
)

_ROLES = {"layer_scale": "gamma"}
"""Names of torchvision's for tensors of a layer that are not those of timm's."""

_TORCHVISION_TRANSFORMER = (
    (r"class_token$", "cls_token"),
    (r"encoder\.pos_embedding$", "pos_embed"),
    (r"conv_proj\.", "patch_embed.proj."),
    (r"encoder\.layers\.encoder_layer_(\d+)\.", r"blocks.\1."),
    (r"(.*)\.ln_([12])\.", r"\1.norm\2."),
    (r"(.*)\.self_attention\.in_proj_", r"\1.attn.qkv."),
    (r"(.*)\.self_attention\.out_proj\.", r"\1.attn.proj."),
    (r"(.*)\.mlp\.(?:0|linear_1)\.", r"\1.mlp.fc1."),
    (r"(.*)\.mlp\.(?:3|linear_2)\.", r"\1.mlp.fc2."),
    (r"encoder\.ln\.", "norm."),
    (r"heads\.head\.", "head."),
)


def is_computed(name: str) -> bool:
    """Whether a tensor of this name is no weight."""
    return name.rpartition(".")[2] in _COMPUTED


def renaming_of_timm(network: nn.Module) -> Renaming:
    """What timm itself does with the weights of other projects before it loads them into one of its networks.

    They get timm's names, and the position embeddings of another input size are resampled. For any other network, and
    where timm does nothing, weights stay as they are.
    """
    if _family(network) is None:
        return dict
    module = inspect.getmodule(type(network))
    # timm has no registry of these functions; they stand beside their networks under these names.
    names = ("checkpoint_filter_fn", "_filter_fn", "_filter_torchvision_pretrained")
    function = next((found for name in names if (found := getattr(module, name, None))), None)
    if function is None:
        return dict
    takes_network = len(inspect.signature(function).parameters) > 1
    return lambda state: function(dict(state), network) if takes_network else function(dict(state))


def translations(state: State, network: nn.Module, rename: Renaming) -> Iterator[tuple[State, str]]:
    """The tensors of a file under each of the names that the network may have for them, likeliest first.

    What was done is told with each, "" where nothing was.
    """
    own = network.state_dict()
    yield state, ""
    if (unwrapped := _without_wrappers(state, own)).keys() != state.keys():
        yield unwrapped, ""
        state = unwrapped
    if prefix := _shared_prefix([*own]):
        yield {f"{prefix}{name}": tensor for name, tensor in state.items()}, ""
    try:
        with torch.device("cpu"):  # where the tensors are, wherever the network is
            renamed = rename(dict(state))
    except Exception:  # of any kind: it was made for files of another kind
        renamed = state
    if renamed.keys() != state.keys() or any(renamed[name] is not state[name] for name in renamed):
        resampled = [name for name in renamed if name in state and renamed[name].shape != state[name].shape]
        yield renamed, f"resampled to the network's size: {', '.join(resampled)}" if resampled else ""
    transformer = {_substituted(name): tensor for name, tensor in state.items()}
    if transformer.keys() != state.keys():
        yield transformer, "names of torchvision were translated into those of the network"
    pads_same = any(isinstance(module, Conv2dSame) for module in network.modules())
    for naming in _NAMINGS:
        if _family(network) in naming.families and (found := _by_order(state, own, naming)):
            if naming.same_padding != pads_same:
                padding = "as TensorFlow's do" if naming.same_padding else "evenly"
                begins = "begins" if naming.same_padding else "does not begin"
                raise ValueError(
                    f"has the names of {naming.project}, whose convolutions pad {padding}, and this network's pad "
                    f"otherwise; take timm's architecture of the same size whose name {begins} with tf_"
                )
            yield (
                found,
                f"its names are those of {naming.project}: {len(found)} tensors were taken in the order of the layers, "
                "whose kinds and shapes agree one for one",
            )


def project_of(state: State) -> str | None:
    """Whose names the tensors have, where that is known and is not timm."""
    return next((naming.project for naming in _NAMINGS if _has_names_of(naming, _layers(state))), None)


def _family(network: nn.Module) -> str | None:
    """The module of timm.models that a network is of; None for networks of others."""
    package, _, family = type(network).__module__.rpartition(".")
    return family if package == "timm.models" else None


def _substituted(name: str) -> str:
    for pattern, replacement in _TORCHVISION_TRANSFORMER:
        name = re.sub(f"^{pattern}", replacement, name)
    return name


def _without_wrappers(state: State, own: Mapping[str, Tensor]) -> State:
    """The names without the attributes of PyTorch's wrappers, unless the network is wrapped itself."""
    gone = {part for part in _WRAPPERS if not any(part in name.split(".") for name in own)}
    bare = {".".join(part for part in name.split(".") if part not in gone): tensor for name, tensor in state.items()}
    return bare if len(bare) == len(state) else state


def _shared_prefix(names: list[str]) -> str:
    """What all names begin with, up to a dot: the network wraps the one that the file may hold."""
    parts = [name.split(".")[:-1] for name in names]
    shared = [level[0] for level in itertools.takewhile(lambda level: len({*level}) == 1, zip(*parts, strict=False))]
    return "".join(f"{part}." for part in shared)


def _by_order(state: State, own: Mapping[str, Tensor], naming: _Naming) -> State | None:
    """The tensors under the network's names, layer by layer in the order of both; None unless all agree.

    The order is that of the naming, not of the file, which may be sorted otherwise.
    """
    rank = {name: index for index, name in enumerate(naming.names)}

    def place(path: str) -> list[Any]:
        return [int(part) if part.isdecimal() else rank[part] for part in path.split(".")]

    theirs, ours = _layers(state), _layers(own)
    if len(theirs) != len(ours) or not _has_names_of(naming, theirs):
        return None
    found: State = {}
    *_, last = ours
    for path, (own_path, roles) in zip(sorted(theirs, key=place), ours.items(), strict=True):
        if theirs[path].keys() != roles.keys():
            return None
        for role, tensor in theirs[path].items():
            # To some a fully connected layer is a convolution, of one pixel.
            if [size for size in tensor.shape if size > 1] == [size for size in roles[role].shape if size > 1]:
                tensor = tensor.reshape(roles[role].shape)
            elif own_path != last:
                return None
            found[f"{own_path}.{role}"] = tensor
    return found


def _has_names_of(naming: _Naming, paths: Iterable[str]) -> bool:
    parts = [path.split(".") for path in paths]
    return all(first in naming.names for first, *_ in parts) and all(
        part.isdecimal() or part in naming.names for path in parts for part in path
    )


def _layers(state: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """The weights of each layer, by their name in it."""
    layers: dict[str, dict[str, Tensor]] = {}
    for name, tensor in state.items():
        path, _, role = name.rpartition(".")
        if not is_computed(name):
            layers.setdefault(path, {})[_ROLES.get(role, role)] = tensor
    return layers
