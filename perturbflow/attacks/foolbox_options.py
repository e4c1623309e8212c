"""Foolbox's attacks by class name: which of them run here, with which arguments, and on images of which range.

Nothing of torch is imported, so that a config can be checked without it; foolbox_attack.py runs them.
"""

from __future__ import annotations

import difflib
import inspect
import math
import types
from collections.abc import Collection, Mapping
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import foolbox
from foolbox import attacks
from foolbox.attacks.base import (
    Attack,
    FixedEpsilonAttack,
    FlexibleDistanceMinimizationAttack,
    MinimizationAttack,
)
from foolbox.attacks.brendel_bethge import BrendelBethgeAttack
from foolbox.distances import Distance

UNUSABLE = {
    "Attack": "is the base class of the attacks; name one of them",
    "BinarizationRefinementAttack": "needs the result of another attack on a network that binarises its input",
    "DatasetAttack": "takes other images of the data set for adversaries, which have no perturbation to measure",
    "GenAttack": "needs a target class, which an adversarial set does not have",
}

# Constants of these attacks, in their code or their defaults, presuppose images in 0..1: HopSkipJump clips to 0..1,
# DDN's steps have length 1, and the others' step lengths and weights fail or overshoot by far in pixels.
UNIT_RANGE = (
    attacks.DDNAttack,
    attacks.EADAttack,
    attacks.HopSkipJumpAttack,
    attacks.L0FMNAttack,
    attacks.L1FMNAttack,
    attacks.L2CarliniWagnerAttack,
    attacks.L2FMNAttack,
    attacks.LInfFMNAttack,
    attacks.NewtonFoolAttack,
    attacks.VirtualAdversarialAttack,
)

# These give an image of zeros where they find no adversary.
ZEROS_WHERE_FAILED = (attacks.EADAttack, attacks.L2CarliniWagnerAttack)

# The grid along which this one samples the image is in single precision, whatever the image is in.
SINGLE_PRECISION = (attacks.SpatialAttack,)


def foolbox_attack(name: str, options: Mapping[str, Any]) -> Any:
    """An attack of `foolbox.attacks`, from the name of its class and its arguments.

    Arguments that are objects are given by name: `distance` as l0, l1, l2 or linf, `init_attack` as the class of an
    attack, which is used with its defaults. Lengths among the arguments are in pixel values of 0..255; for the
    attacks of UNIT_RANGE they are as Foolbox documents them, for images in 0..1.

    Raises ValueError for a class that does not exist or does not fit an adversarial set, and for an argument that the
    class does not take, that is missing, or of the wrong type; it says the nearest name or what is taken.
    """
    if name in UNUSABLE:
        raise ValueError(f"Foolbox's {name} cannot be used: it {UNUSABLE[name]}")
    if name not in (known := attack_names()):
        raise ValueError(f"{name} is no attack of Foolbox; {_nearest(name, known)}")
    attack_class = getattr(attacks, name)
    taken = inspect.signature(attack_class).parameters
    if unknown := [option for option in options if option not in taken]:
        raise ValueError(f"{name} takes no {unknown[0]}; {_nearest(unknown[0], taken)}")
    required = [option for option, parameter in taken.items() if parameter.default is inspect.Parameter.empty]
    if missing := [option for option in required if option not in options]:
        raise ValueError(f"{name} needs {', '.join(missing)} under options")
    kinds = get_type_hints(attack_class.__init__)
    arguments = {option: _argument(name, option, value, kinds[option]) for option, value in options.items()}
    try:
        return attack_class(**arguments)
    except (ValueError, AssertionError, NotImplementedError, ImportError) as error:
        raise ValueError(f"Foolbox's {name} refuses its options ({error})") from error


def check_epsilon(attack: Any, epsilon: float | None) -> None:
    """Whether an attack works with this limit on the perturbation.

    Raises ValueError where an attack needs an epsilon and has none, or cannot keep to one.
    """
    name = type(attack).__name__
    if isinstance(attack, FixedEpsilonAttack):
        if epsilon is None:
            raise ValueError(f"{name} needs an epsilon: it does not look for the smallest perturbation")
    elif epsilon is not None:
        if not isinstance(attack, MinimizationAttack):
            raise ValueError(f"{name} keeps to no epsilon; set it to null")
        if isinstance(attack, FlexibleDistanceMinimizationAttack) and getattr(attack, "_distance", None) is None:
            raise ValueError(
                f"{name} has no norm of its own for an epsilon; set epsilon to null"
                + (", or options to {distance: l2}" if "distance" in inspect.signature(type(attack)).parameters else "")
            )
        if attack.distance is foolbox.distances.l0:
            raise ValueError(f"{name} cannot keep the number of changed values within an epsilon; set it to null")


