rule figure:
    input:
        distances=lambda wildcards: expand(
            f"{RESULTS}/distances/{{classifier}}/{{adversarial_set}}.csv",
            classifier=figure_settings(wildcards.figure)["classifiers"],
            adversarial_set=figure_settings(wildcards.figure)["adversarial_sets"],
        ),
    output:
        **pictures("{figure}", "figure", "{figure}"),
    log:
        f"{RESULTS}/logs/figures/{{figure}}.log",
    conda:
        "../../envs/figures.yaml"
    threads: 1
    resources:
        mem_mb=memory("figure"),
        runtime=minutes("figure"),
    params:
        figure=lambda wildcards: figure_settings(wildcards.figure),
        code=code("figure.py"),
    script:
        "../scripts/figure.py"


# Figure 4 of the paper, measured.
rule geometry_figure:
    input:
        distances=expand(
            f"{RESULTS}/distances/{{{{classifier}}}}/{{adversarial_set}}.csv",
            adversarial_set=SETS,
        ),
        predictions=expand(
            f"{RESULTS}/predictions/{{{{classifier}}}}/{{adversarial_set}}.csv.gz",
            adversarial_set=SETS,
        ),
    output:
        **pictures("geometry/{classifier}", "geometry_figure", "geometry, {classifier}"),
    log:
        f"{RESULTS}/logs/figures/geometry/{{classifier}}.log",
    conda:
        "../../envs/figures.yaml"
    threads: 1
    resources:
        mem_mb=memory("figure"),
        runtime=minutes("figure"),
    params:
        adversarial_sets=SETS,
        denoisers=DENOISERS,
        code=code("geometry_figure.py"),
    script:
        "../scripts/geometry_figure.py"


rule intervention_figure:
    input:
        interventions=expand(
            f"{RESULTS}/interventions/{{{{classifier}}}}/{{adversarial_set}}.csv",
            adversarial_set=INTERVENED,
        ),
    output:
        **pictures("interventions/{classifier}", "intervention_figure", "interventions, {classifier}"),
    log:
        f"{RESULTS}/logs/figures/interventions/{{classifier}}.log",
    conda:
        "../../envs/figures.yaml"
    threads: 1
    resources:
        mem_mb=memory("figure"),
        runtime=minutes("figure"),
    params:
        adversarial_sets=INTERVENED,
        denoisers=DENOISERS,
        code=code("intervention_figure.py"),
    script:
        "../scripts/intervention_figure.py"


FIGURES = [
    *config["figures"],
    *(f"geometry/{name}" for name in CLASSIFIERS if {"along_share", "norm_change", "angle"} <= METRICS),
    *(f"interventions/{name}" for name in CLASSIFIERS if INTERVENED),
]
