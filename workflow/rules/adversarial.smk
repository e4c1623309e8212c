rule adversarial:
    input:
        data=f"{RESULTS}/data/{{split}}.h5",
        attacker=lambda wildcards: checkpoint_of_role(wildcards.adversarial_set, "attacker"),
        stopping_classifier=lambda wildcards: checkpoint_of_role(wildcards.adversarial_set, "stopping_classifier"),
    output:
        f"{RESULTS}/adversarial/{{adversarial_set}}/{{split}}.h5",
    log:
        f"{RESULTS}/logs/adversarial/{{adversarial_set}}_{{split}}.log",
    conda:
        "../../envs/torch.yaml"
    threads: config["compute"]["threads"]
    resources:
        gpu=GPU,
        mem_mb=12000,
        runtime=720,
    params:
        adversarial_set=lambda wildcards: config["adversarial_sets"][wildcards.adversarial_set],
        code=code("adversarial.py"),
    script:
        "../scripts/adversarial.py"