def attack_names() -> list[str]:
    """Names of the attacks that can be used, aliases such as LinfPGD among them."""
    return sorted(
        name
        for name, value in vars(attacks).items()
        if inspect.isclass(value) and issubclass(value, Attack) and name not in UNUSABLE
    )


def minimises(attack: Any) -> bool:
    """Whether an attack looks for the smallest perturbation, so that without an adversary it has no result."""
    return not isinstance(attack, FixedEpsilonAttack)


def depends_on_batch(attack: Any) -> bool:
    """Whether the other images of its batch change what an attack makes of an image, beyond rounding.

    They do where one test over all images ends an attack, where lengths are taken over the whole batch, where images
    take turns in drawing from NumPy's numbers, and where the attack starts from what such an attack finds.
    """
    match attack:
        # They end a search where the summed loss of all images has stopped falling.
        case attacks.L2CarliniWagnerAttack() | attacks.EADAttack() if attack.abort_early:
            return True
        # The first takes the norm of its noise over all images, the second draws in turns, the third projects all
        # images as soon as one has left the ball, and in the fourth the steps grow with the number of images.
        case (
            attacks.HopSkipJumpAttack()
            | attacks.PointwiseAttack()
            | attacks.SparseL1DescentAttack()
            | BrendelBethgeAttack()
        ):
            return True
    start = starting_attack(attack)
    return start is not None and depends_on_batch(start)


def starting_attack(attack: Any) -> Any | None:
    """The attack that finds adversaries for another one to start from, as Foolbox chooses it; None without need."""
    if isinstance(attack, attacks.BoundaryAttack | attacks.HopSkipJumpAttack):
        return attack.init_attack or attacks.LinearSearchBlendedUniformNoiseAttack(steps=50)
    if isinstance(attack, attacks.PointwiseAttack):
        return attack.init_attack or attacks.SaltAndPepperNoiseAttack()
    if isinstance(attack, BrendelBethgeAttack):
        return attack.init_attack or attacks.LinearSearchBlendedUniformNoiseAttack()
    return getattr(attack, "init_attack", None)


def _argument(name: str, option: str, value: Any, kind: Any) -> Any:
    """The value of an argument, from what a config holds."""
    kinds = get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)
    if isinstance(value, str) and Distance in kinds:
        if value not in (norms := ["l0", "l1", "l2", "linf"]):
            raise ValueError(f"{option} of {name} is {value}; {_nearest(value, norms)}")
        return getattr(foolbox.distances, value)
    if isinstance(value, str) and MinimizationAttack in kinds:
        start = foolbox_attack(value, {})
        if not isinstance(start, MinimizationAttack):
            raise ValueError(f"{option} of {name} is {value}, which does not look for the smallest perturbation")
        return start
    if not any(_fits(value, one) for one in kinds):
        taken = " or ".join(_written(one) for one in kinds)
        raise ValueError(f"{option} of {name} is {value!r}; it takes {taken}")
    return value


def _fits(value: Any, kind: Any) -> bool:
    if get_origin(kind) is Literal:
        return any(value is choice or (isinstance(choice, str) and value == choice) for choice in get_args(kind))
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, kind)


def _written(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return " or ".join(map(str, get_args(kind)))
    names = {
        int: "a whole number",
        float: "a number",
        bool: "true or false",
        str: "a text",
        Distance: "l0, l1, l2 or linf",
        MinimizationAttack: "the name of an attack",
    }
    return names.get(kind, "null")


def _nearest(name: str, valid: Collection[str]) -> str:
    """`did you mean x?` where a valid name is near, and all of them where they are few or none is near."""
    lower = {one.lower(): one for one in valid}
    near = [lower[one] for one in difflib.get_close_matches(name.lower(), lower)]
    hints = [f"did you mean {' or '.join(near)}?"] if near else []
    if len(valid) <= 12 or not near:
        hints.append(f"valid: {', '.join(valid) or 'none'}")
    return " ".join(hints)
