"""Taps found in a network that does not declare its own, or named by a user."""

from __future__ import annotations

import difflib
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from timm.layers import SelectAdaptivePool2d
from torch import Tensor, nn

from perturbflow.classifiers.taps import ITSELF, Kind, Tap, module_at

N_IMAGES = 2
"""Images in the pass that looks at a network."""


def named_taps(
    network: nn.Module, taps: Sequence[str] | Mapping[str, str], name: str, n_classes: int, input_size: int
) -> list[Tap]:
    """The taps that a user names, in the order in which they run.

    taps: paths of modules, or the wording of each and its path. name: of the network, for messages.
    The network runs once, on images of `input_size`.
    Raises ValueError, with the nearest paths, where there is no such module, and where one does not run exactly once in
    a pass, does not give a feature map, or where the last one does not give the logits.
    """
    if isinstance(taps, Mapping):
        entries = [(f"taps.{layer}", layer, path) for layer, path in taps.items()]
    else:
        entries = [(f"taps[{index}]", path, path) for index, path in enumerate(taps)]
    named: dict[nn.Module, tuple[str, str]] = {}
    for key, layer, path in entries:
        module = _existing(network, path, f"{key}: {name}")
        if module in named:
            raise ValueError(f"{key}: {path} is the module of {named[module][0]} as well; name it once")
        named[module] = layer, path
    observed = _Pass(network, name, n_classes, input_size)
    for (key, _, path), module in zip(entries, named, strict=True):
        observed.require_map(module, f"{key}: {path}")
    ordered = sorted(named, key=observed.when)
    if ordered[-1] not in observed.logits:
        raise ValueError(
            f"taps: the last must be the logits, given by {observed.path(observed.logits[0])}; "
            f"of those named, {named[ordered[-1]][1]} runs last"
        )
    return [Tap(*named[module], observed.kind(module)) for module in ordered]


def stage_taps(network: nn.Module, name: str, n_classes: int, input_size: int) -> list[Tap]:
    """The taps of a network of timm: the end of each stage as timm declares them, the pooling, the logits.

    The children, as in `child_taps`, where timm declares no stages. The pooling is left out where no module does it.
    Raises ValueError where a stage does not run exactly once in a pass or does not give a feature map.
    """
    declared: Any = getattr(network, "feature_info", None) or []
    paths = list(dict.fromkeys(stage["module"] for stage in declared if stage.get("module")))
    if not paths:
        return child_taps(network, name, n_classes, input_size)
    observed = _Pass(network, name, n_classes, input_size)
    taps = [Tap(f"stage {number}", path, "spatial") for number, path in enumerate(paths, start=1)]
    unfit = "taps: name them, because the stages that timm declares cannot be observed:"
    for tap in taps:
        observed.require_map(_existing(network, tap.module, f"{unfit} {name}"), f"{unfit} {tap.module}")
    taps.sort(key=lambda tap: observed.when(network.get_submodule(tap.module)))
    pools = [
        Tap("pool", path, observed.kind(module))
        for path, module in network.named_modules()
        if path.rpartition(".")[2] == "global_pool" and observed.pools(module)
    ]
    return [*taps, *pools[:1], Tap("logits", observed.path(observed.logits[0]), "logits")]


def child_taps(network: nn.Module, name: str, n_classes: int, input_size: int) -> list[Tap]:
    """The taps of any network: the outputs of its children in the order in which they run, the last one the logits.

    Children that do not run exactly once in a pass, or give something else than a feature map, are left out.
    Raises ValueError where the network does not run, or does not give logits.
    """
    observed = _Pass(network, name, n_classes, input_size)
    children = {child: path for path, child in network.named_children()}
    logits = next((module for module in observed.logits if module in children), observed.logits[0])
    before = [
        child
        for child in children
        if observed.gives_map(child) and child not in observed.logits and observed.when(child) < observed.when(logits)
    ]
    return [
        *(Tap(children[child], children[child], observed.kind(child)) for child in sorted(before, key=observed.when)),
        Tap("logits", observed.path(logits), "logits"),
    ]


