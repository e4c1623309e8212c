"""Draw one figure of the distances, as SVG and PNG."""

from perturbflow.figures.propagation import propagation_figure
from perturbflow.figures.style import save_figure
from perturbflow.files.whole import whole_file
from perturbflow.machine.job import run_job
from perturbflow.results.reading import read_results


def main() -> None:
    figure = propagation_figure(read_results(snakemake.input.distances), **snakemake.params.figure)
    for extension, path in snakemake.output.items():
        with whole_file(path) as temporary:
            save_figure(figure, temporary, extension)


run_job(main, snakemake.log[0])
