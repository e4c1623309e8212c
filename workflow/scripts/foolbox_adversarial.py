"""Attack one split with an attack of Foolbox: data + attacker + stopping classifier -> adversarial set."""

from perturbflow.attacks.adversarial_set import attack_to_file, common_settings, load_networks
from perturbflow.attacks.foolbox_attack import FoolboxAttack
from perturbflow.attacks.foolbox_options import foolbox_attack
from perturbflow.machine.devices import prepare
from perturbflow.machine.job import run_job


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
