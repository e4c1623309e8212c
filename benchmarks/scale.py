"""What a study takes before it is begun: `python -m benchmarks.scale [--configfile FILE] [--images TRAIN VAL]`.

Counts jobs, floating-point operations, files and memory of a config. With `--measure FILE` the networks' rates are
measured on this machine first and kept in the file; with `--rates FILE` those of an earlier measurement are used.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path

import pandas as pd

from benchmarks.inputs import load_config
from benchmarks.stages import n_cores
from benchmarks.throughput import CONFIG, SIZES, Bench, Config, Rates, Size, measure, projected_seconds
from perturbflow.machine.devices import prepare
from perturbflow.planning.costs import classifier_costs, denoiser_costs
from perturbflow.planning.image_counts import source_images
from perturbflow.planning.passes import TRAININGS, ImageCounts, flops, jobs, passes, working_memory
from perturbflow.planning.requests import Job

# Floating-point operations a second that networks are taken to reach on a GPU of 2020, an NVIDIA A100: a third of what
# its data sheet says of bfloat16, in which they are trained, and half of float32, in which all else is computed.
BFLOAT16_FLOPS, FLOAT32_FLOPS = 1e14, 1e13
# On a CPU a batch has to fit into the patience of who measures: of the configured size up to so many operations of a
# forward pass. Smaller ones would count the update of the weights too often, but for the largest networks.
BATCH_FLOPS, LEAST_BATCH, LEAST_IMAGES = 2.5e11, 8, 16
MOST_ROUNDS = 10  # of what takes too little time for a single one to tell


@dataclass
class Share:
    """What the jobs of a rule take together, and the largest of them.

    flops: floating-point operations. gpu_seconds: on the GPU that is assumed here. seconds: by measured rates, None
    without. file_bytes: of what stays on disk. memory: bytes of the machine's memory, of a job that has a GPU.
    device_memory: bytes of the GPU's.
    """

    n_jobs: int = 0
    flops: float = 0.0
    gpu_seconds: float = 0.0
    seconds: float | None = None
    file_bytes: float = 0.0
    memory: float = 0.0
    device_memory: float = 0.0


def shares(config: Config, images: ImageCounts, rates: Rates | None = None) -> dict[str, Share]:
    """By rule what its jobs take. Raises ValueError for attacks of Foolbox, which may take any number of gradients."""
    found = {"data": Share(1, file_bytes=sum(images.values()) * _values(config))}
    for _, (rule, wildcards) in product(config["replicates"], [*jobs(config)]):
        share = found.setdefault(rule, Share())
        largest_images = images
        if (at_most := config["compute"]["images_per_shard"]) and rule in ("adversarial", "denoised"):
            share.n_jobs += sum(math.ceil(n_images / at_most) for n_images in images.values())
            found.setdefault(f"join_{rule}", Share()).n_jobs += 1
            largest_images = {"": min(at_most, max(images.values()))}
        else:
            share.n_jobs += 1
        counted = passes(rule, wildcards, config, images)
        for one in counted:
            operations = flops(one, config)
            share.flops += operations
            share.gpu_seconds += operations / (BFLOAT16_FLOPS if one.way in TRAININGS else FLOAT32_FLOPS)
        if rates:
            share.seconds = (share.seconds or 0.0) + projected_seconds(rule, wildcards, config, images, rates)
        share.file_bytes += file_bytes(rule, wildcards, config, images)
        share.memory = max(share.memory, 1e6 * Job(rule, wildcards, config, largest_images).megabytes())
        share.device_memory = max(share.device_memory, working_memory(counted, config))
    return found


def file_bytes(rule: str, wildcards: Mapping[str, str], config: Config, images: ImageCounts) -> float:
    """Of the images, float32, and of the weights that a job leaves; its tables are small beside them."""
    match rule:
        case "adversarial" | "control" | "denoised":
            return 4.0 * sum(images.values()) * _values(config)
        case "classifier":
            return 4e6 * classifier_costs(config["classifiers"][wildcards["classifier"]]).parameters
        case "denoiser" | "guided_denoiser":
            settings = config["denoisers"][wildcards["denoiser"]]
            return 4e6 * denoiser_costs(settings, config["data"]["image_size"]).parameters
    return 0.0


def _values(config: Config) -> int:
    return 3 * int(config["data"]["image_size"]) ** 2


def table(found: Mapping[str, Share]) -> str:
    """A row a rule and one of all, in Markdown."""
    times = [share.seconds for share in found.values() if share.seconds is not None]
    total = Share(
        sum(share.n_jobs for share in found.values()),
        sum(share.flops for share in found.values()),
        sum(share.gpu_seconds for share in found.values()),
        sum(times) if times else None,
        sum(share.file_bytes for share in found.values()),
        max(share.memory for share in found.values()),
        max(share.device_memory for share in found.values()),
    )
    rows = [
        {
            "rule": rule,
            "jobs": str(share.n_jobs),
            "PFLOP": _number(share.flops / 1e15),
            "GPU hours": _number(share.gpu_seconds / 3600),
            **({"hours here": _number((share.seconds or 0.0) / 3600)} if times else {}),
            "files, GB": _number(share.file_bytes / 1e9),
            "memory of a job, GB": _number(share.memory / 1e9),
            "GPU memory of a job, GB": _number(share.device_memory / 1e9),
        }
        for rule, share in [*found.items(), ("all", total)]
    ]
    return pd.DataFrame(rows).to_markdown(
        index=False, disable_numparse=True, colalign=["left", *["right"] * (len(rows[0]) - 1)]
    )


def _number(value: float) -> str:
    """Three digits are more than an estimate has."""
    return "" if not value else f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def within_patience(config: Config) -> tuple[Config, Size]:
    """The config with batches that a CPU goes through in seconds, and how much is to be measured of it."""
    image_size = config["data"]["image_size"]
    classifiers = {name: classifier_costs(settings).gflop for name, settings in config["classifiers"].items()}
    denoisers = {name: denoiser_costs(settings, image_size).gflop for name, settings in config["denoisers"].items()}
    largest = max([*classifiers.values(), *denoisers.values()])

    def at_once(configured: int, gflop: float, least: int) -> int:
        return min(configured, max(least, int(BATCH_FLOPS / (1e9 * gflop))))

    def small_classifier(name: str, settings: Config) -> Config:
        size = at_once(settings["training"]["batch_size"], classifiers[name], LEAST_BATCH)
        return {**settings, "training": {**settings["training"], "batch_size": size}}

    def small_denoiser(name: str, settings: Config) -> Config:
        return {**settings, "batch_size": at_once(settings["batch_size"], denoisers[name], LEAST_BATCH)}

    n_images = at_once(config["compute"]["batch_size"], largest, LEAST_IMAGES)
    rounds = min(MOST_ROUNDS, max(1, int(BATCH_FLOPS / (1e9 * largest * n_images))))
    small = {
        **config,
        "classifiers": {name: small_classifier(name, settings) for name, settings in config["classifiers"].items()},
        "denoisers": {name: small_denoiser(name, settings) for name, settings in config["denoisers"].items()},
    }
    return small, Size(matrix=2048, batches=1, images=n_images, rounds=rounds)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.add_argument("--configfile", type=Path, default=CONFIG)
    parser.add_argument("--images", type=int, nargs=2, metavar=("TRAIN", "VAL"), help="where the data are not here yet")
    given = parser.add_mutually_exclusive_group()
    given.add_argument("--measure", type=Path, metavar="FILE", help="measure the networks' rates, and keep them")
    given.add_argument("--rates", type=Path, metavar="FILE", help="the rates of an earlier --measure")
    arguments = parser.parse_args()
    config = load_config(arguments.configfile)
    images = (
        dict(zip(("train", "val"), arguments.images, strict=True))
        if arguments.images
        else source_images(config["data"])
    )
    if not all(images.values()):
        parser.error(f"{config['data']['path']} holds no images yet; say with --images how many there will be")
    rates = None
    if arguments.measure:
        device = prepare(config["compute"]["device"], n_cores())
        measured, size = within_patience(config) if device.type == "cpu" else (config, SIZES["cuda"])
        rates = measure(Bench(measured, size, device), attacks=[]).rates
        arguments.measure.write_text(json.dumps(asdict(rates), indent=1), encoding="utf-8")
    elif arguments.rates:
        rates = Rates(**json.loads(arguments.rates.read_text(encoding="utf-8")))
    print(table(shares(config, images, rates)))


if __name__ == "__main__":
    main()
