"""Attack one split with an attack of Foolbox: data + attacker + stopping classifier -> adversarial set."""

from perturbflow.logs import run_job

from perturbflow.attack_job import attack_to_file, common_settings, load_networks
from perturbflow.compute import prepare
from perturbflow.foolbox_attacks import foolbox_attack
from perturbflow.foolbox_runner import FoolboxAttack


def main() -> None:
    compute, settings, seed = snakemake.config["compute"], snakemake.params.adversarial_set, snakemake.params.seed
    rows = snakemake.params.get("rows")
    device = prepare(compute["device"], snakemake.threads)
    attack_to_file(
        FoolboxAttack(
            foolbox_attack(settings["attack"], settings["options"]),
            epsilon=settings["epsilon"],
            seed=seed,
            first_row=rows.start if rows else 0,
            **common_settings(settings, compute["batch_size"]),
        ),
        load_networks(snakemake.input, device),
        snakemake.input,
        snakemake.output[0],
        settings,
        seed,
        device,
        rows=rows,
    )


run_job(main, snakemake.log[0])
