"""Taps found in a network that does not declare its own, or named by a user."""

from __future__ import annotations

import difflib
import itertools
import math
import weakref
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from timm.layers import SelectAdaptivePool2d
from torch import Tensor, nn

from perturbflow.classifiers.taps import ITSELF, Kind, Tap, module_at

# In the pass that looks at a network. With one or two, the states of a recurrent layer would pass for maps of images.
N_IMAGES = 3

# What a user writes around a network whose logits lie in its output.
WRAPPER = """
from torch import nn
from {package} import {build}


class Logits(nn.Module):
    def __init__(self, num_classes, **options):
        super().__init__()
        self.network = {build}(num_classes=num_classes, **options)

    def forward(self, images):
        return self.network(images){place}
"""


def named_taps(
    network: nn.Module, taps: Sequence[str] | Mapping[str, str], name: str, n_classes: int, input_size: int
) -> list[Tap]:
    """The taps that a user names, in the order in which they run.

    taps: paths of modules, or the wording of each and its path. Behind a path stands the element of its output where
    that is a tuple, list or mapping (see `Tap.module`). name: of the network, for messages. The network runs once, on
    images of `input_size`.
    Raises ValueError, with the nearest paths, where there is no such module, and where one does not run exactly once in
    a pass, does not give a feature map, or where the last one does not give the logits.
    """
    if isinstance(taps, Mapping):
        entries = [(f"taps.{layer}", layer, path) for layer, path in taps.items()]
    else:
        entries = [(f"taps[{index}]", path, path) for index, path in enumerate(taps)]
    modules = [_existing(network, path, f"{key}: {name}") for key, _, path in entries]
    observed = _Pass(network, name, n_classes, input_size)
    named: dict[str, tuple[str, str]] = {}
    for (key, layer, path), module in zip(entries, modules, strict=True):
        found = observed.path(module) + "".join(path.partition("[")[1:])
        if found in named:
            raise ValueError(f"{key}: {path} is the module of {named[found][0]} as well; name it once")
        observed.require_map(found, key)
        named[found] = layer, path
    ordered = sorted(named, key=observed.when)
    if ordered[-1] not in observed.logits:
        raise ValueError(
            f"taps: the last must be the logits, given by {observed.logits[0]}; "
            f"of those named, {named[ordered[-1]][1]} runs last"
        )
    return [Tap(*named[found], observed.kind(found)) for found in ordered]


def stage_taps(network: nn.Module, name: str, n_classes: int, input_size: int) -> list[Tap]:
    """The taps of a network of timm: the end of each stage as timm declares them, the pooling, the logits.

    The children, as in `child_taps`, where timm declares no stages or one of them cannot be observed. The pooling is
    left out where no module does it.
    Raises ValueError where the network does not run, or does not give logits.
    """
    observed = _Pass(network, name, n_classes, input_size)
    declared: Any = getattr(network, "feature_info", None) or []
    stages = [observed.stage(stage) for stage in declared if stage.get("module")]
    paths = [path for path in dict.fromkeys(stages) if path]
    if not paths or None in stages:
        return _child_taps(observed)
    taps = [Tap(f"stage {number}", path, "spatial") for number, path in enumerate(paths, start=1)]
    taps.sort(key=lambda tap: observed.when(tap.module))
    pools = [
        Tap("pool", path, observed.kind(path))
        for path in observed.maps
        if path.rpartition(".")[2] == "global_pool" and observed.pools(path)
    ]
    return [*taps, *pools[:1], Tap("logits", observed.logits[0], "logits")]


def child_taps(network: nn.Module, name: str, n_classes: int, input_size: int) -> list[Tap]:
    """The taps of any network: the outputs of its children in the order in which they run, the last one the logits.

    In place of a child that gives no feature map, such as a list of modules, and of one that alone does all, stand its
    own children. Outputs that are tuples, lists or mappings are taken apart. What runs more than once is left out.
    Raises ValueError where the network does not run, or does not give logits.
    """
    return _child_taps(_Pass(network, name, n_classes, input_size))


