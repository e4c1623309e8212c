"""Adversarial sets by attacks of Foolbox, from files to files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from perturbflow.attacks.adversarial_set import AttackJob, attack_to_files, common_settings, load_networks
from perturbflow.attacks.foolbox_attack import FoolboxAttack
from perturbflow.attacks.foolbox_options import foolbox_attack
from perturbflow.machine.devices import prepare


def attack_with_foolbox(job: AttackJob, compute: Mapping[str, Any], threads: int) -> None:
    """Write the set. compute: the config's `compute`."""
    device = prepare(compute["device"], threads)
    attack_to_files(job, build_foolbox_attack(job, compute["batch_size"]), load_networks(job, device), device)


def build_foolbox_attack(job: AttackJob, batch_size: int) -> FoolboxAttack:
    """The attack of a job."""
    return FoolboxAttack(
        foolbox_attack(job.settings["attack"], job.settings["options"]),
        epsilon=job.settings["epsilon"],
        seed=job.seed,
        first_row=job.first_row,
        **common_settings(job.settings, batch_size),
    )
