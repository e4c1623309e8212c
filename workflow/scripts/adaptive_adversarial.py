"""Attack one split through a denoiser: data + attacker + stopping classifier + denoiser -> adversarial set."""

from collections.abc import Mapping
from typing import Any

from perturbflow.attacks.adversarial_set import attack_to_file, common_settings, load_networks
from perturbflow.attacks.foolbox_attack import FoolboxAttack
from perturbflow.attacks.foolbox_options import foolbox_attack
from perturbflow.attacks.gradient_sign import ATTACKS, GradientSignAttack, own_attack
from perturbflow.denoisers.defended import Defended
from perturbflow.denoisers.networks import load_denoiser
from perturbflow.files.whole import sha256
from perturbflow.machine.devices import prepare
from perturbflow.machine.job import run_job


def build_attack(
    settings: Mapping[str, Any], batch_size: int, seed: int, first_row: int
) -> GradientSignAttack | FoolboxAttack:
    common = common_settings(settings, batch_size)
    if settings["attack"] in ATTACKS:
        return own_attack(settings, **common)
    attack = foolbox_attack(settings["attack"], settings["options"])
    return FoolboxAttack(attack, epsilon=settings["epsilon"], seed=seed, first_row=first_row, **common)


def main() -> None:
    compute, settings, seed = snakemake.config["compute"], snakemake.params.adversarial_set, snakemake.params.seed
    rows = snakemake.params.get("rows")
    device = prepare(compute["device"], snakemake.threads)
    denoiser = load_denoiser(snakemake.input.denoiser, device)
    networks = load_networks(snakemake.input, device)
    attack_to_file(
        build_attack(settings, compute["batch_size"], seed, rows.start if rows else 0),
        {path: Defended(denoiser, network) for path, network in networks.items()},
        snakemake.input,
        snakemake.output[0],
        settings,
        seed,
        device,
        rows=rows,
        denoiser_sha256=sha256(snakemake.input.denoiser),
    )


run_job(main, snakemake.log[0])