def _child_taps(observed: _Pass) -> list[Tap]:
    paths = list(dict.fromkeys(path for child in observed.children() for path in observed.maps_of(child)))
    logits = next((path for path in observed.logits if path in paths), observed.logits[0])
    before = [path for path in paths if path not in observed.logits and observed.when(path) < observed.when(logits)]
    return [
        *(Tap(path, path, observed.kind(path)) for path in sorted(before, key=observed.when)),
        Tap("logits", logits, "logits"),
    ]


def _existing(network: nn.Module, path: str, key: str) -> nn.Module:
    """The module at a path. Raises ValueError with the nearest paths where there is none."""
    try:
        return module_at(network, path)
    except AttributeError:
        wanted = path.partition("[")[0]
        paths = [name for name, _ in network.named_modules() if name]
        near = difflib.get_close_matches(wanted, paths, n=5, cutoff=0.5)
        near = near or [name for name, _ in network.named_children()]
        raise ValueError(f"{key} has no module {wanted}; the nearest are {', '.join(near)}") from None


@dataclass
class _Map:
    """A feature map in a pass. when: its module ended, and its number among the maps of that.

    source: path of the map, where it is an element of an output, that a module within gave and that is handed on.
    """

    shape: tuple[int, ...] = ()
    kind: Kind = "spatial"
    when: tuple[int, int] = (0, 0)
    source: str | None = None


@dataclass
class _ModuleRun:
    """What a module did in a pass: how often it ran, and what it then gave last. maps: by path."""

    times: int = 0
    output: str = "nothing"
    maps: dict[str, _Map] = field(default_factory=dict)


