"""What each job of the workflow asks a cluster for: memory and time, from what it has to compute."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perturbflow.data.sources import SOURCES
from perturbflow.planning.costs import Config, classifier_costs
from perturbflow.planning.declarations import attacks
from perturbflow.planning.image_counts import source_images, stored_images
from perturbflow.planning.passes import (
    FORWARD_PASSES,
    TRAININGS,
    ImageCounts,
    Passes,
    flops,
    n_intervened,
    n_measured,
    network_passed,
    passes,
    passes_of_gradients,
    working_memory,
)

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
DOWNLOADED_PER_SECOND = 0.4e6  # bytes
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
    images: ImageCounts
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
            data = self.config["data"]
            seconds += SOURCES[data["source"]].download_bytes * data["download"] / DOWNLOADED_PER_SECOND
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
        found = self._passes(gradients_an_image=1)
        kept += 4 * max(one.at_once for one in found) * 4 * values
        for one in found:
            if one.way in TRAININGS:
                # The state that a thread writes while the training goes on: weights and two moments, and its bytes.
                kept += 2 * 3 * 4e6 * network_passed(one, self.config)[1].parameters
                kept += 1e6 * COMPILER_MB if compute["compile"] else 0.0
        if compute["device"] == "cpu":
            return PYTHON_MB + TORCH_MB + (kept + FRAGMENTS * working_memory(found, self.config)) / 1e6
        return PYTHON_MB + TORCH_MB + CUDA_MB + kept / 1e6

    def _is_of_foolbox(self) -> bool:
        sets = self.config["adversarial_sets"]
        return self.rule == "adversarial" and sets[self.wildcards["adversarial_set"]]["attack"] not in attacks()

    def _passes(self, gradients_an_image: int = 0) -> list[Passes]:
        """What the job has to compute. gradients_an_image: what to take for those of an attack of Foolbox."""
        if gradients_an_image and self._is_of_foolbox():
            settings = self.config["adversarial_sets"][self.wildcards["adversarial_set"]]
            n_passes = gradients_an_image * sum(self.images.values())
            return passes_of_gradients(settings, n_passes, n_passes, self.config["compute"]["batch_size"])
        return passes(self.rule, self.wildcards, self.config, self.images)

    def _values(self) -> int:
        """Of an image."""
        return 3 * int(self.config["data"]["image_size"]) ** 2

    def _kept_images(self) -> int:
        """8-bit images for which there is room in the machine's memory all the time."""
        n_all = sum(self.images.values())
        if self.rule == "classifier" and self.config["compute"]["device"] == "cpu":
            return 2 * n_all if n_all * self._values() <= LARGEST_KEPT else 0
        return max(self.images.values()) if self.rule == "adversarial" else 0  # a split at a time

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
                values_an_image = 1.0
            case "classifier":
                values_an_image = 2.0
            case "adversarial":
                values_an_image = 2.0 + 4
            case "control":
                values_an_image = 2.0 + 3 * 4
            case "denoised":
                values_an_image = 3.0 * 4
            case "denoiser" | "guided_denoiser":
                settings = self.config["denoisers"][self.wildcards["denoiser"]]
                n_epochs = sum(stage["epochs"] for stage in settings["stages"])
                values_an_image = 1 + 4.0 * len(settings["mix"]) + 5.0 * n_epochs
            case "measure":
                values_an_image = 4.0 * n_conditions
            case "mean_squared_error":
                values_an_image = 1 + 4.0 * n_conditions
            case _:
                return 2.0 * self.input_bytes
        return values_an_image * n_all * self._values() + self.input_bytes


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
TABLE_RULES = {"pool", "table", "figure", "warnings"}


def job_of(rule: str, wildcards: Mapping[str, str], config: Config, inputs: Any) -> Job:
    """A job of the workflow from what Snakemake knows of it. inputs: its `input`.

    rule: that of the Snakefile, `table`, `figure` and `pool` for any of theirs.
    Raises FileNotFoundError where the files that tell the number of images are not there yet; Snakemake then asks
    again when the job can run.
    """
    size, splits = config["data"]["image_size"], config["data"]["splits"]
    images: dict[str, int] = {}
    input_bytes = 0
    match rule:
        case "data":
            images = source_images(config["data"])
        case "classifier" | "mean_squared_error":
            images = {split: stored_images(path, size, 1) for split, path in zip(splits, inputs["data"], strict=True)}
        case "adversarial_shard" | "denoised_shard":
            rule = rule.removesuffix("_shard")
            images = {"": int(wildcards["last"]) - int(wildcards["first"]) + 1}
        case "adversarial" | "control":
            images = {split: stored_images(inputs[split], size, 1) for split in splits}
        case "denoiser" | "guided_denoiser":
            images = {"train": sum(stored_images(path, size, 1) for path in inputs["data"])}
        case "denoised":
            images = {split: stored_images(inputs[split], size, 4) for split in splits}
        case "measure":
            images = {
                split: stored_images(path, size, 4) for split, path in zip(splits, inputs["images"], strict=False)
            }
        case "intervene":
            images = {config["measure"]["split"]: stored_images(inputs["data"], size, 1)}
        case _:
            input_bytes = _size(inputs)
    return Job(rule, wildcards, config, images, input_bytes)


def _size(paths: Iterable[str]) -> int:
    return sum(Path(path).stat().st_size for path in paths)
