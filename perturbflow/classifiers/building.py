"""Classifiers built from a config or from a checkpoint: those of the paper, of timm, or of anybody's own."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import timm
import torch
from timm.models import PretrainedCfg, resolve_model_input_args
from torch import nn

from perturbflow.classifiers.architectures import ARCHITECTURES
from perturbflow.classifiers.classifier import INTERPOLATION, INTERPOLATIONS, NORMALIZATION, Classifier
from perturbflow.classifiers.finding_taps import child_taps, named_taps, stage_taps
from perturbflow.classifiers.logits import IMAGENET, count_logits, find_logits
from perturbflow.classifiers.weight_files import read_weights
from perturbflow.classifiers.weight_names import renaming_of_timm
from perturbflow.classifiers.weight_paths import resolve_weights
from perturbflow.classifiers.weights import Fit, fit_weights, load_weights_of_file
from perturbflow.machine.import_paths import is_import_path, load_object, make

FROM_ELSEWHERE = ("hf-hub:", "local-dir:")
"""How timm's names begin of networks that a repository of Hugging Face's hub, or a folder, describes in config.json."""

DESCRIBED = ("options", "taps", "normalization", "interpolation", "n_logits", "logit_indices")
"""What a checkpoint may tell of a classifier beside its architecture, number of classes and input size."""


@dataclass(frozen=True)
class Input:
    """How a classifier takes images: size in pixels, normalisation and interpolation, as for `Classifier`."""

    size: int
    normalization: Mapping[str, Sequence[float]]
    interpolation: str


PAPERS_INPUT = Input(128, NORMALIZATION, INTERPOLATION)


def build_classifier(
    architecture: str,
    n_classes: int,
    input_size: int | None = None,
    weights: str = "none",
    options: Mapping[str, Any] | None = None,
    taps: Sequence[str] | Mapping[str, str] | None = None,
    normalization: Mapping[str, Sequence[float]] | None = None,
    interpolation: str | None = None,
    n_logits: int | None = None,
    logit_indices: Sequence[int] | None = None,
    needs_head: bool = False,
    load: bool = True,
) -> Classifier:
    """A classifier of the registry, of timm, or of anybody's own.

    architecture: a name of ARCHITECTURES, a name of timm (its `hf-hub:` and `local-dir:` names as well), or
    `package.module:name`, which is imported and called with `num_classes`, where it takes that, and the options.
    n_classes: of the data. weights: `none` (random, from torch's current seed), `imagenet` (timm's, downloaded, or
    those of the hub or folder that the architecture names), or a file, as for `resolve_weights` and `read_weights`. The
    last layer is replaced where the weights are for another number of classes.
    options: keyword arguments of the builder. Those of the registry's shrink the network.
    taps: paths of modules, or the wording of each and its path; by default the registry's, or what `stage_taps` and
    `child_taps` find. For taps that the registry does not declare the network runs once.
    input_size, normalization, interpolation: as for `Classifier`; None is what the weights of a network of timm were
    trained with, as timm describes them, and the paper's for its networks and where there are no weights.
    n_logits: of the network; None is n_classes. logit_indices: those that count, as for `Classifier`.
    needs_head: whether the weights have to fill the last layer. load: whether weights are loaded; without, it is only
    found whether they fit.

    Raises ValueError, which begins with the name of the setting, for an unknown architecture or option, for weights
    that do not fit or do not fill the last layer where they have to, and for taps that cannot be observed.
    """
    options = dict(options or {})
    n_logits = n_logits or n_classes
    entry = ARCHITECTURES.get(architecture)
    is_described = not entry and weights != "none"
    size = input_size or (None if is_described else PAPERS_INPUT.size)
    network = _network(architecture, n_logits, size, weights, options, load)
    if file := resolve_weights(weights):
        fit = _fit(network, architecture, file, load)
        random_head = f"that of {weights} is for {fit.head_classes or 'other'} classes" if fit.head_unfilled else ""
    elif weights == "imagenet":
        n_pretrained = _timm_config_of(architecture, weights).num_classes
        random_head = f"timm's weights are for {n_pretrained} classes" if n_pretrained != n_logits else ""
    else:  # an imported network may bring its own
        random_head = "" if is_import_path(architecture) else "there are no weights"
    if random_head and needs_head and logit_indices is not None:
        raise ValueError(f"logits: are said to stand for {n_logits} classes, but {random_head}")
    if random_head and needs_head:
        raise ValueError(
            f"training.max_epochs: 0 would leave the last layer random: {random_head}, the data have {n_classes}. To "
            "use a network with the last layer that it has, say with `logits` what that stands for, such as logits: "
            "imagenet; otherwise train it for an epoch at least"
        )
    described = _described_input(network) if is_described else PAPERS_INPUT
    size = size or described.size
    if taps is not None:
        found = named_taps(network, taps, architecture, n_logits, size)
    elif entry:
        found = list(entry.taps(network))
    else:
        find = child_taps if is_import_path(architecture) else stage_taps
        found = find(network, architecture, n_logits, size)
    return Classifier(
        network,
        found,
        size,
        {**described.normalization, **(normalization or {})},
        interpolation or described.interpolation,
        logit_indices,
    )


def _network(
    architecture: str,
    n_logits: int,
    input_size: int | None,
    weights: str,
    options: Mapping[str, Any],
    load: bool = True,
) -> nn.Module:
    """The network, with timm's weights where it shall have those."""
    if architecture in ARCHITECTURES:
        return _registry_network(architecture, n_logits, input_size or PAPERS_INPUT.size, weights, options, load)
    if is_import_path(architecture):
        return _imported_network(architecture, n_logits, weights, options)
    return _timm_network(architecture, n_logits, input_size, weights, options, load)


