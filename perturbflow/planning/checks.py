"""Checks of the networks and attacks that a config brings along: by making them, before any job starts.

What the schema can tell is told in config.py. Torch, timm and Foolbox are imported by the checks that need them only,
so that a config of the paper's networks and attacks does not wait for them.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Any

from perturbflow.machine.import_paths import is_import_path
from perturbflow.planning.config import CONTROLS, OWN_ATTACKS
from perturbflow.planning.declarations import architectures

N_CLASSES = 10
"""Classes of the networks that are made to be looked at; those of the data are not known before it is there."""


def mistakes(config: Mapping[str, Any]) -> list[str]:
    """Everything wrong with the networks and attacks that a resolved config brings, `path.to.key: what is wrong` each.

    Networks are made without their weights, on torch's meta device where they can be, and see one small batch.
    """
    found = [
        *(f"classifiers.{name}.{text}" for name, one in _own_classifiers(config).items() for text in _classifier(one)),
        *(
            f"denoisers.{name}.{text}"
            for name, one in _own_denoisers(config).items()
            for text in _denoiser(one, config["data"]["image_size"])
        ),
        *(f"adversarial_sets.{name}.{text}" for name, one in _foolbox_sets(config).items() for text in _attack(one)),
    ]
    return list(dict.fromkeys(found))


def _own_classifiers(config: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {
        name: settings
        for name, settings in config["classifiers"].items()
        if settings["architecture"] not in architectures() or settings["taps"] is not None
    }


def _own_denoisers(config: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {name: settings for name, settings in config["denoisers"].items() if ":" in settings["architecture"]}


def _foolbox_sets(config: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {
        name: settings
        for name, settings in config["adversarial_sets"].items()
        if settings["attack"] not in OWN_ATTACKS | CONTROLS
    }


def _classifier(settings: Mapping[str, Any]) -> Iterator[str]:
    import torch

    from perturbflow.classifiers.building import build_classifier, timm_config

    if settings["architecture"].startswith("hf-hub:"):
        return  # what it is only the hub knows, which a check does not ask

    def build() -> None:
        build_classifier(
            settings["architecture"],
            N_CLASSES,
            settings["input_size"],
            options=settings["options"],
            taps=settings["taps"],
            normalization=settings["normalization"],
        )

    try:
        if not is_import_path(settings["architecture"]) and settings["architecture"] not in architectures():
            timm_config(settings["architecture"], settings["weights"])
        try:
            with torch.device("meta"):
                build()
        except Exception:  # a mistake, or something that the meta device cannot do
            build()
    except ValueError as error:
        yield str(error)
    except Exception as error:  # of any kind: the network may be anybody's
        yield f"architecture: {settings['architecture']} cannot be made: {type(error).__name__}: {error}"


def _denoiser(settings: Mapping[str, Any], image_size: int) -> Iterator[str]:
    import torch
    from torch import nn

    from perturbflow.denoisers.networks import ImportedDenoiser
    from perturbflow.machine.import_paths import load_object, make

    path = settings["architecture"]
    try:
        build = load_object(path)
    except ValueError as error:
        yield f"architecture: {error}"
        return
    try:
        network = make(path, build, settings["options"])
    except (ValueError, OSError) as error:
        yield str(error) if isinstance(error, ValueError) else f"options: {path} cannot be made: {error}"
        return
    if not isinstance(network, nn.Module):
        yield f"architecture: {path} gives a {type(network).__name__}, not a torch.nn.Module"
        return
    if settings.get("stages") and not any(True for _ in network.parameters()):
        yield f"stages: {path} has no parameters to train; write []"
    try:
        with torch.no_grad():
            ImportedDenoiser(network, path).eval()(torch.zeros(2, 3, image_size, image_size))
    except Exception as error:  # of any kind: the network may be anybody's
        yield f"architecture: {path} does not run on {image_size} x {image_size} pixels: {error}"


def _attack(settings: Mapping[str, Any]) -> Iterator[str]:
    from perturbflow.attacks.foolbox_options import attack_names, check_epsilon, foolbox_attack

    name = settings["attack"]
    if name not in attack_names() and (near := difflib.get_close_matches(name, OWN_ATTACKS | CONTROLS, n=1)):
        yield f"attack: {name} is no attack; did you mean {near[0]}?"
        return
    try:
        attack = foolbox_attack(name, settings["options"])
    except ValueError as error:
        yield f"{'options' if name in attack_names() else 'attack'}: {error}"
        return
    try:
        check_epsilon(attack, settings["epsilon"])
    except ValueError as error:
        yield f"epsilon: {error}"
