"""Checks before any job starts, a dry run's too: that the data are there, and networks and attacks can be made.

What the schema can tell is told in config.py. Torch, timm and Foolbox are imported by the checks that need them only,
so that a config of the paper's networks and attacks does not wait for them.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from perturbflow.data.image_list import DataError
from perturbflow.machine.import_paths import is_import_path, load_object
from perturbflow.planning.class_names import class_names_of
from perturbflow.planning.config import CONTROLS, OWN_ATTACKS
from perturbflow.planning.declarations import architectures
from perturbflow.results.replicates import folder_of_replicate

LEAST_CHANGE = 0.02
"""Of every pixel value, of 0 to 255; a smaller one fools nobody."""


def mistakes(config: Mapping[str, Any], is_local: bool = True) -> list[str]:
    """Everything that would fail or be in vain, `path.to.key: what is wrong` each, of a resolved config.

    The data are listed, not read. Networks are made without their weights, on torch's meta device where they can be,
    and see one small batch; of files of weights the shapes are looked at. is_local: whether jobs run on this machine,
    so that its devices are theirs.
    """
    made = [f"results/{config['run']}/{folder_of_replicate(number)}classifiers" for number in config["replicates"]]
    found = [*_device(config["compute"]["device"])] if is_local else []
    class_names = None
    try:
        class_names = class_names_of(config)
        if len(class_names) < 2:
            found.append(f"data: the only class is {class_names[0]}; a classifier needs two at least")
            class_names = None
    except (OSError, DataError) as error:
        found.append(f"data: {error}")
    found += [
        *(
            f"classifiers.{name}.{text}"
            for name, one in _classifiers_to_make(config).items()
            for text in _classifier(one, class_names, all(Path(of, name, "checkpoint.pt").exists() for of in made))
        ),
        *(
            f"denoisers.{name}.{text}"
            for name, one in _own_denoisers(config).items()
            for text in _denoiser(one, config["data"]["image_size"])
        ),
        *(
            f"adversarial_sets.{name}.{text}"
            for name, one in config["adversarial_sets"].items()
            for text in _set(one, config["data"]["image_size"])
        ),
    ]
    return list(dict.fromkeys(found))


def _device(device: str) -> Iterator[str]:
    """A GPU that is not there."""
    if not device.startswith("cuda"):
        return
    import torch

    n_gpus, number = torch.cuda.device_count(), int(device.removeprefix("cuda").removeprefix(":") or 0)
    if number >= n_gpus:
        there = f"{n_gpus} GPU{'s' if n_gpus > 1 else ''}" if n_gpus else "no GPU that torch can use"
        yield f"compute.device: there is no {device}, the machine has {there}; write auto or cpu"


def _classifiers_to_make(config: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Those that may be wrong: all but the paper's, as they are, which are trained on the data."""
    return {
        name: settings
        for name, settings in config["classifiers"].items()
        if settings["architecture"] not in architectures()
        or settings["taps"] is not None
        or settings["logits"] is not None
        or settings["weights"] not in ("none", "imagenet")
        or not settings["training"]["max_epochs"]
    }


def _own_denoisers(config: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {name: settings for name, settings in config["denoisers"].items() if ":" in settings["architecture"]}


def _classifier(settings: Mapping[str, Any], class_names: Sequence[str] | None, is_made: bool) -> Iterator[str]:
    """class_names: None where the data are wrong themselves. is_made: whether its checkpoints are there."""
    if class_names is None and is_import_path(settings["architecture"]):
        try:
            load_object(settings["architecture"])  # what it gives may be right for the data that are meant
        except ValueError as error:
            yield f"architecture: {error}"
        return
    if class_names is None or (settings["logits"] and not all(class_names)):  # whether the last layer fits is not known
        settings = {**settings, "logits": None, "training": {"max_epochs": 1}}
    class_names = class_names or [""] * 2
    import torch

    from perturbflow.classifiers.building import classifier_of_data

    if settings["architecture"].startswith("hf-hub:"):
        return  # what it is only the hub knows, which a check does not ask
    try:
        try:
            with torch.device("meta"):
                classifier_of_data(settings, class_names, load=False)
        except Exception:  # a mistake, or something that the meta device cannot do
            classifier_of_data(settings, class_names, load=False)
    except ValueError as error:
        yield str(error)
    except Exception as error:  # of any kind: the network may be anybody's
        if isinstance(error, FileNotFoundError) and str(error).startswith("weights: "):
            if not is_made:  # else nothing needs them
                yield str(error)
        else:
            yield f"architecture: {settings['architecture']} cannot be made: {type(error).__name__}: {error}"


def _denoiser(settings: Mapping[str, Any], image_size: int) -> Iterator[str]:
    import torch
    from torch import nn

    from perturbflow.denoisers.networks import ImportedDenoiser
    from perturbflow.machine.import_paths import make

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


def _set(settings: Mapping[str, Any], image_size: int) -> Iterator[str]:
    if settings["attack"] in OWN_ATTACKS:
        if (reach := settings["step"] * settings["max_steps"]) < LEAST_CHANGE:
            yield (
                f"step: with {settings['max_steps']} steps of it no pixel value changes by more than {reach:g} of 255, "
                f"which fools nobody; sizes are in pixel units of 0 to 255, {_in_pixels(settings['step'])}"
            )
    elif settings["attack"] not in CONTROLS:
        yield from _attack_of_foolbox(settings, image_size)


def _in_pixels(size: float) -> str:
    return f"in which {size:g} of images of 0 to 1 is {255 * size:g}"


def _attack_of_foolbox(settings: Mapping[str, Any], image_size: int) -> Iterator[str]:
    from foolbox import distances

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
        return
    epsilon = settings["epsilon"]
    size = {distances.linf: 1.0, distances.l2: (3 * image_size**2) ** 0.5}.get(attack.distance)
    if epsilon is not None and size and epsilon < LEAST_CHANGE * size:
        yield (
            f"epsilon: {epsilon:g} is a change of {epsilon / size:.2g} of 255 in each pixel value, which fools nobody; "
            f"sizes are in pixel units of 0 to 255, {_in_pixels(epsilon)}"
        )
