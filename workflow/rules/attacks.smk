# What a set is made with, whole or in shards: none is stale because it would be cut otherwise today.
PARAMS_OF_SET = {
    "adversarial_set": lambda wildcards: config["adversarial_sets"][wildcards.adversarial_set],
    "seed": seed_of,
    "batch_size": lambda wildcards: batch_size_of_set(wildcards.adversarial_set),
    "script": lambda wildcards: script_of_set(wildcards.adversarial_set),
    "code": lambda wildcards: code(script_of_set(wildcards.adversarial_set)),
}
NETWORKS_OF_SET = {
    "attacker": lambda wildcards: checkpoint_of_role(wildcards, "attacker"),
    "stopping_classifier": lambda wildcards: checkpoint_of_role(wildcards, "stopping_classifier"),
    "denoiser": lambda wildcards: checkpoint_of_denoiser(wildcards),
}

if IMAGES_PER_SHARD:

    rule adversarial_shard:
        input:
            **NETWORKS_OF_SET,
            data=f"{RESULTS}/data/{{split}}.h5",
        output:
            temp(f"{TRAINED}shards/adversarial/{{adversarial_set}}/{{split}}/{SHARD}.h5"),
        log:
            f"{TRAINED}logs/shards/adversarial/{{adversarial_set}}/{{split}}/{SHARD}.log",
        wildcard_constraints:
            adversarial_set=one_of(ATTACKED),
        conda:
            "../../envs/torch.yaml"
        threads: config["compute"]["threads"]
        resources:
            gpu=GPU,
            mem_mb=memory("adversarial_shard"),
            runtime=minutes("adversarial_shard"),
        params:
            **PARAMS_OF_SET,
            rows=rows_of_shard,
        script:
            "../scripts/{params.script}"

    # It has log and environment of the rule that makes the set in one job: a job of the one waits for a job of the
    # other, and the set is not stale for another environment.
    rule join_adversarial:
        input:
            **{f"data_{split}": f"{RESULTS}/data/{split}.h5" for split in SPLITS},
            **{split: partial(shards_of_adversarial, split) for split in SPLITS},
        output:
            **{split: f"{TRAINED}adversarial/{{adversarial_set}}/{split}.h5" for split in SPLITS},
        log:
            f"{TRAINED}logs/adversarial/{{adversarial_set}}.log",
        wildcard_constraints:
            adversarial_set=one_of(ATTACKED),
        priority: 1
        conda:
            "../../envs/torch.yaml"
        threads: 1
        resources:
            mem_mb=memory("join_adversarial"),
            runtime=minutes("join_adversarial"),
        params:
            **PARAMS_OF_SET,
        script:
            "../scripts/join_adversarial.py"

else:

    # Both splits in one job: to start one takes longer than to attack a small split.
    rule adversarial:
        input:
            **NETWORKS_OF_SET,
            **{split: f"{RESULTS}/data/{split}.h5" for split in SPLITS},
        output:
            **{split: f"{TRAINED}adversarial/{{adversarial_set}}/{split}.h5" for split in SPLITS},
        log:
            f"{TRAINED}logs/adversarial/{{adversarial_set}}.log",
        wildcard_constraints:
            adversarial_set=one_of(ATTACKED),
        conda:
            "../../envs/torch.yaml"
        threads: config["compute"]["threads"]
        resources:
            gpu=GPU,
            mem_mb=memory("adversarial"),
            runtime=minutes("adversarial"),
        params:
            **PARAMS_OF_SET,
        script:
            "../scripts/{params.script}"


rule control:
    input:
        **{split: f"{RESULTS}/data/{split}.h5" for split in SPLITS},
        **{f"adversarial_{split}": partial(set_of_norm, split) for split in SPLITS},
    output:
        **{split: f"{TRAINED}adversarial/{{adversarial_set}}/{split}.h5" for split in SPLITS},
    log:
        f"{TRAINED}logs/control/{{adversarial_set}}.log",
    wildcard_constraints:
        adversarial_set=one_of(NOISE),
    conda:
        "../../envs/figures.yaml"
    threads: 1
    resources:
        mem_mb=memory("control"),
        runtime=minutes("control"),
    params:
        adversarial_set=lambda wildcards: config["adversarial_sets"][wildcards.adversarial_set],
        seed=seed_of,
        code=code("control.py"),
    script:
        "../scripts/control.py"
