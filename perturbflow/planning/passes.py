"""The jobs of a study, and the passes of networks that each has to compute."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product

from perturbflow.planning.config import CONTROLS
from perturbflow.planning.costs import Config, NetworkCosts, classifier_costs, denoiser_costs
from perturbflow.planning.declarations import attacks

ImageCounts = Mapping[str, int]
"""Number of images, by split."""


# ---- What the jobs are


def jobs(config: Config) -> Iterator[tuple[str, dict[str, str]]]:
    """The jobs of a replicate, each as its rule and wildcards; nothing is cut.

    Those of the data, tables, figures and warnings, which all replicates share, are not among them, nor are those that
    pool the replicates.
    """
    sets, denoisers = config["adversarial_sets"], config["denoisers"]
    for name in config["classifiers"]:
        yield "classifier", {"classifier": name}
    for name, settings in sets.items():
        yield "control" if settings["attack"] in CONTROLS else "adversarial", {"adversarial_set": name}
    for name, settings in denoisers.items():
        yield "denoiser" if settings["loss"] == "pixels" else "guided_denoiser", {"denoiser": name}
    for denoiser, name in product(denoisers, sets):
        yield "denoised", {"denoiser": denoiser, "adversarial_set": name}
    for classifier, name in product(measured_classifiers(config), sets):
        yield "measure", {"classifier": classifier, "adversarial_set": name}
    for classifier, name in product(config["measure"]["classifiers"], config["interventions"]["adversarial_sets"]):
        yield "intervene", {"classifier": classifier, "adversarial_set": name}
    for name in sets:
        yield "mean_squared_error", {"adversarial_set": name}


def measured_classifiers(config: Config) -> list[str]:
    """Those of `measure.classifiers`, and Table 1's, whose accuracy comes from a job of the same kind."""
    table1 = config["tables"]["table1"]
    return list(dict.fromkeys([*config["measure"]["classifiers"], *([table1["classifier"]] if table1 else [])]))


# ---- What the jobs have to compute


@dataclass(frozen=True)
class Passes:
    """ImageCounts that go through a network in one way.

    way: `training`, `forward`, `gradient` (forward, and back to the pixels) or `distances` (forward, and the maps
    compared), of the classifier `name`; `denoiser_training`, `denoising` or `through` (forward, and back to the pixels)
    of the denoiser `name`; `guide`, the loss of the guided denoiser `name` and its gradient; `control` or `errors`, for
    which no network is needed. at_once: images in a batch.
    """

    way: str
    name: str
    n_images: float
    at_once: int = 1


def attack_passes(settings: Config, n_images: int = 1, at_once: int = 1) -> list[Passes]:
    """Of images of a set that take all their steps: their gradients, and what the stopping classifier sees.

    Raises ValueError for an attack of Foolbox, which may take any number of gradients.
    """
    attack = attacks().get(settings["attack"])
    if attack is None:
        raise ValueError(
            f"what an image of {settings['attack']} costs is not known; only {', '.join(sorted(attacks()))}"
        )
    steps, stopping = settings["max_steps"], settings["stopping_classifier"]
    n_gradients = 1 if attack.one_gradient else steps
    n_judged = 1 + steps if stopping else 1  # the image itself and each step; without early stop only the end
    if attack.gradient_judges and stopping == settings["attacker"] and not settings["round_to_8_bits"]:
        n_gradients, n_judged = (1, steps) if attack.one_gradient else (1 + steps, 0)
    n_gradients *= attack.gradients_per_step
    return passes_of_gradients(settings, n_gradients * n_images, n_judged * n_images, at_once)


def passes_of_gradients(settings: Config, n_gradients: int, n_judged: int, at_once: int) -> list[Passes]:
    """Of so many gradients of a set's attacker, and images that its stopping classifier judges."""
    attacker, denoiser = settings["attacker"], settings["denoiser"]
    found = [
        Passes("gradient", attacker, n_gradients, at_once),
        Passes("forward", settings["stopping_classifier"] or attacker, n_judged, at_once),
    ]
    if denoiser:
        found += [Passes("through", denoiser, n_gradients, at_once), Passes("denoising", denoiser, n_judged, at_once)]
    return found


