"""What each job of the workflow has to compute, and the memory and time that it therefore asks a cluster for.

A job's work are images that pass networks: `passes` counts them, for the requests here and for the hours of a study in
benchmarks/throughput.py. What a pass costs is in two tables, which a test holds to the networks themselves. Nothing of
torch is imported: the Snakefile asks for every job.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import astuple, dataclass
from itertools import product
from pathlib import Path
from typing import Any

from perturbflow.planning.config import CONTROLS, OWN_ATTACKS
from perturbflow.planning.image_counts import TINY_IMAGENET

Config = Mapping[str, Any]
Images = Mapping[str, int]
"""Number of images, by split."""

SPLITS = ("train", "val")


# ---- What an image costs a network


@dataclass(frozen=True)
class Network:
    """Costs of one image.

    taps: number of observed feature maps. parameters: millions. gflop: billions of floating-point operations of a
    forward pass, those of convolutions and matrix products, a multiply-add being two. saved: millions of values, of
    four bytes, that a pass keeps for the way back. live: millions that are there at once in a pass without a way back.
    """

    taps: int
    parameters: float
    gflop: float
    saved: float
    live: float

    def scaled(self, area: float, width: float) -> Network:
        """For images of `area` times the pixels, in a network of `width` times the channels."""
        channels = area * width
        return Network(
            self.taps,
            self.parameters * width**2,
            self.gflop * channels * width,
            self.saved * channels,
            self.live * channels,
        )


# At an input size of 128 px, with 200 classes.
CLASSIFIERS = {
    "resnet18": Network(8, 11.28, 1.185, 1.816, 0.574),
    "resnetv2_50": Network(8, 23.91, 2.670, 6.349, 1.163),
    "vgg19": Network(8, 140.39, 12.981, 6.435, 2.146),
    "senet154": Network(7, 113.45, 13.519, 29.701, 1.229),
    "inception_resnet_v2": Network(14, 54.61, 17.563, 31.124, 2.509),
    "densenet201": Network(8, 18.48, 2.802, 16.685, 0.868),
    "densenet201_conv": Network(8, 24.24, 2.814, 16.683, 0.868),
    "densenet201_prelu": Network(8, 18.48, 2.802, 16.685, 0.868),
}
CLASSIFIERS_INPUT_SIZE = 128

# At an image size of 64 px, of width 64.
DENOISERS = {
    "unet": Network(0, 11.03, 6.339, 6.038, 2.110),
    "fusionnet": Network(0, 78.52, 13.316, 12.865, 1.454),
}
DENOISERS_IMAGE_SIZE, DENOISERS_WIDTH = 64, 64


def _largest(networks: Iterable[Network]) -> Network:
    """As costly as the costliest in every respect."""
    taps, *costs = map(max, zip(*map(astuple, networks), strict=True))
    return Network(int(taps), *costs)


def classifier_costs(settings: Config) -> Network:
    """Of an image in a classifier of the config. One that is not of the paper is taken for the largest of those.

    `blocks` and other options that shrink a network, but for its `width`, are passed over.
    """
    network = CLASSIFIERS.get(settings["architecture"])
    width = settings["options"].get("width", 1) if network else 1
    scaled = (network or _largest(CLASSIFIERS.values())).scaled(
        (settings["input_size"] / CLASSIFIERS_INPUT_SIZE) ** 2, width
    )
    taps = len(settings["taps"]) if settings["taps"] else scaled.taps
    return Network(taps, scaled.parameters, scaled.gflop, scaled.saved, scaled.live)


def denoiser_costs(settings: Config, image_size: int) -> Network:
    """Of an image in a denoiser of the config. An imported one is taken for the largest, at its usual width."""
    network = DENOISERS.get(settings["architecture"])
    width = settings["width"] / DENOISERS_WIDTH if network else 1
    return (network or _largest(DENOISERS.values())).scaled((image_size / DENOISERS_IMAGE_SIZE) ** 2, width)


# ---- What the jobs are


def jobs(config: Config) -> Iterator[tuple[str, dict[str, str]]]:
    """The jobs of a study, each as its rule and wildcards, but for the data, tables and figures; nothing is cut."""
    sets, denoisers, measured = config["adversarial_sets"], config["denoisers"], config["measure"]["classifiers"]
    for name in config["classifiers"]:
        yield "classifier", {"classifier": name}
    for (name, settings), split in product(sets.items(), SPLITS):
        rule = "control" if settings["attack"] in CONTROLS else "adversarial"
        yield rule, {"adversarial_set": name, "split": split}
    for name, settings in denoisers.items():
        yield "denoiser" if settings["loss"] == "pixels" else "guided_denoiser", {"denoiser": name}
    for denoiser, name in product(denoisers, sets):
        yield "denoised", {"denoiser": denoiser, "adversarial_set": name}
    for classifier, name in product(measured, sets):
        yield "measure", {"classifier": classifier, "adversarial_set": name}
    for classifier, name in product(measured, config["interventions"]["adversarial_sets"]):
        yield "intervene", {"classifier": classifier, "adversarial_set": name}
    for name in sets:
        yield "mean_squared_error", {"adversarial_set": name}


DIGITS = {"classes": 10, "train": 147, "val": 37}  # the most of one class
CLASSES_LOOKED_AT = 10


def source_images(data: Config) -> dict[str, int]:
    """Number of images that a study takes from its source. data: the config's.

    Those of a folder are estimated, from its number of classes and the largest of ten of them: to list all would take
    longer than the rest of a dry run. None are found where the folder is not.
    """
    if data["source"] == "image-folder":
        return {split: _folder_images(Path(data["path"]) / split, data, split) for split in SPLITS}
    source = TINY_IMAGENET if data["source"] == "tiny-imagenet" else DIGITS
    n_classes = data["classes"] or source["classes"]
    return {split: n_classes * min(data["images_per_class"][split] or source[split], source[split]) for split in SPLITS}


def _folder_images(folder: Path, data: Config, split: str) -> int:
    try:
        classes = sorted(path for path in folder.iterdir() if path.is_dir())
        looked_at = classes[:: max(1, len(classes) // CLASSES_LOOKED_AT)]
        of_class = data["images_per_class"][split] or max(
            (sum(1 for _ in path.iterdir()) for path in looked_at), default=0
        )
    except OSError:  # the job itself says what is wrong with the folder
        return 0
    return (data["classes"] or len(classes)) * of_class


def stored_images(path: str, image_size: int, bytes_per_value: int) -> int:
    """Number of images in a file of the workflow, from its size, which is that of the images and little more.

    Raises FileNotFoundError where it is not there yet.
    """
    return math.ceil(Path(path).stat().st_size / (3 * image_size**2 * bytes_per_value))


# ---- What the jobs have to compute


@dataclass(frozen=True)
class Passes:
    """Images that go through a network in one way.

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
    if settings["attack"] not in OWN_ATTACKS:
        raise ValueError(
            f"what an image of {settings['attack']} costs is not known; only {', '.join(sorted(OWN_ATTACKS))}"
        )
    steps, stopping = settings["max_steps"], settings["stopping_classifier"]
    n_gradients = 1 if settings["attack"] == "fgsm" else steps
    n_judged = 1 + steps if stopping else 1  # the image itself and each step; without early stop only the end
    if stopping == settings["attacker"] and not settings["round_to_8_bits"]:
        # The pass of a gradient judges the image as well.
        n_gradients, n_judged = (1, steps) if settings["attack"] == "fgsm" else (1 + steps, 0)
    return _attack_passes(settings, n_gradients * n_images, n_judged * n_images, at_once)


