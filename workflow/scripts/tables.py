"""Write one table as CSV and as Markdown; the rule names its inputs and params as the table's function does."""

from pathlib import Path

from perturbflow import claims, geometry_tables, tables
from perturbflow.logs import log_to
from perturbflow.results import read_results
from perturbflow.storage import whole_file

TABLES = {**tables.TABLES, **geometry_tables.TABLES, **claims.TABLES}


def main() -> None:
    table = TABLES[Path(snakemake.output.csv).stem]
    frames = {name: read_results(paths, table.columns.get(name)) for name, paths in snakemake.input.items()}
    settings = {name: value for name, value in snakemake.params.items() if name != "code"}
    result = table.build(**frames, **settings)
    with whole_file(snakemake.output.csv) as temporary:
        result.to_csv(temporary, index=False, float_format="%.6g")
    with whole_file(snakemake.output.markdown) as temporary:
        temporary.write_text(table.markdown(result), encoding="utf-8")


with log_to(snakemake.log[0]):
    main()
