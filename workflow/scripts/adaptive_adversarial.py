"""Attack one split through a denoiser: data + attacker + stopping classifier + denoiser -> adversarial set."""

from perturbflow.attacks.adaptive_set import attack_through_denoiser
from perturbflow.attacks.adversarial_set import AttackJob
from perturbflow.machine.job import run_job


def main() -> None:
    attack_through_denoiser(
        AttackJob(
            data=snakemake.input.data,
            attacker=snakemake.input.attacker,
            stopping_classifier=snakemake.input.stopping_classifier,
            output=snakemake.output[0],
            settings=snakemake.params.adversarial_set,
            seed=snakemake.params.seed,
            rows=snakemake.params.get("rows"),
            denoiser=snakemake.input.denoiser,
        ),
        snakemake.config["compute"],
        snakemake.threads,
    )


run_job(main, snakemake.log[0])
