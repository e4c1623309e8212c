# With several replicates: the numbers of all of them together, as tables and figures show them. One job a classifier, as
# to start one takes longer than its sets.
if len(REPLICATES) > 1:

    rule pool_measurements:
        input:
            accuracy=files_of_sets("accuracy/{{classifier}}/{adversarial_set}.csv"),
            distances=files_of_sets("distances/{{classifier}}/{adversarial_set}.csv"),
            distances_images=files_of_sets("distances/{{classifier}}/{adversarial_set}_images.csv.gz"),
        output:
            accuracy=expand(f"{POOLED}accuracy/{{{{classifier}}}}/{{adversarial_set}}.csv", adversarial_set=SETS),
            distances=expand(f"{POOLED}distances/{{{{classifier}}}}/{{adversarial_set}}.csv", adversarial_set=SETS),
        log:
            f"{RESULTS}/logs/pooled/measurements/{{classifier}}.log",
        conda:
            "../../envs/figures.yaml"
        threads: 1
        resources:
            mem_mb=memory("pool"),
            runtime=minutes("pool"),
        params:
            replicates=config["replicates"],
            code=code("pool_measurements.py"),
        script:
            "../scripts/pool_measurements.py"

    rule pool_study:
        input:
            accuracy=clean_accuracy(config["classifiers"]),
            mse=files_of_sets("mse/{adversarial_set}.csv"),
            mse_images=files_of_sets("mse/{adversarial_set}_images.csv.gz"),
        output:
            accuracy=expand(f"{POOLED}classifiers/{{classifier}}/accuracy.csv", classifier=config["classifiers"]),
            mse=expand(f"{POOLED}mse/{{adversarial_set}}.csv", adversarial_set=SETS),
        log:
            f"{RESULTS}/logs/pooled/study.log",
        conda:
            "../../envs/figures.yaml"
        threads: 1
        resources:
            mem_mb=memory("pool"),
            runtime=minutes("pool"),
        params:
            replicates=config["replicates"],
            code=code("pool_study.py"),
        script:
            "../scripts/pool_study.py"


if len(REPLICATES) > 1 and INTERVENED:

    rule pool_interventions:
        input:
            interventions=files_of_sets(
                "interventions/{{classifier}}/{adversarial_set}.csv", adversarial_sets=INTERVENED
            ),
            images=files_of_sets(
                "interventions/{{classifier}}/{adversarial_set}_images.csv.gz", adversarial_sets=INTERVENED
            ),
        output:
            expand(f"{POOLED}interventions/{{{{classifier}}}}/{{adversarial_set}}.csv", adversarial_set=INTERVENED),
        log:
            f"{RESULTS}/logs/pooled/interventions/{{classifier}}.log",
        conda:
            "../../envs/figures.yaml"
        threads: 1
        resources:
            mem_mb=memory("pool"),
            runtime=minutes("pool"),
        params:
            replicates=config["replicates"],
            code=code("pool_interventions.py"),
        script:
            "../scripts/pool_interventions.py"
