"""Draw one figure of the distances, as SVG and PNG."""

from perturbflow.logs import run_job

from perturbflow.figure_style import save_figure
from perturbflow.figures import propagation_figure
from perturbflow.results import read_results
from perturbflow.storage import whole_file


def main() -> None:
    figure = propagation_figure(read_results(snakemake.input.distances), **snakemake.params.figure)
    for extension, path in snakemake.output.items():
        with whole_file(path) as temporary:
            save_figure(figure, temporary, extension)


run_job(main, snakemake.log[0])
