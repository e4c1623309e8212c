"""Draw how perturbations lie to the clean feature maps of a classifier, as SVG and PNG."""

from perturbflow.logs import run_job

from perturbflow.figure_style import save_figure
from perturbflow.geometry_figures import geometry_figure
from perturbflow.results import read_results
from perturbflow.storage import whole_file


def main() -> None:
    figure = geometry_figure(
        read_results(snakemake.input.distances),
        read_results(snakemake.input.predictions),
        classifier=snakemake.wildcards.classifier,
        adversarial_sets=snakemake.params.adversarial_sets,
        denoisers=snakemake.params.denoisers,
    )
    for extension, path in snakemake.output.items():
        with whole_file(path) as temporary:
            save_figure(figure, temporary, extension)


run_job(main, snakemake.log[0])
