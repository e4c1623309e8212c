rule measure:
    input:
        images=lambda wildcards: files_under_conditions(wildcards.adversarial_set, SPLITS),
        data=f"{RESULTS}/data/{config['measure']['split']}.h5",
        classifier=f"{RESULTS}/classifiers/{{classifier}}/checkpoint.pt",
    output:
        accuracy=f"{RESULTS}/accuracy/{{classifier}}/{{adversarial_set}}.csv",
        distances=f"{RESULTS}/distances/{{classifier}}/{{adversarial_set}}.csv",
        images=f"{RESULTS}/distances/{{classifier}}/{{adversarial_set}}_images.csv.gz",
        predictions=f"{RESULTS}/predictions/{{classifier}}/{{adversarial_set}}.csv.gz",
    log:
        f"{RESULTS}/logs/measure/{{classifier}}/{{adversarial_set}}.log",
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
        images=lambda wildcards: files_under_conditions(wildcards.adversarial_set, [config["measure"]["split"]]),
        data=f"{RESULTS}/data/{config['measure']['split']}.h5",
        classifier=f"{RESULTS}/classifiers/{{classifier}}/checkpoint.pt",
    output:
        summary=f"{RESULTS}/interventions/{{classifier}}/{{adversarial_set}}.csv",
        images=f"{RESULTS}/interventions/{{classifier}}/{{adversarial_set}}_images.csv.gz",
    log:
        f"{RESULTS}/logs/intervene/{{classifier}}/{{adversarial_set}}.log",
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
        images=lambda wildcards: files_under_conditions(wildcards.adversarial_set, SPLITS),
        data=expand(f"{RESULTS}/data/{{split}}.h5", split=SPLITS),
    output:
        summary=f"{RESULTS}/mse/{{adversarial_set}}.csv",
        images=f"{RESULTS}/mse/{{adversarial_set}}_images.csv.gz",
        attack=f"{RESULTS}/adversarial/{{adversarial_set}}.csv",
    log:
        f"{RESULTS}/logs/mse/{{adversarial_set}}.log",
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
