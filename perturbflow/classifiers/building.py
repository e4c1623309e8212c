"""Classifiers built from a config or from a checkpoint: those of the paper, of timm, or of anybody's own."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import timm
import torch
from timm.models import PretrainedCfg, resolve_model_input_args
from torch import nn

from perturbflow.classifiers.architectures import ARCHITECTURES
from perturbflow.classifiers.classifier import Classifier
from perturbflow.classifiers.finding_taps import child_taps, named_taps, stage_taps
from perturbflow.classifiers.weight_names import renaming_of_timm
from perturbflow.classifiers.weight_paths import resolve_weights
from perturbflow.classifiers.weights import load_weights_of_file
from perturbflow.machine.import_paths import is_import_path, load_object, make

FROM_ELSEWHERE = ("hf-hub:", "local-dir:")
"""How timm's names begin of networks that a repository of Hugging Face's hub, or a folder, describes in config.json."""


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

    architecture: a name of ARCHITECTURES, a name of timm (its `hf-hub:` and `local-dir:` names as well), or
    `package.module:name`, which is imported and called with `num_classes` and the options.
    weights: `none` (random, from torch's current seed), `imagenet` (timm's, downloaded, or those of the hub or folder
    that the architecture names), or a file, as for `resolve_weights` and `read_weights`. The last layer is replaced
    where the file's number of classes differs.
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
        network = _registry_network(architecture, n_classes, input_size, weights, options)
    elif is_import_path(architecture):
        network = _imported_network(architecture, n_classes, weights, options)
    else:
        network = _timm_network(architecture, n_classes, input_size, weights, options)
    if file := resolve_weights(weights):
        load_weights_of_file(network, entry.timm_names if entry else renaming_of_timm(network), file)
    if taps is not None:
        found = named_taps(network, taps, architecture, n_classes, input_size)
    elif entry:
        found = list(entry.taps(network))
    else:
        find = child_taps if is_import_path(architecture) else stage_taps
        found = find(network, architecture, n_classes, input_size)
    return Classifier(network, found, input_size, normalization)


def _registry_network(
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


def _timm_network(
    architecture: str, n_classes: int, input_size: int, weights: str, options: Mapping[str, Any]
) -> nn.Module:
    """A network of timm; made for `input_size` where it would otherwise be fixed at another size."""
    timm_config(architecture, weights)
    build = partial(timm.create_model, architecture, pretrained=weights == "imagenet", num_classes=n_classes)
    is_fixed = "img_size" in resolve_model_input_args(architecture, {"img_size": input_size})
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