def passes(
    rule: str, wildcards: Mapping[str, str], config: Config, images: ImageCounts, taps: Mapping[str, int] | None = None
) -> list[Passes]:
    """All that a job of `jobs` has to compute.

    images: of the splits that the job reads. taps: number of each classifier's, where it is known better.
    Upper limits where a run may end earlier: classifiers train all their epochs, images take all steps of an attack,
    passes that are interfered with are whole ones. Not counted are the passes by which a classifier close to its target
    asks after an epoch whether it is there. Raises ValueError for an attack of Foolbox.
    """
    at_once, n_all = config["compute"]["batch_size"], sum(images.values())
    n_conditions = 1 + len(config["denoisers"])
    match rule:
        case "classifier":
            name = wildcards["classifier"]
            training = config["classifiers"][name]["training"]
            n_trained = images.get("train", 0) * training["max_epochs"]
            trained = [Passes("training", name, n_trained, training["batch_size"])] if training["max_epochs"] else []
            return [*trained, Passes("forward", name, n_all, at_once)]
        case "adversarial":
            return attack_passes(config["adversarial_sets"][wildcards["adversarial_set"]], n_all, at_once)
        case "control":
            return [Passes("control", "", n_all)]
        case "denoiser" | "guided_denoiser":
            name = wildcards["denoiser"]
            settings = config["denoisers"][name]
            n_images = images["train"] * sum(stage["epochs"] for stage in settings["stages"])
            ways = ["denoiser_training", "guide"] if rule == "guided_denoiser" else ["denoiser_training"]
            return [Passes(way, name, n_images, settings["batch_size"]) for way in ways]
        case "denoised":
            return [Passes("denoising", wildcards["denoiser"], n_all, at_once)]
        case "measure":
            name = wildcards["classifier"]
            return [
                Passes("forward", name, n_all * n_conditions, at_once),
                Passes("distances", name, n_measured(config, images) * (1 + n_conditions), _measured_at_once(config)),
            ]
        case "intervene":
            name = wildcards["classifier"]
            n_taps = taps[name] if taps else classifier_costs(config["classifiers"][name]).taps
            n_parts = 2 + len(config["interventions"]["fractions"])  # along, across, and fractions of the whole
            n_passes = 1 + n_conditions + n_taps * (1 + n_conditions + n_conditions * n_parts)
            return [Passes("forward", name, n_intervened(config, images) * n_passes, at_once)]
        case "mean_squared_error":
            return [Passes("errors", "", n_all * n_conditions)]
    raise ValueError(f"{rule} is no rule whose work is known")


def n_measured(config: Config, images: ImageCounts) -> int:
    """ImageCounts that the distances are measured on."""
    return min(int(config["measure"]["images"]), images[config["measure"]["split"]])


def n_intervened(config: Config, images: ImageCounts) -> int:
    """ImageCounts whose passes are interfered with."""
    return min(int(config["interventions"]["images"]), images[config["measure"]["split"]])


def _measured_at_once(config: Config) -> int:
    """Linear CKA takes blocks of up to 32 images under all conditions."""
    block = 32 * (2 + len(config["denoisers"])) if "linear_cka" in config["measure"]["metrics"] else 0
    return max(block, int(config["compute"]["batch_size"]))


# ---- What a pass takes

# A forward pass, and back: once to the maps, once more to the weights where they are trained. The guide passes the
# clean image as well. Distances cost up to a seventh more than their passes on a CPU, and are not waited for on a GPU.
FORWARD_PASSES = {
    "training": 3.0,
    "forward": 1.0,
    "gradient": 2.0,
    "distances": 1.2,
    "denoiser_training": 3.0,
    "denoising": 1.0,
    "through": 2.0,
    "guide": 3.0,
}
WAYS_BACK = {"training", "gradient", "denoiser_training", "through", "guide"}
TRAININGS = {"training", "denoiser_training"}


def network_passed(one: Passes, config: Config) -> tuple[str, NetworkCosts]:
    """The network that is passed, and a name for it among classifiers and denoisers."""
    if one.way in ("denoiser_training", "denoising", "through"):
        settings = config["denoisers"][one.name]
        return f"denoiser {one.name}", denoiser_costs(settings, config["data"]["image_size"])
    name = config["denoisers"][one.name]["guide"] if one.way == "guide" else one.name
    return f"classifier {name}", classifier_costs(config["classifiers"][name])


def flops(one: Passes, config: Config) -> float:
    """Floating-point operations of all images; none where no network is needed."""
    if one.way not in FORWARD_PASSES:
        return 0.0
    return one.n_images * FORWARD_PASSES[one.way] * network_passed(one, config)[1].gflop * 1e9


def working_memory(found: Iterable[Passes], config: Config) -> float:
    """Bytes of feature maps, weights, gradients and moments on the device, in single precision.

    Each network counts once, in the way that takes most. What its allocator keeps unused is for `Job.memory_mb` to add.
    """
    by_network: dict[str, float] = {}
    for one in found:
        if one.way not in FORWARD_PASSES:
            continue
        name, network = network_passed(one, config)
        # The way back also holds the gradients of the maps that it has come to.
        values = one.at_once * (network.saved + network.live if one.way in WAYS_BACK else network.live)
        values += network.parameters * (4 if one.way in TRAININGS else 1)
        by_network[name] = max(by_network.get(name, 0.0), 4e6 * values)
    return sum(by_network.values())
