"""Attack one split with an attack of the paper: data + attacker + stopping classifier -> adversarial set."""

from perturbflow.attacks.adversarial_set import attack_to_file, common_settings, load_networks
from perturbflow.attacks.gradient_sign import own_attack
from perturbflow.machine.devices import prepare
from perturbflow.machine.job import run_job


def main() -> None:
    compute, settings = snakemake.config["compute"], snakemake.params.adversarial_set
    device = prepare(compute["device"], snakemake.threads)
    attack_to_file(
        own_attack(settings, **common_settings(settings, compute["batch_size"])),
        load_networks(snakemake.input, device),
        snakemake.input,
        snakemake.output[0],
        settings,
        snakemake.params.seed,
        device,
        rows=snakemake.params.get("rows"),
    )


run_job(main, snakemake.log[0])
