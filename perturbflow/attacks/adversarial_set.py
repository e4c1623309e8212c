"""From files to an adversarial set's file: what the workflow's scripts for attacks share."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from perturbflow.attacks.gradient_sign import FinishedImages
from perturbflow.classifiers.building import load_classifier
from perturbflow.files.images import image_writer, read_split
from perturbflow.files.provenance import artifact_attributes
from perturbflow.files.whole import sha256
from perturbflow.machine.prefetch import behind


class Attack(Protocol):
    """What attacks: the stopping classifier decides over the success of what follows the attacker's gradient."""

    def stream(
        self,
        attacker: nn.Module,
        stopping_classifier: nn.Module,
        images: Tensor,
        labels: Tensor,
        *,
        device: torch.device | None = None,
    ) -> Iterator[FinishedImages]:
        """The images, (N, C, H, W), as they are finished. device: of the networks."""


class Inputs(Protocol):
    """Paths: the images, and the checkpoints of the classifier whose gradient is followed and of that which judges."""

    data: str
    attacker: str
    stopping_classifier: str


def common_settings(settings: Mapping[str, Any], batch_size: int) -> dict[str, Any]:
    """The arguments that all attacks take, from the config of a set."""
    return {
        "early_stop": settings["stopping_classifier"] is not None,
        "batch_size": batch_size,
        "round_to_8_bits": settings["round_to_8_bits"],
    }


def load_networks(inputs: Inputs, device: torch.device) -> dict[str, nn.Module]:
    """Attacker and stopping classifier by their paths: one network, where the attacker judges its own adversaries."""
    return {path: load_classifier(path, device) for path in {inputs.attacker, inputs.stopping_classifier}}


def attack_to_file(
    attack: Attack,
    networks: Mapping[str, nn.Module],
    inputs: Inputs,
    output: str,
    settings: Mapping[str, Any],
    seed: int,
    device: torch.device,
    *,
    rows: range | None = None,
    **digests: str,
) -> None:
    """Attack all images of a split, or the rows of a shard, and write the adversarial set.

    networks: as `load_networks` gives them, perhaps behind a denoiser. settings: the config of the set. rows: of a
    shard, which has these images alone and lacks `data_sha256`: that is for `join_shards`, as each shard would have to
    read all data for it. digests: of further inputs.
    """
    split = read_split(inputs.data, rows)
    n_images = len(split.images)
    columns = {
        "steps": np.zeros(n_images, dtype=np.int64),
        "succeeded": np.zeros(n_images, dtype=bool),
        "already_misclassified": np.zeros(n_images, dtype=bool),
    }
    attributes = artifact_attributes(
        {**settings, "seed": seed},
        class_names=json.dumps(split.class_names),
        **({"data_sha256": sha256(inputs.data)} if rows is None else {}),
        attacker_sha256=sha256(inputs.attacker),
        stopping_classifier_sha256=sha256(inputs.stopping_classifier),
        **digests,
    )

    def write(part: FinishedImages) -> None:
        positions = part.index.cpu().numpy()
        order = positions.argsort()  # HDF5 takes several rows at once in ascending order only
        file["images"][positions[order]] = part.images.permute(0, 2, 3, 1).cpu().numpy()[order]
        for name, values in columns.items():
            values[positions] = getattr(part, name).cpu().numpy()
        progress.update(len(positions))

    with (
        image_writer(output, n_images, split.images.shape[1:], "float32", attributes) as file,
        tqdm(total=n_images, unit="image") as progress,
    ):
        with behind(write) as write_behind:
            for part in attack.stream(
                networks[inputs.attacker],
                networks[inputs.stopping_classifier],
                torch.from_numpy(split.images).permute(0, 3, 1, 2),
                torch.from_numpy(split.labels),
                device=device,
            ):
                write_behind(part)
        file["index"] = np.arange(n_images, dtype=np.int64) + (rows.start if rows else 0)
        file["label"] = split.labels
        for name, values in columns.items():
            file[name] = values
