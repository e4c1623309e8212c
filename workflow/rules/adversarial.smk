rule adversarial:
    input:
        data=f"{RESULTS}/data/{{split}}.h5",
        attacker=lambda wildcards: checkpoint_of_role(wildcards.adversarial_set, "attacker"),
        stopping_classifier=lambda wildcards: checkpoint_of_role(wildcards.adversarial_set, "stopping_classifier"),
        denoiser=lambda wildcards: checkpoint_of_denoiser(wildcards.adversarial_set),
    output:
        f"{RESULTS}/adversarial/{{adversarial_set}}/{{split}}.h5",
    log:
        f"{RESULTS}/logs/adversarial/{{adversarial_set}}_{{split}}.log",
    wildcard_constraints:
        adversarial_set=one_of(ATTACKED),
    conda:
        "../../envs/torch.yaml"
    threads: config["compute"]["threads"]
    resources:
        gpu=GPU,
        mem_mb=12000,
        runtime=720,
    params:
        adversarial_set=lambda wildcards: config["adversarial_sets"][wildcards.adversarial_set],
        seed=config["seed"],
        script=lambda wildcards: script_of_set(wildcards.adversarial_set),
        code=lambda wildcards: code(script_of_set(wildcards.adversarial_set)),
    script:
        "../scripts/{params.script}"


rule control:
    input:
        data=f"{RESULTS}/data/{{split}}.h5",
        adversarial=lambda wildcards: set_of_norm(wildcards.adversarial_set, wildcards.split),
    output:
        f"{RESULTS}/adversarial/{{adversarial_set}}/{{split}}.h5",
    log:
        f"{RESULTS}/logs/control/{{adversarial_set}}_{{split}}.log",
    wildcard_constraints:
        adversarial_set=one_of(NOISE),
    conda:
        "../../envs/figures.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=60,
    params:
        adversarial_set=lambda wildcards: config["adversarial_sets"][wildcards.adversarial_set],
        seed=config["seed"],
        code=code("control.py"),
    script:
        "../scripts/control.py"