def _existing(network: nn.Module, path: str, key: str) -> nn.Module:
    """The module at a path. Raises ValueError with the nearest paths where there is none."""
    try:
        return module_at(network, path)
    except AttributeError:
        paths = [name for name, _ in network.named_modules() if name]
        near = difflib.get_close_matches(path, paths, n=5, cutoff=0.5)
        near = near or [name for name, _ in network.named_children()]
        raise ValueError(f"{key} has no module {path}; the nearest are {', '.join(near)}") from None


@dataclass
class _ModuleRun:
    """What a module did in a pass: how often it ran, when it ended last, and what it then gave."""

    times: int = 0
    ended: int = 0
    output: str = "nothing"
    shape: tuple[int, ...] = ()
    is_map: bool = False
    kind: Kind = "spatial"


def _kind(module: nn.Module, given: Tensor, output: Tensor, before: _ModuleRun) -> Kind:
    """What a module's output (B, ...) is. given: its first input. before: the run of the module that ended before it.

    A vector has one place alone. Convolutions and poolings on the way may come down to that too, where images are
    small, and stay spatial. A convolution is a fully connected layer where it covers its whole map, and where its input
    was no longer spatial.
    """
    if not _is_vector(output.shape):
        return "spatial"
    places = given.shape[2:]
    match module:
        case nn.Linear():
            return "fully connected"
        case nn.Conv1d() | nn.Conv2d() | nn.Conv3d():
            if math.prod(places) > 1:
                is_connected = places == module.kernel_size
            else:
                is_connected = _kind_of_vector(given.shape, before) != "spatial"
            return "fully connected" if is_connected else "spatial"
        case nn.MaxPool1d() | nn.MaxPool2d() | nn.MaxPool3d():
            return before.kind
        case nn.AvgPool1d() | nn.AvgPool2d() | nn.AvgPool3d() if max(places, default=1) <= 2:
            return before.kind
        case nn.AdaptiveAvgPool1d() | nn.AdaptiveAvgPool2d() | nn.AdaptiveAvgPool3d() | SelectAdaptivePool2d():
            return "pooled" if before.kind == "spatial" else before.kind
    return _kind_of_vector(output.shape, before)


def _kind_of_vector(shape: Sequence[int], before: _ModuleRun) -> Kind:
    """What a vector is that no weights made: pooled, where it holds less than the map before it, or else as that."""
    is_pooled = not _is_vector(before.shape) and math.prod(shape) != math.prod(before.shape)
    return "pooled" if is_pooled else before.kind


def _is_vector(shape: Sequence[int]) -> bool:
    return sum(size > 1 for size in shape[1:]) < 2


