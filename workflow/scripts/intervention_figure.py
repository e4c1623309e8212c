"""Draw which part of a perturbation, at which layer, does the damage, as SVG and PNG."""

from perturbflow.figures.interventions import intervention_figure
from perturbflow.figures.style import save_figure
from perturbflow.files.whole import whole_file
from perturbflow.machine.job import run_job
from perturbflow.results.reading import read_results


def main() -> None:
    figure = intervention_figure(
        read_results(snakemake.input.interventions),
        classifier=snakemake.wildcards.classifier,
        adversarial_sets=snakemake.params.adversarial_sets,
        denoisers=snakemake.params.denoisers,
    )
    for extension, path in snakemake.output.items():
        with whole_file(path) as temporary:
            save_figure(figure, temporary, extension)


run_job(main, snakemake.log[0])