def _fit(network: nn.Module, architecture: str, file: Path, load: bool = False) -> Fit:
    """A file's weights under the network's names, loaded into it or not."""
    entry = ARCHITECTURES.get(architecture)
    rename = entry.timm_names if entry else renaming_of_timm(network)
    return (
        load_weights_of_file(network, rename, file) if load else fit_weights(network, read_weights(file), file, rename)
    )


def _timm_config_of(architecture: str, weights: str) -> Any:
    """`timm_config`, for the paper's networks too."""
    entry = ARCHITECTURES.get(architecture)
    return timm_config(entry.timm_name if entry else architecture, weights)


def _described_input(network: nn.Module) -> Input:
    """What a network of timm says that its weights were trained with; the paper's where it says nothing.

    Raises ValueError for images that are not square or have other channels than three.
    """
    described: Any = getattr(network, "pretrained_cfg", None) or {}
    channels, height, width = described.get("input_size") or (3, PAPERS_INPUT.size, PAPERS_INPUT.size)
    if channels != 3 or height != width:
        raise ValueError(
            f"input_size: the weights are for images of {channels} x {height} x {width}; only square images of three "
            "channels can be classified here, so give a size that the network takes"
        )
    interpolation = described.get("interpolation")
    return Input(
        height,
        {key: described.get(key) or PAPERS_INPUT.normalization[key] for key in ("mean", "std")},
        interpolation if interpolation in INTERPOLATIONS else PAPERS_INPUT.interpolation,
    )


def _registry_network(
    architecture: str, n_classes: int, input_size: int, weights: str, options: Mapping[str, Any], load: bool
) -> nn.Module:
    entry = ARCHITECTURES[architecture]
    allowed = [name for name in inspect.signature(entry.build).parameters if name != "n_classes"]
    if unknown := [name for name in options if name not in allowed]:
        raise ValueError(f"options.{unknown[0]}: {architecture} has no such option; it takes: {', '.join(allowed)}")
    if weights == "imagenet" and options:
        raise ValueError(f"weights: ImageNet weights do not fit {architecture} shrunk by {options}")
    if weights == "imagenet" and load:
        network = timm.create_model(entry.timm_name, pretrained=True, num_classes=n_classes)
    else:
        network = entry.build(n_classes, **options)
    entry.adjust(network, input_size)
    return network


def _timm_network(
    architecture: str, n_classes: int, input_size: int | None, weights: str, options: Mapping[str, Any], load: bool
) -> nn.Module:
    """A network of timm; made for `input_size`, where one is given and it would otherwise be fixed at another size."""
    timm_config(architecture, weights)
    is_pretrained = weights == "imagenet" and load
    build = partial(timm.create_model, architecture, pretrained=is_pretrained, num_classes=n_classes)
    is_fixed = bool(input_size) and "img_size" in resolve_model_input_args(architecture, {"img_size": input_size})
    if is_fixed and "img_size" not in options:
        try:
            return make(architecture, partial(build, img_size=input_size), options)
        except ValueError:  # not every network of a fixed size can be given another one
            pass
    return make(architecture, build, options)


def timm_config(architecture: str, weights: str) -> Any:
    """What timm knows about a network and its weights, None for nothing; that of a hub is downloaded.

    Raises ValueError, with the nearest names of all networks, where timm does not know the network, and where `weights`
    is `imagenet` and timm has none.
    """
    if architecture.startswith(FROM_ELSEWHERE):
        try:
            return PretrainedCfg(**resolve_model_input_args(architecture)["pretrained_cfg"])
        except Exception as error:  # of many kinds: the network, the hub, and what its config.json says
            raise ValueError(
                f"architecture: {architecture} cannot be had: {type(error).__name__}: {str(error).splitlines()[0]}"
            ) from error
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


