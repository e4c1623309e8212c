from perturbflow.vocabulary import DECISION_PLANE_METRICS


rule figure:
    input:
        distances=lambda wildcards: expand(
            f"{POOLED}distances/{{classifier}}/{{adversarial_set}}.csv",
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
        settings=lambda wildcards: figure_settings(wildcards.figure),
        labels=LABELS,
        replicates=config["replicates"],
        figure="perturbflow.figures.propagation:propagation_figure",
        code=code_with("figure.py", "perturbflow.figures.propagation"),
    script:
        "../scripts/figure.py"


# Figure 4 of the paper, measured.
rule geometry_figure:
    input:
        distances=expand(
            f"{POOLED}distances/{{{{classifier}}}}/{{adversarial_set}}.csv",
            adversarial_set=SETS,
        ),
        predictions=expand(
            f"{TRAINED}predictions/{{{{classifier}}}}/{{adversarial_set}}.csv.gz",
            replicate=REPLICATES,
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
        settings=lambda wildcards: {
            "classifier": wildcards.classifier,
            "adversarial_sets": SETS,
            "denoisers": DENOISERS,
            "controls": NORM_OF,
            "colors": COLORS,
        },
        labels=LABELS,
        replicates=config["replicates"],
        figure="perturbflow.figures.decision_planes:geometry_figure",
        code=code_with("figure.py", "perturbflow.figures.decision_planes"),
    script:
        "../scripts/figure.py"


rule intervention_figure:
    input:
        interventions=expand(
            f"{POOLED}interventions/{{{{classifier}}}}/{{adversarial_set}}.csv",
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
        settings=lambda wildcards: {
            "classifier": wildcards.classifier,
            "adversarial_sets": INTERVENED,
            "denoisers": DENOISERS,
        },
        labels=LABELS,
        replicates=config["replicates"],
        figure="perturbflow.figures.interventions:intervention_figure",
        code=code_with("figure.py", "perturbflow.figures.interventions"),
    script:
        "../scripts/figure.py"


FIGURES = [
    *config["figures"],
    *(f"geometry/{name}" for name in CLASSIFIERS if {*DECISION_PLANE_METRICS} <= METRICS),
    *(f"interventions/{name}" for name in CLASSIFIERS if INTERVENED),
]