class _Pass:
    """What each module of a network gave in one pass, in evaluation mode, of black images.

    logits: the modules that gave the logits, the one to name first. The network's modes are as before afterwards.
    Raises ValueError where the network does not run at this size, or gives no logits.
    """

    def __init__(self, network: nn.Module, name: str, n_classes: int, input_size: int) -> None:
        self._paths = {module: path or ITSELF for path, module in network.named_modules()}
        self._runs: dict[nn.Module, _ModuleRun] = {module: _ModuleRun() for module in self._paths}
        self._candidates: dict[nn.Module, tuple[Tensor, int]] = {}
        self._shape = (N_IMAGES, n_classes)
        output = self._observe(network, name, input_size)
        if not isinstance(output, Tensor) or output.shape != self._shape or not output.is_floating_point():
            raise ValueError(
                f"architecture: {name} gives {_described(output)} for {N_IMAGES} images; "
                f"a classifier gives logits of shape {self._shape}"
            )
        self.logits = self._modules_that_gave(output, network)

    def _observe(self, network: nn.Module, name: str, input_size: int) -> Any:
        """Run the network with a hook on every module; its output."""
        clock = itertools.count(1)
        before = _ModuleRun()

        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            nonlocal before
            is_map = isinstance(output, Tensor) and output.is_floating_point() and output.shape[:1] == (N_IMAGES,)
            shape = tuple(output.shape) if is_map else ()
            times = self._runs[module].times + 1
            self._runs[module] = _ModuleRun(times, next(clock), _described(output), shape, is_map and len(shape) > 1)
            if self._runs[module].is_map:
                given = next((value for value in inputs if isinstance(value, Tensor)), output)
                self._runs[module].kind = _kind(module, given, output, before)
                before = self._runs[module]
            if is_map and output.numel() == N_IMAGES * self._shape[1]:
                self._candidates[module] = output, output._version

        like = next(itertools.chain(network.parameters(), network.buffers()), torch.empty(0))
        images = torch.zeros(N_IMAGES, 3, input_size, input_size, device=like.device)
        in_training = [module for module in self._paths if module.training]
        handles = [module.register_forward_hook(hook) for module in self._paths]
        network.eval()
        try:
            with torch.no_grad():
                return network(images)
        except Exception as error:  # of any kind: the network may be anybody's
            raise ValueError(
                f"input_size: {name} does not run on {input_size} x {input_size} pixels: "
                f"{type(error).__name__}: {error}"
            ) from error
        finally:
            for handle in handles:
                handle.remove()
            for module in in_training:
                module.training = True

    def _modules_that_gave(self, logits: Tensor, network: nn.Module) -> list[nn.Module]:
        """The modules whose output is the logits, or a view of them that has been written to no more.

        First the one that timm calls the classifier, then the innermost; (B, n_classes) before other shapes; the
        network itself last.
        """
        # One object for all views of one memory; `data_ptr()` would not tell them apart on torch's meta device.
        storage, version = logits.untyped_storage(), logits._version
        gave = [
            module
            for module, (output, its_version) in self._candidates.items()
            if output.untyped_storage() is storage and its_version == version and self._runs[module].times == 1
        ]
        classifier = network.get_classifier() if hasattr(network, "get_classifier") else None  # type: ignore[operator]
        return sorted(
            gave,
            key=lambda module: (
                module is network,
                self._runs[module].shape != self._shape,
                module is not classifier,
                self._runs[module].ended,
            ),
        )

    def path(self, module: nn.Module) -> str:
        return self._paths[module]

    def when(self, module: nn.Module) -> int:
        """When the module ended, counted over all modules."""
        return self._runs[module].ended

    def kind(self, module: nn.Module) -> Kind:
        """What the module's map is."""
        return "logits" if module in self.logits else self._runs[module].kind

    def gives_map(self, module: nn.Module) -> bool:
        """Whether the module ran exactly once and gave a float tensor (B, ...)."""
        return self._runs[module].times == 1 and self._runs[module].is_map

    def pools(self, module: nn.Module) -> bool:
        """Whether the module gave (B, C) or (B, C, 1, 1), before the logits."""
        shape = self._runs[module].shape
        flat = len(shape) == 2 or (len(shape) == 4 and shape[2:] == (1, 1))
        return self.gives_map(module) and flat and self.when(module) < self.when(self.logits[0])

    def require_map(self, module: nn.Module, subject: str) -> None:
        """Raises ValueError where `gives_map` is false; subject begins the message."""
        run = self._runs[module]
        if run.times != 1:
            raise ValueError(f"{subject} runs {run.times} times in a pass; a tap must run once")
        if not run.is_map:
            raise ValueError(f"{subject} gives {run.output} for {N_IMAGES} images; a tap must give floats, (B, ...)")


def _described(output: Any) -> str:
    if isinstance(output, Tensor):
        return f"a tensor of {str(output.dtype).removeprefix('torch.')}, {tuple(output.shape)},"
    size = f" of {len(output)}" if isinstance(output, list | tuple | dict) else ""
    return f"a {type(output).__name__}{size}"
