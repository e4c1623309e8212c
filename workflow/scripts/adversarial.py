"""Attack as in the paper, both splits or the rows of a shard: data + classifiers -> adversarial set."""

from perturbflow.attacks.adversarial_set import AttackJob
from perturbflow.attacks.gradient_sign_set import attack_with_gradient_signs
from perturbflow.machine.job import run_job


def main() -> None:
    inputs, outputs, split = snakemake.input, snakemake.output, snakemake.wildcards.get("split")
    attack_with_gradient_signs(
        AttackJob(
            # A shard is of one split.
            data={split: inputs.data} if split else {name: inputs[name] for name, _ in outputs.items()},
            attacker=inputs.attacker,
            stopping_classifier=inputs.stopping_classifier,
            adversarial={split: outputs[0]} if split else dict(outputs.items()),
            settings=snakemake.params.adversarial_set,
            seed=snakemake.params.seed,
            rows=snakemake.params.get("rows"),
        ),
        snakemake.config["compute"],
        snakemake.threads,
    )


run_job(main, snakemake.log[0])
