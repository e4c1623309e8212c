"""Adversarial sets by the attacks of the paper, from files to files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from perturbflow.attacks.adversarial_set import AttackJob, attack_to_files, common_settings, load_networks
from perturbflow.attacks.gradient_sign import GradientSignAttack, own_attack
from perturbflow.machine.devices import prepare


def attack_with_gradient_signs(job: AttackJob, compute: Mapping[str, Any], threads: int) -> None:
    """Write the set. compute: the config's `compute`."""
    device = prepare(compute["device"], threads)
    attack_to_files(job, build_gradient_sign_attack(job, compute["batch_size"]), load_networks(job, device), device)


def build_gradient_sign_attack(job: AttackJob, batch_size: int) -> GradientSignAttack:
    """The attack of a job."""
    return own_attack(job.settings, **common_settings(job.settings, batch_size))
