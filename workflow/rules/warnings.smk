rule warnings:
    input:
        accuracy=clean_accuracy(config["classifiers"]),
        attacks=attack_results(SETS),
        left_out=f"{RESULTS}/data/left_out.csv",
        distances=files_of_sets("distances/{classifier}/{adversarial_set}.csv", CLASSIFIERS),
    output:
        f"{RESULTS}/warnings.csv",
    log:
        f"{RESULTS}/logs/warnings.log",
    conda:
        "../../envs/figures.yaml"
    threads: 1
    resources:
        mem_mb=memory("warnings"),
        runtime=minutes("warnings"),
    params:
        targets=TARGETS,
        measured=CLASSIFIERS,
        adversarial_sets=SETS,
        replicates=config["replicates"],
        code=code("study_warnings.py"),
    script:
        "../scripts/study_warnings.py"
