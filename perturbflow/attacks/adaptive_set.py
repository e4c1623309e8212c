"""Adversarial sets by an attacker who knows the denoiser, from files to files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from perturbflow.attacks.adversarial_set import AttackJob, attack_to_files, load_networks
from perturbflow.attacks.foolbox_set import build_foolbox_attack
from perturbflow.attacks.gradient_sign import ATTACKS
from perturbflow.attacks.gradient_sign_set import build_gradient_sign_attack
from perturbflow.denoisers.defended import Defended
from perturbflow.denoisers.networks import load_denoiser
from perturbflow.machine.devices import prepare


def attack_through_denoiser(job: AttackJob, compute: Mapping[str, Any], threads: int) -> None:
    """Write the set, by an attack of the paper or of Foolbox. compute: the config's `compute`.

    Raises ValueError for a job without a denoiser.
    """
    if job.denoiser is None:
        raise ValueError(f"{', '.join(job.adversarial.values())}: an adaptive attack needs a denoiser")
    device = prepare(compute["device"], threads)
    denoiser = load_denoiser(job.denoiser, device)
    build_attack = build_gradient_sign_attack if job.settings["attack"] in ATTACKS else build_foolbox_attack
    networks = {path: Defended(denoiser, network) for path, network in load_networks(job, device).items()}
    attack_to_files(job, build_attack(job, compute["batch_size"]), networks, device)
