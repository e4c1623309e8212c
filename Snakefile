import os

from snakemake.utils import min_version

from perturbflow.planning.checks import mistakes
from perturbflow.planning.config import ConfigError, repeated_keys, resolve_config

min_version("9.27")


# Without this condition `--configfile mine.yaml` would be merged into the paper's study instead of replacing it.
if not workflow.overwrite_configfiles:

    configfile: f"{workflow.basedir}/config/config.yaml"


# Jobs of their own process read this file again; what was checked is not checked once more.
source = ", ".join(map(os.path.relpath, workflow.configfiles))
try:
    if workflow.is_main_process and (
        repeated := [text for file in workflow.configfiles for text in repeated_keys(file)]
    ):
        raise ConfigError("\n".join(repeated))
    config.update(resolve_config(config, source))
    # A cluster's jobs run on other machines, whose devices are not known here.
    is_local = workflow.resource_settings.nodes is None
    if workflow.is_main_process and (found := mistakes(config, is_local)):
        raise ConfigError("\n".join(f"{source}: {mistake}" for mistake in found))
except ConfigError as error:
    raise WorkflowError(str(error))


report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/classifiers.smk"
include: "workflow/rules/shards.smk"
include: "workflow/rules/attacks.smk"
include: "workflow/rules/denoisers.smk"
include: "workflow/rules/measuring.smk"
include: "workflow/rules/tables.smk"
include: "workflow/rules/figures.smk"


localrules:
    all,


rule all:
    default_target: True
    input:
        expand(f"{RESULTS}/tables/{{table}}.{{extension}}", table=TABLES, extension=["csv", "md"]),
        expand(f"{RESULTS}/figures/{{figure}}.{{extension}}", figure=FIGURES, extension=["svg", "png"]),
        f"{RESULTS}/warnings.csv",


onsuccess:
    for line in warning_lines(f"{RESULTS}/warnings.csv"):
        print(line)
    print(f"Tables: {RESULTS}/tables   Figures: {RESULTS}/figures")


onerror:
    print(f"Something failed; each job's log is under {RESULTS}/logs")
