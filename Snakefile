import os
from pathlib import Path

from snakemake.utils import min_version

from perturbflow.machine.import_paths import REPOSITORY
from perturbflow.planning.checks import mistakes
from perturbflow.planning.config import ConfigError, repeated_keys, resolve_config

min_version("9.27")

# Whether another workflow has this one as a module, which gives it the config.
IS_MODULE = Path(workflow.main_snakefile).resolve() != REPOSITORY / "Snakefile"

# Without this condition `--configfile mine.yaml` would be merged into the paper's study instead of replacing it.
if not workflow.overwrite_configfiles:

    configfile: REPOSITORY / "config/config.yaml"


# Jobs of their own process read this file again; what was checked is not checked once more.
source = ", ".join([f"module {__name__}"] * IS_MODULE + [*map(os.path.relpath, workflow.configfiles)])
if not config:
    raise WorkflowError(f"{source}: there is no config; write `config: config` in the module, or what holds the study")
try:
    if workflow.is_main_process and (
        repeated := [text for file in workflow.configfiles for text in repeated_keys(file)]
    ):
        raise ConfigError("\n".join(repeated))
    # Another object: that of the outer workflow is its own, and is read again for the next `use rule`.
    config = resolve_config(config, source)
    # A cluster's jobs run on other machines, whose devices are not known here.
    is_local = workflow.resource_settings.nodes is None
    if workflow.is_main_process and (found := mistakes(config, is_local)):
        raise ConfigError("\n".join(f"{source}: {mistake}" for mistake in found))
except ConfigError as error:
    raise WorkflowError(str(error))


# The outer workflow has a report of its own.
if not IS_MODULE:

    report: "workflow/report/workflow.rst"


localrules:
    all,


# The first rule is the default one; an outer workflow's own first rule stays its default.
rule all:
    input:
        lambda _: expand(f"{RESULTS}/tables/{{table}}.{{extension}}", table=TABLES, extension=["csv", "md"]),
        lambda _: expand(f"{RESULTS}/figures/{{figure}}.{{extension}}", figure=FIGURES, extension=["svg", "png"]),
        lambda _: f"{RESULTS}/warnings.csv",


include: "workflow/rules/common.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/classifiers.smk"
include: "workflow/rules/shards.smk"
include: "workflow/rules/attacks.smk"
include: "workflow/rules/denoisers.smk"
include: "workflow/rules/measuring.smk"
include: "workflow/rules/pooling.smk"
include: "workflow/rules/tables.smk"
include: "workflow/rules/warnings.smk"
include: "workflow/rules/figures.smk"


# Where the study lies: a module may have a prefix, which stands in the paths of rules alone.
STUDY = Path(rules.data.output[0]).parents[1]


onsuccess:
    for line in warning_lines(STUDY / "warnings.csv"):
        print(line)
    folders = {"Tables": STUDY / "tables", "Figures": STUDY / "figures"}
    if made := [f"{name}: {folder}" for name, folder in folders.items() if folder.is_dir()]:
        print(*made, sep="   ")


onerror:
    folders = [f"{STUDY}/logs", *(f"{STUDY}/{folder}logs" for folder in REPLICATES if folder)]
    print(f"Something failed; each job's log is under {', '.join(folders)}")
