rule classifier:
    input:
        data=expand(f"{RESULTS}/data/{{split}}.h5", split=SPLITS),
        weights=lambda wildcards: weights_input(wildcards.classifier),
        logits=lambda wildcards: logits_file(wildcards.classifier),
    output:
        checkpoint=f"{TRAINED}classifiers/{{classifier}}/checkpoint.pt",
        history=f"{TRAINED}classifiers/{{classifier}}/history.csv",
        accuracy=f"{TRAINED}classifiers/{{classifier}}/accuracy.csv",
    log:
        f"{TRAINED}logs/classifiers/{{classifier}}.log",
    conda:
        "../../envs/torch.yaml"
    threads: config["compute"]["threads"]
    resources:
        gpu=GPU,
        mem_mb=memory("classifier"),
        runtime=minutes("classifier"),
    params:
        classifier=lambda wildcards: settings_without_files(wildcards.classifier),
        splits=SPLITS,
        seed=seed_of,
        code=lambda wildcards: {
            **code_of_network("classifier.py", config["classifiers"][wildcards.classifier]["architecture"]),
            **digests(weights_file(wildcards.classifier)),
            **digests(logits_file(wildcards.classifier)),
        },
    script:
        "../scripts/classifier.py"