def _imported_network(architecture: str, n_classes: int, weights: str, options: Mapping[str, Any]) -> nn.Module:
    """A network from `package.module:name`, called with the options and, where it takes that, `num_classes`."""
    if weights == "imagenet":
        raise ValueError(f"weights: imagenet is for networks of timm; for {architecture} give a file or none")
    try:
        build = load_object(architecture)
    except ValueError as error:
        raise ValueError(f"architecture: {error}") from error
    if not callable(build):
        raise ValueError(f"architecture: {architecture} is a {type(build).__name__}, not something to call")
    network = make(architecture, partial(build, num_classes=n_classes) if _takes_classes(build) else build, options)
    if not isinstance(network, nn.Module):
        raise ValueError(f"architecture: {architecture} gives a {type(network).__name__}, not a torch.nn.Module")
    return network


def _takes_classes(build: Callable[..., Any]) -> bool:
    """Whether a builder can be told the number of classes; one that cannot be asked is."""
    try:
        parameters = inspect.signature(build).parameters
    except (TypeError, ValueError):  # of a builder in C
        return True
    return "num_classes" in parameters or any(one.kind is one.VAR_KEYWORD for one in parameters.values())


def classifier_of_data(
    settings: Mapping[str, Any], class_names: Sequence[str], load: bool = True
) -> tuple[Classifier, dict[str, Any]]:
    """The classifier that a config asks for, for data of these classes, and its description for `save_classifier`.

    settings: the config of the classifier. load: as for `build_classifier`.
    Raises ValueError as `build_classifier` and `find_logits`.
    """
    n_logits, logit_indices = len(class_names), None
    if (logits := settings["logits"]) is not None:
        n_logits = count_logits(logits) or _count_pretrained_logits(settings)
        logit_indices = find_logits(logits, class_names, n_logits, settings["predict_among"])
    elif settings["weights"] == "imagenet" and not settings["training"]["max_epochs"]:
        _require_order(class_names)
    description = {
        **{key: settings[key] for key in ("architecture", "options", "taps")},
        "n_classes": len(class_names),
        "n_logits": n_logits,
        "logit_indices": logit_indices,
    }
    classifier = build_classifier(
        **description,
        **{key: settings[key] for key in ("input_size", "weights", "normalization", "interpolation")},
        needs_head=logits is not None or not settings["training"]["max_epochs"],
        load=load,
    )
    described = {key: getattr(classifier, key) for key in ("input_size", "normalization", "interpolation")}
    return classifier, {**description, **described}


def _require_order(class_names: Sequence[str]) -> None:
    """Raises ValueError where classes of ImageNet are not in the order of the logits of its 1000 classes."""
    try:
        in_order = find_logits(IMAGENET, class_names, len(class_names), "data") == [*range(len(class_names))]
    except (
        ValueError
    ):  # other classes, or another number: the weights' last layer does not fit, or fits what is not known
        return
    if not in_order:
        raise ValueError("logits: the data's classes are in another order than the logits; write logits: imagenet")


def _count_pretrained_logits(settings: Mapping[str, Any]) -> int:
    """The number of logits that a classifier's weights are for, where its config says that they are ImageNet's.

    Raises ValueError where nothing tells it.
    """
    architecture, weights = settings["architecture"], settings["weights"]
    if file := resolve_weights(weights):
        with torch.device("meta"):
            network = _network(architecture, 2, settings["input_size"], "none", settings["options"])
        n_logits = _fit(network, architecture, file).head_classes
    elif not is_import_path(architecture):
        n_logits = _timm_config_of(architecture, weights).num_classes
    else:
        n_logits = None
    if not n_logits:
        raise ValueError(
            f"logits: nothing tells how many {architecture} gives; name the class of each in a list or file, or a "
            "label set with its full name, such as imagenet-1k"
        )
    return int(n_logits)


def save_classifier(path: Path, classifier: Classifier, description: Mapping[str, Any]) -> None:
    """Write a checkpoint: the network's weights and what `load_classifier` needs to build it again.

    description: architecture, n_classes, input_size and any of DESCRIBED, as for `build_classifier`, and anything else.
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
        **{key: checkpoint[key] for key in DESCRIBED if key in checkpoint},
    )
    classifier.network.load_state_dict(checkpoint["network"])
    classifier.requires_grad_(False)
    return classifier.eval().to(device).to(memory_format=torch.channels_last)
