rule figure:
    input:
        distances=expand(
            f"{RESULTS}/distances/{{classifier}}/{{adversarial_set}}.csv",
            classifier=CLASSIFIERS,
            adversarial_set=SETS,
        ),
    output:
        svg=report(
            f"{RESULTS}/figures/{{figure}}.svg",
            caption="../report/figure.rst",
            category="Figures",
            labels={"figure": "{figure}", "format": "SVG"},
        ),
        png=report(
            f"{RESULTS}/figures/{{figure}}.png",
            caption="../report/figure.rst",
            category="Figures",
            labels={"figure": "{figure}", "format": "PNG"},
        ),
    log:
        f"{RESULTS}/logs/figures/{{figure}}.log",
    conda:
        "../../envs/figures.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        classifiers=CLASSIFIERS,
        adversarial_sets=SETS,
        denoisers=DENOISERS,
        figure=lambda wildcards: config["figures"][wildcards.figure],
        code=code("figure.py"),
    script:
        "../scripts/figure.py"