def _kind(module: nn.Module, given: Tensor, output: Tensor, before: _Map) -> Kind:
    """What a module's output (B, ...) is. given: its first input. before: the map given before it.

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


def _kind_of_vector(shape: Sequence[int], before: _Map) -> Kind:
    """What a vector is that no weights made: pooled, where it holds less than the map before it, or else as that."""
    is_pooled = not _is_vector(before.shape) and math.prod(shape) != math.prod(before.shape)
    return "pooled" if is_pooled else before.kind


def _is_vector(shape: Sequence[int]) -> bool:
    return sum(size > 1 for size in shape[1:]) < 2


class _Pass:
    """What each module of a network gave in one pass, in evaluation mode, of black images.

    maps: of the modules that ran exactly once, by path. logits: paths of the maps that are the logits, the one to name
    first. The network's modes are as before afterwards.
    Raises ValueError where the network does not run at this size, or gives no logits.
    """

    def __init__(self, network: nn.Module, name: str, n_classes: int, input_size: int) -> None:
        self._network = network
        self._paths = {module: path or ITSELF for path, module in network.named_modules()}
        self._runs: dict[nn.Module, _ModuleRun] = {module: _ModuleRun() for module in self._paths}
        self._candidates: dict[str, tuple[Tensor, int]] = {}
        self._given: dict[str, tuple[weakref.ref[Tensor], int]] = {}
        self._input_size = input_size
        self._shape = (N_IMAGES, n_classes)
        output = self._observe(name)
        if not isinstance(output, Tensor) or output.shape != self._shape or not output.is_floating_point():
            raise ValueError(self._gives_no_logits(name, output))
        self.maps = {path: found for run in self._runs.values() if run.times == 1 for path, found in run.maps.items()}
        self.logits = self._maps_that_are(output)

    def _observe(self, name: str) -> Any:
        """Run the network with a hook on every module; its output."""
        clock = itertools.count(1)
        before = _Map()

        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            nonlocal before
            run = self._runs[module] = _ModuleRun(self._runs[module].times + 1, _described(output))
            ended = next(clock)
            for place, tensor in _tensors(output):
                if not tensor.is_floating_point() or tensor.ndim < 2 or len(tensor) != N_IMAGES:
                    continue
                given = next((value for value in inputs if isinstance(value, Tensor)), tensor)
                path = self._paths[module] + "".join(f"[{key}]" for key in place)
                kind = _kind(module, given, tensor, before)
                source = self._source(tensor) if place else None
                run.maps[path] = _Map(tuple(tensor.shape), kind, (ended, len(run.maps)), source)
                self._given[path] = weakref.ref(tensor), tensor._version
                if tensor.numel() == math.prod(self._shape):
                    self._candidates[path] = tensor, tensor._version
            if isinstance(output, Tensor) and run.maps:
                (before,) = run.maps.values()

        network = self._network
        like = next(itertools.chain(network.parameters(), network.buffers()), torch.empty(0))
        images = torch.zeros(N_IMAGES, 3, self._input_size, self._input_size, device=like.device)
        in_training = [module for module in self._paths if module.training]
        handles = [module.register_forward_hook(hook) for module in self._paths]
        network.eval()
        try:
            with torch.no_grad():
                return network(images)
        except Exception as error:  # of any kind: the network may be anybody's
            raise ValueError(
                f"input_size: {name} does not run on {self._input_size} x {self._input_size} pixels: "
                f"{type(error).__name__}: {error}"
            ) from error
        finally:
            for handle in handles:
                handle.remove()
            for module in in_training:
                module.training = True

    def _source(self, tensor: Tensor) -> str | None:
        """Path of the map that was given last as this tensor and has not been written to since."""
        given = ((path, map_of(), version) for path, (map_of, version) in reversed(self._given.items()))
        return next((path for path, other, version in given if other is tensor and version == tensor._version), None)

    def _gives_no_logits(self, name: str, output: Any) -> str:
        """The message; with the lines to write where the logits lie in the output."""
        message = (
            f"architecture: {name} gives {_described(output)} for {N_IMAGES} images; "
            f"a classifier gives logits of shape {self._shape}"
        )
        for place, tensor in _tensors(output):
            if tensor.is_floating_point() and tensor.shape[:2] == self._shape and math.prod(tensor.shape[2:]) == 1:
                written = "".join(f"[{key!r}]" for key in place) + (".flatten(1)" if tensor.ndim > 2 else "")
                package, _, build = name.partition(":")
                wrapper = WRAPPER.format(package=package, build=build, place=written)
                return f"{message}. Name a module of yours that gives nothing else:\n{wrapper}"
        return message

    def _maps_that_are(self, logits: Tensor) -> list[str]:
        """Paths of the maps that are the logits, or a view of them that has been written to no more.

        First the one of the module that timm calls the classifier, then of the innermost; (B, n_classes) before other
        shapes; the network itself last.
        """
        # One object for all views of one memory; `data_ptr()` would not tell them apart on torch's meta device.
        storage, version = logits.untyped_storage(), logits._version
        are = [
            path
            for path, (tensor, its_version) in self._candidates.items()
            if path in self.maps and tensor.untyped_storage() is storage and its_version == version
        ]
        network: Any = self._network
        classifier = network.get_classifier() if hasattr(network, "get_classifier") else None
        named = self._paths.get(classifier) if isinstance(classifier, nn.Module) else None
        return sorted(
            are,
            key=lambda path: (
                path == ITSELF,
                self.maps[path].shape != self._shape,
                path != named,
                self.when(path),
            ),
        )

    def path(self, module: nn.Module) -> str:
        return self._paths[module]

    def when(self, path: str) -> tuple[int, int]:
        """When the map was given, counted over all modules and then over the elements of an output."""
        return self.maps[path].when

    def kind(self, path: str) -> Kind:
        """What the map is."""
        return "logits" if path in self.logits else self.maps[path].kind

    def maps_of(self, module: nn.Module) -> list[str]:
        """Paths of the maps that the module gave, none where it did not run exactly once."""
        return [path for path in self._runs[module].maps if path in self.maps]

    def pools(self, path: str) -> bool:
        """Whether the map is (B, C) or (B, C, 1, 1), and before the logits."""
        shape = self.maps[path].shape
        flat = len(shape) == 2 or (len(shape) == 4 and shape[2:] == (1, 1))
        return flat and self.when(path) < self.when(self.logits[0])

    def children(self) -> list[nn.Module]:
        """The network's children that gave maps, or what stands in their place (see `child_taps`)."""
        found = self._children_with_maps(self._network)
        while len(found) == 1 and (inner := self._children_with_maps(found[0])):
            found = inner
        return found

    def _children_with_maps(self, module: nn.Module) -> list[nn.Module]:
        """Its children, in place of each that gave no map the own children of that."""
        found = []
        for child in module.children():
            found += [child] if self.maps_of(child) else self._children_with_maps(child)
        return found

    def stage(self, declared: Mapping[str, Any]) -> str | None:
        """Path of the map that an entry of timm's `feature_info` declares, None where it cannot be observed.

        The path that is declared may begin within a part of the network. The map of a module that gives none is the
        last of its children's. Of several maps it is the one that has the declared channels and comes
        nearest to the declared resolution; where a module within gave it, the map of that, since what the stage hands
        on need not be what the network goes on from.
        """
        try:
            modules = [self._network.get_submodule(declared["module"])]
        except AttributeError:
            modules = [module for module, path in self._paths.items() if path.endswith(f".{declared['module']}")]
        if len(modules) != 1:
            return None
        if not self.maps_of(modules[0]):
            modules = self._children_with_maps(modules[0])
        maps = [path for module in modules for path in self.maps_of(module)]
        last = max((self.when(path)[0] for path in maps), default=0)
        maps = [path for path in maps if self.when(path)[0] == last]
        if len(maps) < 2:
            return next(iter(maps), None)
        channels, places = declared["num_chs"], (self._input_size / declared["reduction"]) ** 2
        fitting = [path for path in maps if channels in self.maps[path].shape[1:]] or maps
        found = min(fitting, key=lambda path: abs(math.log(math.prod(self.maps[path].shape[1:]) / channels / places)))
        source = self.maps[found].source
        return source if source in self.maps else found

    def require_map(self, path: str, key: str) -> None:
        """Raises ValueError, which begins with the key, where `maps` lacks the path."""
        if path in self.maps:
            return
        module = module_at(self._network, path)
        run, subject = self._runs[module], f"{key}: {self._paths[module]}"
        if run.times != 1:
            raise ValueError(f"{subject} runs {run.times} times in a pass; a tap must run once")
        maps = f"; its maps are {', '.join(run.maps)}" if run.maps else ""
        raise ValueError(f"{subject} gives {run.output} for {N_IMAGES} images; a tap must give floats, (B, ...){maps}")


def _tensors(output: Any) -> Iterator[tuple[tuple[Any, ...], Tensor]]:
    """Tensors in what a module gave, each behind the keys that lead to it through tuples, lists and mappings."""
    match output:
        case Tensor():
            yield (), output
        case list() | tuple():
            for index, element in enumerate(output):
                yield from (((index, *keys), tensor) for keys, tensor in _tensors(element))
        case Mapping():
            for key, element in output.items():  # of whole numbers, in some feature pyramids
                yield from (((key, *keys), tensor) for keys, tensor in _tensors(element))


def _described(output: Any) -> str:
    if isinstance(output, Tensor):
        return f"a tensor of {str(output.dtype).removeprefix('torch.')}, {tuple(output.shape)},"
    if isinstance(output, Mapping):
        return f"a mapping of {', '.join(map(str, output))}"
    size = f" of {len(output)}" if isinstance(output, list | tuple) else ""
    return f"a {type(output).__name__}{size}"
