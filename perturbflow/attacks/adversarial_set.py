"""From files to an adversarial set's files, whatever the attack."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from perturbflow.attacks.gradient_sign import FinishedImages
from perturbflow.classifiers.building import load_classifier
from perturbflow.files.images import read_split
from perturbflow.files.provenance import artifact_attributes
from perturbflow.files.sets import ATTACK_COLUMNS, set_writer, unattacked
from perturbflow.files.whole import sha256
from perturbflow.machine.prefetch import behind


class Attack(Protocol):
    """What attacks: the stopping classifier decides over the success of what follows the attacker's gradient."""

    @property
    def batch_size(self) -> int | None:
        """Images attacked at once; None is all."""

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


@dataclass(frozen=True)
class AttackJob:
    """An adversarial set to be made, or the rows of a shard of one of its splits.

    data, adversarial: by split, the file of the clean images and the file to write. attacker, stopping_classifier:
    checkpoints of the classifier whose gradient is followed and of the one that judges; one path, where the attacker
    judges its own adversaries. settings: the config of the set. seed: of the study. rows: of a shard, which has these
    images alone and lacks `data_sha256`: that is for `join_shards`, as each shard would have to read all data for it.
    denoiser: checkpoint of the one that both classifiers stand behind, where the attack is adaptive.
    """

    data: Mapping[str, str]
    attacker: str
    stopping_classifier: str
    adversarial: Mapping[str, str]
    settings: Mapping[str, Any]
    seed: int
    rows: range | None = None
    denoiser: str | None = None

    @property
    def first_row(self) -> int:
        """The row in the data of the first image."""
        return self.rows.start if self.rows else 0


def common_settings(settings: Mapping[str, Any], batch_size: int) -> dict[str, Any]:
    """The arguments that all attacks take, from the config of a set."""
    return {
        "early_stop": settings["stopping_classifier"] is not None,
        "batch_size": batch_size,
        "round_to_8_bits": settings["round_to_8_bits"],
    }


def load_networks(job: AttackJob, device: torch.device) -> dict[str, nn.Module]:
    """Attacker and stopping classifier by their paths: one network, where the attacker judges its own adversaries."""
    return {path: load_classifier(path, device) for path in {job.attacker, job.stopping_classifier}}


def attack_to_files(job: AttackJob, attack: Attack, networks: Mapping[str, nn.Module], device: torch.device) -> None:
    """Attack the images of a job and write the adversarial set, split by split.

    networks: as `load_networks` gives them, perhaps behind a denoiser.
    """
    digests = {
        "attacker_sha256": sha256(job.attacker),
        "stopping_classifier_sha256": sha256(job.stopping_classifier),
        **({"denoiser_sha256": sha256(job.denoiser)} if job.denoiser else {}),
    }
    for split in job.data:
        _attack_split(job, split, attack, networks, device, digests)


def _attack_split(
    job: AttackJob,
    name: str,
    attack: Attack,
    networks: Mapping[str, nn.Module],
    device: torch.device,
    digests: Mapping[str, str],
) -> None:
    """One split, or the rows of a shard; it alone is in memory. digests: attributes that tell of the checkpoints."""
    split = read_split(job.data[name], job.rows)
    n_images = len(split.images)
    columns = {
        "index": np.arange(n_images, dtype=np.int64) + job.first_row,
        "label": split.labels,
        **unattacked(n_images),
    }
    attributes = artifact_attributes(
        {**job.settings, "seed": job.seed},
        class_names=json.dumps(split.class_names),
        batch_size=json.dumps(attack.batch_size),
        **({"data_sha256": sha256(job.data[name])} if job.rows is None else {}),
        **digests,
    )

    def write(part: FinishedImages) -> None:
        positions = part.index.cpu().numpy()
        order = positions.argsort()  # HDF5 takes several rows at once in ascending order only
        images[positions[order]] = part.images.permute(0, 2, 3, 1).cpu().numpy()[order]
        for column in ATTACK_COLUMNS:
            columns[column][positions] = getattr(part, column).cpu().numpy()
        progress.update(len(positions))

    with (
        set_writer(job.adversarial[name], split.images.shape[1:], columns, attributes) as images,
        tqdm(total=n_images, unit="image") as progress,
        behind(write) as write_behind,
    ):
        for part in attack.stream(
            networks[job.attacker],
            networks[job.stopping_classifier],
            torch.from_numpy(split.images).permute(0, 3, 1, 2),
            torch.from_numpy(split.labels),
            device=device,
        ):
            write_behind(part)
