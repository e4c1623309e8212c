"""Attack one split with an attack of Foolbox: data + attacker + stopping classifier -> adversarial set."""

from perturbflow.attacks.adversarial_set import AttackJob
from perturbflow.attacks.foolbox_set import attack_with_foolbox
from perturbflow.machine.job import run_job


def main() -> None:
    attack_with_foolbox(
        AttackJob(
            data=snakemake.input.data,
            attacker=snakemake.input.attacker,
            stopping_classifier=snakemake.input.stopping_classifier,
            output=snakemake.output[0],
            settings=snakemake.params.adversarial_set,
            seed=snakemake.params.seed,
            rows=snakemake.params.get("rows"),
        ),
        snakemake.config["compute"],
        snakemake.threads,
    )


run_job(main, snakemake.log[0])
