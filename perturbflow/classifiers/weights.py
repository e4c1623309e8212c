"""Weights of a file fitted to a network and loaded into it."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from perturbflow.classifiers.weight_files import read_weights
from perturbflow.classifiers.weight_names import Renaming, State, is_computed, project_of, translations

logger = logging.getLogger(__name__)

_AVERAGED = re.compile(r"(?<![a-z])(ema|swa|avg|averaged?)(?![a-z])", re.IGNORECASE)
"""How the weights are called that are averaged over a training."""

_BESIDE = re.compile(r"(\w*_)?(loss(es)?|criteri(on|a)|metrics?|aux[a-z]*)(_\w+|\d*)\.", re.IGNORECASE)
"""How the names begin of what a training has beside the network: losses, metrics, heads of their own."""


@dataclass(frozen=True)
class Fit:
    """The weights of a file for a network.

    state: under the names of the network, for its `load_state_dict`; without the last layer where that is not filled.
    head_unfilled: names of the weights of the network's last layer where the file lacks any of them or has another
        shape for one; () where it is filled.
    head_classes: classes of the file's last layer; None where it has none.
    notes: what was decided about the file, a sentence each.
    """

    state: State
    head_unfilled: tuple[str, ...]
    head_classes: int | None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Attempt:
    """A part of a file's tensors, under names that the network may have for them.

    root: what was taken from the beginning of their names. note: what else was done. misfit: names that one of the two
    lacks or that have another shape, but for those of the last layer. head_unfilled: as in `Fit`.
    """

    root: str
    state: State
    note: str
    misfit: tuple[str, ...]
    head_unfilled: tuple[str, ...]


def load_weights_of_file(network: nn.Module, rename: Renaming, path: Path) -> Fit:
    """Load a file of weights; a last layer that it does not fill is left as it is, with a warning.

    The rest, and what is raised, is as for `read_weights` and `fit_weights`.
    """
    fit = fit_weights(network, read_weights(path), path, rename)
    for note in fit.notes:
        logger.info("%s: %s", path, note)
    if fit.head_unfilled:
        logger.warning("%s: its last layer does not fit; that of the network stays untrained", path)
    network.load_state_dict(fit.state, strict=False)
    return fit


def fit_weights(network: nn.Module, state: State, path: Path, rename: Renaming) -> Fit:
    """Find a network's weights among the tensors of a file.

    They may stand under any prefix, with others beside them, and under names of another project. Where several prefixes
    fit, the weights averaged over the training are taken. The network's own values are not looked at, so that it may be
    on torch's meta device.

    state: as `read_weights` gives it. path: of the file, for messages. rename: gives weights with the names of another
    project those of the network.
    Raises ValueError where anything but the last layer does not fit, with what the file has, what the network wants and
    the likely cause, and where several different networks in the file fit.
    """
    own, heads = network.state_dict(), tuple(f"{head}." for head in _heads(network))
    n_weights = sum(not is_computed(name) for name in own)
    attempts = []
    for root in _roots([*state], at_least=min(n_weights, len(state)) / 2):
        part = {name.removeprefix(root): tensor for name, tensor in state.items() if name.startswith(root)}
        try:
            for candidate, note in translations(part, network, rename):
                attempts.append(_attempt(root, candidate, note, own, heads))
                if not attempts[-1].misfit:
                    break
        except ValueError as error:
            raise ValueError(f"weights: {path} {error}") from error
    fits = _different([attempt for attempt in attempts if not attempt.misfit])
    if not fits:
        shared = [attempt for attempt in attempts if own.keys() & attempt.state.keys()]
        closest = min(shared, key=lambda attempt: len(attempt.misfit), default=attempts[0])
        raise ValueError(_misfit(path, state, own, heads, closest))
    taken, notes = _chosen(fits, path)
    roots = tuple(fit.root for fit in fits)
    left_out = [name for name in state if not name.startswith(roots)]
    left_out += [f"{taken.root}{name}" for name in taken.state if _is_beside(name, own)]
    if left_out:
        notes.append(f"left out, as no part of the network: {_some(left_out)}")
    return Fit(
        {
            name: taken.state[name]
            for name in own
            if _agree(own[name], taken.state.get(name)) and name not in taken.head_unfilled
        },
        taken.head_unfilled,
        _n_classes(taken.state, heads),
        (*filter(None, [taken.note]), *notes),
    )


def _heads(network: Any) -> list[str]:
    """Paths of the last layers: what the network or timm calls its classifier, else its last module with weights."""
    classifier = network.get_classifier() if hasattr(network, "get_classifier") else ()
    layers = classifier if isinstance(classifier, tuple) else (classifier,)
    described = getattr(network, "pretrained_cfg", None)
    declared = described.get("classifier") if isinstance(described, Mapping) else None
    names = (declared,) if isinstance(declared, str) else declared or ()
    heads = [
        path for path, module in network.named_modules() if path in names or any(module is layer for layer in layers)
    ]
    return heads or [name.rpartition(".")[0] for name in network.state_dict()][-1:]


def _roots(names: Sequence[str], at_least: float) -> list[str]:
    """What the names of enough tensors begin with, "" and then up to some dot."""
    counts: Counter[str] = Counter()
    for name in names:
        counts.update(name[: dot.end()] for dot in re.finditer(r"\.", name))
    return ["", *(root for root, count in counts.items() if count >= at_least)]


def _attempt(root: str, state: State, note: str, own: Mapping[str, Tensor], heads: tuple[str, ...]) -> _Attempt:
    unfit = [name for name in {**own, **state} if not _agree(own.get(name), state.get(name))]
    unfit = [name for name in unfit if not is_computed(name) and not _is_beside(name, own)]
    misfit = tuple(name for name in unfit if not name.startswith(heads))
    head_unfilled = tuple(name for name in own if name.startswith(heads)) if len(misfit) < len(unfit) else ()
    return _Attempt(root, state, note, misfit, head_unfilled)


def _agree(one: Tensor | None, other: Tensor | None) -> bool:
    """Of one shape and kind: whole numbers are no weights, but for what is quantised."""
    return (
        one is not None
        and other is not None
        and one.shape == other.shape
        and one.is_floating_point() == other.is_floating_point()
    )


def _is_beside(name: str, own: Mapping[str, Tensor]) -> bool:
    top = name.partition(".")[0]
    return bool(_BESIDE.match(name)) and not any(other.partition(".")[0] == top for other in own)


def _different(fits: Sequence[_Attempt]) -> list[_Attempt]:
    """Those whose tensors differ, the first of each."""
    different: list[_Attempt] = []
    for fit in fits:
        if not any(
            fit.head_unfilled == other.head_unfilled
            and all(_equal(tensor, other.state[name]) for name, tensor in fit.state.items() if name in other.state)
            for other in different
        ):
            different.append(fit)
    return different


def _equal(one: Tensor, other: Tensor) -> bool:
    return one is other or (one.shape == other.shape and torch.equal(one, other))


def _chosen(fits: Sequence[_Attempt], path: Path) -> tuple[_Attempt, list[str]]:
    """The weights to take of several that fit, and what to say of it. Raises ValueError where nothing decides."""
    filled = [fit for fit in fits if not fit.head_unfilled] or fits
    averaged = [fit for fit in filled if _AVERAGED.search(fit.root)]
    candidates = averaged or filled
    others = [fit.root or "those without a prefix" for fit in fits if fit not in candidates]
    example = candidates[0].root if len(candidates) > 1 else others[0] if others else ""
    alone = (
        f'torch.save({{name: tensor for name, tensor in read_weights(Path("{path}")).items() '
        f'if name.startswith("{example}")}}, "one.pth"), read_weights from perturbflow.classifiers.weight_files'
    )
    if len(candidates) > 1:
        raise ValueError(
            f"weights: {path} holds different weights that fit the network, under "
            f"{', '.join(fit.root for fit in candidates)}; save those that are meant alone: {alone}"
        )
    if not others:
        return candidates[0], []
    why = "averaged over the training" if averaged else "with a last layer for these classes"
    return candidates[0], [
        f"the weights under {candidates[0].root}, {why}, were taken and not those under {', '.join(others)}; "
        f"to take these, save them alone: {alone}"
    ]


def _n_classes(state: State, heads: tuple[str, ...]) -> int | None:
    """Rows of the last matrix of the last layer."""
    rows = [tensor.shape[0] for name, tensor in state.items() if name.startswith(heads) and tensor.ndim > 1]
    return rows[-1] if rows else None


# ---- What is told of a file that does not fit


def _misfit(path: Path, file: State, own: Mapping[str, Tensor], heads: tuple[str, ...], attempt: _Attempt) -> str:
    """Both sides and the likely cause, for the attempt that came closest."""
    state, misfit = attempt.state, attempt.misfit
    both = [name for name in misfit if name in own and name in state]
    lacking = [name for name in misfit if name not in state]
    left_over = [name for name in misfit if name not in own]
    some_fit = bool(own.keys() & state.keys())
    told = [
        f"weights: {path} does not fit the network at {_some(misfit)}",
        f"the file has {_tensors(len(file), file)}",
        f"the network wants {_tensors(len(own), own)}",
        *([f"the file lacks {_some(lacking)}"] if lacking and some_fit else []),
        *([f"the network has no {_some(left_over)}"] if left_over and some_fit else []),
        *([f"{both[0]} is {_kind(state[both[0]])} there and {_kind(own[both[0]])} here"] if both else []),
        f"likely {_cause(state, own, heads, both, lacking, left_over)}",
    ]
    return "; ".join(told)


def _cause(
    state: State,
    own: Mapping[str, Tensor],
    heads: tuple[str, ...],
    both: Sequence[str],
    lacking: Sequence[str],
    left_over: Sequence[str],
) -> str:
    """Why weights do not fit, by the names that both have, that the file lacks, and that are left over."""
    common = own.keys() & state.keys()
    if any(not state[name].is_floating_point() and own[name].is_floating_point() for name in both):
        return "the weights are quantised to whole numbers; take those that they were made from"
    if not common:
        if Counter(tuple(tensor.shape) for tensor in state.values()) == Counter(tuple(t.shape) for t in own.values()):
            return "it is this network under other names, which have to be translated into its own: all shapes agree"
        if project := project_of(state):
            return f"it is of another architecture or size: the names are {project}'s, the layers not this network's"
        return "it is of another architecture, or another implementation of this one with names of its own"
    if all(name.startswith(heads) for name in state):
        return "it holds the last layer alone"
    if not lacking and not left_over:
        if all(re.search(r"pos|relative|attn_mask", name) for name in both):
            return "it is for another input_size, which the network's position embedding is made for"
        first = both[0]
        if len(both) == 1 and own[first].ndim == 4 and own[first].shape[::2] == state[first].shape[::2]:
            return f"it is for images of {state[first].shape[1]} channels; here they have {own[first].shape[1]}"
        return "it is of the same architecture in another width or variant"
    if not left_over and not both:
        return "it holds a part of the network, or that of a shallower one"
    if not lacking and not both:
        return "it is of a deeper network, or of one with more parts"
    return "it is of another variant or another architecture"


def _tensors(count: int, state: Mapping[str, Tensor]) -> str:
    shown = ", ".join(f"{name} {_kind(tensor)}" for name, tensor in [*state.items()][:3])
    return f"{count} tensors{', such as ' + shown if shown else ''}"


def _kind(tensor: Tensor) -> str:
    kind = "" if tensor.is_floating_point() else f" {str(tensor.dtype).removeprefix('torch.')}"
    return f"({', '.join(map(str, tensor.shape))}){kind}"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