def _attack_passes(settings: Config, n_gradients: int, n_judged: int, at_once: int) -> list[Passes]:
    attacker, denoiser = settings["attacker"], settings["denoiser"]
    found = [
        Passes("gradient", attacker, n_gradients, at_once),
        Passes("forward", settings["stopping_classifier"] or attacker, n_judged, at_once),
    ]
    if denoiser:
        found += [Passes("through", denoiser, n_gradients, at_once), Passes("denoising", denoiser, n_judged, at_once)]
    return found


def passes(
    rule: str, wildcards: Mapping[str, str], config: Config, images: Images, taps: Mapping[str, int] | None = None
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
            n_trained = images["train"] * training["max_epochs"]
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


def n_measured(config: Config, images: Images) -> int:
    """Images that the distances are measured on."""
    return min(int(config["measure"]["images"]), images[config["measure"]["split"]])


def n_intervened(config: Config, images: Images) -> int:
    """Images whose passes are interfered with."""
    return min(int(config["interventions"]["images"]), images[config["measure"]["split"]])


def _measured_at_once(config: Config) -> int:
    """Linear CKA takes blocks of 32 images under all conditions."""
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


def _network(one: Passes, config: Config) -> tuple[str, Network]:
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
    return one.n_images * FORWARD_PASSES[one.way] * _network(one, config)[1].gflop * 1e9


def working_memory(found: Iterable[Passes], config: Config) -> float:
    """Bytes of feature maps, weights, gradients and moments on the device, in single precision.

    Each network counts once, in the way that takes most. What its allocator keeps unused is for `Job.memory_mb` to add.
    """
    by_network: dict[str, float] = {}
    for one in found:
        if one.way not in FORWARD_PASSES:
            continue
        name, network = _network(one, config)
        # The way back also holds the gradients of the maps that it has come to.
        values = one.at_once * (network.saved + network.live if one.way in WAYS_BACK else network.live)
        values += network.parameters * (4 if one.way in TRAININGS else 1)
        by_network[name] = max(by_network.get(name, 0.0), 4e6 * values)
    return sum(by_network.values())


# ---- What a job asks for

# What a network reaches in float32 on an NVIDIA T4 (2018), the slowest card that clusters still give out widely: under
# a fifth of the 8.1 TFLOP/s of its data sheet, an estimate. It has no bfloat16, so that trainings run in float32 as
# well. On newer cards jobs end long before.
GPU_FLOPS = 1.5e12
# A fifth of what the cores reach that docs/performance.md was measured on.
CORE_FLOPS = 2e10
# To launch the kernels of a pass through a deep network, which is what small batches of small images cost on a GPU.
PASS_SECONDS = 0.02
# From a file system that many share.
BYTES_PER_SECOND = 100e6
DOWNLOAD_SECONDS = 600.0  # 248 MB
DECODED_PER_SECOND = 30.0  # pictures, by one thread
NOISE_SECONDS = 1.5e-7  # for each value of a control
START_SECONDS = 60.0
LEAST_MINUTES = 10

# A job in a cluster is two processes of Snakemake and that of its script.
PYTHON_MB = 1000.0
TORCH_MB = 1500.0
CUDA_MB = 4000.0  # CUDA's libraries and context
COMPILER_MB = 6000.0  # torch.compile's processes
FRAGMENTS = 2.0  # what an allocator and the layers take for what is in use; up to 1.6 was seen where it is much
# On a CPU a classifier's training asks for memory to hold its images up to this size, compute.LARGEST_HELD, and holds
# them where they take half of what it asked for; it reads larger data as it goes.
LARGEST_KEPT = 16e9
# What is worked on at once, whatever the size of the images: pictures of eight threads, as they are in their files and
# as they are stored; images in double precision, their differences and squares.
BLOCKS_MB = {"data": 600.0, "mean_squared_error": 200.0}
TABLE_BYTES = 12.0  # of frames and their copies, for each byte of compressed CSV files


@dataclass(frozen=True)
class Job:
    """A job, and what it reads.

    images: of the splits that it reads, "" for a shard, or none. input_bytes: the size of its inputs, where they are
    not read for their images alone.
    """

    rule: str
    wildcards: Mapping[str, str]
    config: Config
    images: Images
    input_bytes: int = 0

    def minutes(self, attempt: int, threads: int) -> int:
        """The time to ask for, more at each attempt, and never more than `compute.longest_job_hours`."""
        longest = max(1, int(60 * self.config["compute"]["longest_job_hours"]))
        if self._is_of_foolbox():
            return longest
        minutes = math.ceil(attempt * self.seconds(threads) / 60)
        return min(max(minutes, LEAST_MINUTES), longest)

    def seconds(self, threads: int) -> float:
        """The time that the job takes on a slow machine. Raises ValueError for an attack of Foolbox."""
        on_cpu = self.config["compute"]["device"] == "cpu"
        speed = threads * CORE_FLOPS if on_cpu else GPU_FLOPS
        seconds = START_SECONDS + self._moved_bytes() / BYTES_PER_SECOND
        if self.rule == "data":
            seconds += sum(self.images.values()) / (threads * DECODED_PER_SECOND)
            seconds += DOWNLOAD_SECONDS if self.config["data"]["source"] == "tiny-imagenet" else 0.0
        if self.rule not in COUNTED_RULES:
            return seconds
        for one in self._passes():
            launching = 0.0 if on_cpu else PASS_SECONDS * one.n_images / one.at_once
            if one.way in FORWARD_PASSES:
                seconds += max(flops(one, self.config) / speed, launching)
            elif one.way == "control":
                seconds += NOISE_SECONDS * one.n_images * self._values()
        return seconds

    def memory_mb(self, attempt: int) -> int:
        """The memory to ask for in MB (1e6 bytes): half as much again at each further attempt, at most three times."""
        return 100 * math.ceil(min(1 + (attempt - 1) / 2, 3) * self.megabytes() / 100)

    def megabytes(self) -> float:
        """The memory that the job takes, of the machine; that of a GPU is not counted."""
        values, n_all = self._values(), sum(self.images.values())
        if self.rule not in COUNTED_RULES or self.rule in ("control", "mean_squared_error"):
            kept = TABLE_BYTES * self.input_bytes if self.rule in TABLE_RULES else 0.0
            # Names of images, or their errors under each condition.
            kept += n_all * 64 * (2 + len(self.config["denoisers"]))
            return PYTHON_MB + BLOCKS_MB.get(self.rule, 0.0) + kept / 1e6
        compute = self.config["compute"]
        kept = self._kept_images() * values + self._result_bytes()
        # Batches on their way: images as they are read and as float32, some of them ahead of the networks.
        found = self._passes(of_foolbox=1)
        kept += 4 * max(one.at_once for one in found) * 4 * values
        for one in found:
            if one.way in TRAININGS:
                # The state that a thread writes while the training goes on: weights and two moments, and its bytes.
                kept += 2 * 3 * 4e6 * _network(one, self.config)[1].parameters
                kept += 1e6 * COMPILER_MB if compute["compile"] else 0.0
        if compute["device"] == "cpu":
            return PYTHON_MB + TORCH_MB + (kept + FRAGMENTS * working_memory(found, self.config)) / 1e6
        return PYTHON_MB + TORCH_MB + CUDA_MB + kept / 1e6

    def _is_of_foolbox(self) -> bool:
        sets = self.config["adversarial_sets"]
        return self.rule == "adversarial" and sets[self.wildcards["adversarial_set"]]["attack"] not in OWN_ATTACKS

    def _passes(self, of_foolbox: int = 0) -> list[Passes]:
        """What the job has to compute. of_foolbox: gradients an image to take for those of an attack of Foolbox."""
        if of_foolbox and self._is_of_foolbox():
            settings = self.config["adversarial_sets"][self.wildcards["adversarial_set"]]
            n_passes = of_foolbox * sum(self.images.values())
            return _attack_passes(settings, n_passes, n_passes, self.config["compute"]["batch_size"])
        return passes(self.rule, self.wildcards, self.config, self.images)

    def _values(self) -> int:
        """Of an image."""
        return 3 * int(self.config["data"]["image_size"]) ** 2

    def _kept_images(self) -> int:
        """8-bit images for which there is room in the machine's memory all the time."""
        n_all = sum(self.images.values())
        if self.rule == "classifier" and self.config["compute"]["device"] == "cpu":
            return 2 * n_all if n_all * self._values() <= LARGEST_KEPT else 0
        return n_all if self.rule == "adversarial" else 0

    def _result_bytes(self) -> float:
        """Of frames with a row an image, layer and condition, and their copies."""
        if self.rule not in ("measure", "intervene"):
            return 0.0
        n_taps = classifier_costs(self.config["classifiers"][self.wildcards["classifier"]]).taps
        n_rows, n_columns = n_taps * (1 + len(self.config["denoisers"])), 8
        if self.rule == "measure":
            n_rows *= n_measured(self.config, self.images)
            n_columns = 5 + len(self.config["measure"]["metrics"])
        else:
            n_rows *= n_intervened(self.config, self.images) * (2 + len(self.config["interventions"]["fractions"]))
        return 4.0 * 8 * n_rows * n_columns

    def _moved_bytes(self) -> float:
        """What is read and written: clean images at a byte a value, others at four, and inputs again for digests."""
        n_all, n_conditions = sum(self.images.values()), 1 + len(self.config["denoisers"])
        match self.rule:
            case "data":
                of_image = 1.0
            case "classifier":
                of_image = 2.0
            case "adversarial":
                of_image = 2.0 + 4
            case "control":
                of_image = 2.0 + 3 * 4
            case "denoised":
                of_image = 3.0 * 4
            case "denoiser" | "guided_denoiser":
                settings = self.config["denoisers"][self.wildcards["denoiser"]]
                n_epochs = sum(stage["epochs"] for stage in settings["stages"])
                of_image = 1 + 4.0 * len(settings["mix"]) + 5.0 * n_epochs
            case "measure":
                of_image = 4.0 * n_conditions
            case "mean_squared_error":
                of_image = 1 + 4.0 * n_conditions
            case _:
                return 2.0 * self.input_bytes
        return of_image * n_all * self._values() + self.input_bytes


COUNTED_RULES = {
    "classifier",
    "adversarial",
    "control",
    "denoiser",
    "guided_denoiser",
    "denoised",
    "measure",
    "intervene",
    "mean_squared_error",
}
TABLE_RULES = {"table", "figure"}


def job_of(rule: str, wildcards: Mapping[str, str], config: Config, inputs: Any) -> Job:
    """A job of the workflow from what Snakemake knows of it. inputs: its `input`.

    rule: that of the Snakefile, `table` and `figure` for any of theirs.
    Raises FileNotFoundError where the files that tell the number of images are not there yet; Snakemake then asks
    again when the job can run.
    """
    size = config["data"]["image_size"]
    images: dict[str, int] = {}
    input_bytes = 0
    match rule:
        case "data":
            images = source_images(config["data"])
        case "classifier":
            images = {split: stored_images(inputs[split], size, 1) for split in SPLITS}
        case "adversarial_shard" | "denoised_shard":
            rule = rule.removesuffix("_shard")
            images = {"": int(wildcards["last"]) - int(wildcards["first"]) + 1}
        case "adversarial" | "control":
            images = {wildcards["split"]: stored_images(inputs["data"], size, 1)}
        case "denoiser" | "guided_denoiser":
            images = {"train": stored_images(inputs["data"], size, 1)}
        case "denoised":
            images = {split: stored_images(inputs[split], size, 4) for split in SPLITS}
        case "measure":
            images = {
                split: stored_images(path, size, 4) for split, path in zip(SPLITS, inputs["versions"], strict=False)
            }
        case "intervene":
            images = {config["measure"]["split"]: stored_images(inputs["data"], size, 1)}
        case "mean_squared_error":
            images = {split: stored_images(path, size, 1) for split, path in zip(SPLITS, inputs["data"], strict=True)}
        case _:
            input_bytes = _size(inputs)
    return Job(rule, wildcards, config, images, input_bytes)


def _size(paths: Iterable[str]) -> int:
    return sum(Path(path).stat().st_size for path in paths)
