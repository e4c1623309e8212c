rule measure:
    input:
        images=lambda wildcards: files_under_conditions(wildcards, SPLITS),
        data=f"{RESULTS}/data/{config['measure']['split']}.h5",
        classifier=f"{TRAINED}classifiers/{{classifier}}/checkpoint.pt",
    output:
        accuracy=f"{TRAINED}accuracy/{{classifier}}/{{adversarial_set}}.csv",
        distances=f"{TRAINED}distances/{{classifier}}/{{adversarial_set}}.csv",
        images=f"{TRAINED}distances/{{classifier}}/{{adversarial_set}}_images.csv.gz",
        predictions=f"{TRAINED}predictions/{{classifier}}/{{adversarial_set}}.csv.gz",
    log:
        f"{TRAINED}logs/measure/{{classifier}}/{{adversarial_set}}.log",
    conda:
        "../../envs/torch.yaml"
    threads: config["compute"]["threads"]
    resources:
        gpu=GPU,
        mem_mb=memory("measure"),
        runtime=minutes("measure"),
    params:
        measure={key: config["measure"][key] for key in ("split", "images", "metrics")},
        conditions=CONDITIONS,
        splits=SPLITS,
        seed=config["seed"],
        code=code("measure.py"),
    script:
        "../scripts/measure.py"


rule intervene:
    input:
        images=lambda wildcards: files_under_conditions(wildcards, [config["measure"]["split"]]),
        data=f"{RESULTS}/data/{config['measure']['split']}.h5",
        classifier=f"{TRAINED}classifiers/{{classifier}}/checkpoint.pt",
    output:
        summary=f"{TRAINED}interventions/{{classifier}}/{{adversarial_set}}.csv",
        images=f"{TRAINED}interventions/{{classifier}}/{{adversarial_set}}_images.csv.gz",
    log:
        f"{TRAINED}logs/intervene/{{classifier}}/{{adversarial_set}}.log",
    conda:
        "../../envs/torch.yaml"
    threads: config["compute"]["threads"]
    resources:
        gpu=GPU,
        mem_mb=memory("intervene"),
        runtime=minutes("intervene"),
    params:
        interventions={key: config["interventions"][key] for key in ("images", "fractions")},
        split=config["measure"]["split"],
        conditions=CONDITIONS,
        seed=config["seed"],
        code=code("intervene.py"),
    script:
        "../scripts/intervene.py"


rule mean_squared_error:
    input:
        images=lambda wildcards: files_under_conditions(wildcards, SPLITS),
        data=expand(f"{RESULTS}/data/{{split}}.h5", split=SPLITS),
    output:
        summary=f"{TRAINED}mse/{{adversarial_set}}.csv",
        images=f"{TRAINED}mse/{{adversarial_set}}_images.csv.gz",
        attack=f"{TRAINED}adversarial/{{adversarial_set}}.csv",
    log:
        f"{TRAINED}logs/mse/{{adversarial_set}}.log",
    conda:
        "../../envs/figures.yaml"
    threads: 1
    resources:
        mem_mb=memory("mean_squared_error"),
        runtime=minutes("mean_squared_error"),
    params:
        conditions=CONDITIONS,
        splits=SPLITS,
        code=code("mean_squared_error.py"),
    script:
        "../scripts/mean_squared_error.py"
