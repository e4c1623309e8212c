rule denoiser:
    input:
        data=lambda wildcards: images_to_train_on(wildcards)[:1],
        adversarial=lambda wildcards: images_to_train_on(wildcards)[1:],
    output:
        checkpoint=f"{TRAINED}denoisers/{{denoiser}}/checkpoint.pt",
        history=f"{TRAINED}denoisers/{{denoiser}}/history.csv",
    log:
        f"{TRAINED}logs/denoisers/{{denoiser}}.log",
    wildcard_constraints:
        denoiser=one_of(name for name in DENOISERS if name not in GUIDED),
    conda:
        "../../envs/torch.yaml"
    threads: config["compute"]["threads"]
    resources:
        gpu=GPU,
        mem_mb=memory("denoiser"),
        runtime=minutes("denoiser"),
    params:
        denoiser=lambda wildcards: config["denoisers"][wildcards.denoiser],
        seed=seed_of,
        code=lambda wildcards: code_of_network("denoiser.py", config["denoisers"][wildcards.denoiser]["architecture"]),
    script:
        "../scripts/denoiser.py"


rule guided_denoiser:
    input:
        data=lambda wildcards: images_to_train_on(wildcards)[:1],
        adversarial=lambda wildcards: images_to_train_on(wildcards)[1:],
        guide=lambda wildcards: (
            f"{folder(wildcards)}classifiers/{config['denoisers'][wildcards.denoiser]['guide']}/checkpoint.pt"
        ),
    output:
        checkpoint=f"{TRAINED}denoisers/{{denoiser}}/checkpoint.pt",
        history=f"{TRAINED}denoisers/{{denoiser}}/history.csv",
    log:
        f"{TRAINED}logs/denoisers/{{denoiser}}.log",
    wildcard_constraints:
        denoiser=one_of(GUIDED),
    conda:
        "../../envs/torch.yaml"
    threads: config["compute"]["threads"]
    resources:
        gpu=GPU,
        mem_mb=memory("guided_denoiser"),
        runtime=minutes("guided_denoiser"),
    params:
        denoiser=lambda wildcards: config["denoisers"][wildcards.denoiser],
        seed=seed_of,
        code=lambda wildcards: code_of_network(
            "guided_denoiser.py", config["denoisers"][wildcards.denoiser]["architecture"]
        ),
    script:
        "../scripts/guided_denoiser.py"


PARAMS_OF_DENOISED = {"code": code("denoised.py")}

if IMAGES_PER_SHARD:

    rule denoised_shard:
        input:
            adversarial=f"{TRAINED}adversarial/{{adversarial_set}}/{{split}}.h5",
            denoiser=f"{TRAINED}denoisers/{{denoiser}}/checkpoint.pt",
        output:
            temp(f"{TRAINED}shards/denoised/{{denoiser}}/{{adversarial_set}}/{{split}}/{SHARD}.h5"),
        log:
            f"{TRAINED}logs/shards/denoised/{{denoiser}}/{{adversarial_set}}/{{split}}/{SHARD}.log",
        conda:
            "../../envs/torch.yaml"
        threads: config["compute"]["threads"]
        resources:
            gpu=GPU,
            mem_mb=memory("denoised_shard"),
            runtime=minutes("denoised_shard"),
        params:
            **PARAMS_OF_DENOISED,
            rows=rows_of_shard,
        script:
            "../scripts/denoised.py"

    # With log and environment of the rule below, as for adversarial sets.
    rule join_denoised:
        input:
            **{f"adversarial_{split}": f"{TRAINED}adversarial/{{adversarial_set}}/{split}.h5" for split in SPLITS},
            **{split: partial(shards_of_denoised, split) for split in SPLITS},
        output:
            **{split: f"{TRAINED}denoised/{{denoiser}}/{{adversarial_set}}/{split}.h5" for split in SPLITS},
        log:
            f"{TRAINED}logs/denoised/{{denoiser}}/{{adversarial_set}}.log",
        priority: 1
        conda:
            "../../envs/torch.yaml"
        threads: 1
        resources:
            mem_mb=memory("join_denoised"),
            runtime=minutes("join_denoised"),
        params:
            **PARAMS_OF_DENOISED,
        script:
            "../scripts/join_denoised.py"

else:

    # Both splits in one job: to start one takes longer than to denoise a small split.
    rule denoised:
        input:
            **{split: f"{TRAINED}adversarial/{{adversarial_set}}/{split}.h5" for split in SPLITS},
            denoiser=f"{TRAINED}denoisers/{{denoiser}}/checkpoint.pt",
        output:
            **{split: f"{TRAINED}denoised/{{denoiser}}/{{adversarial_set}}/{split}.h5" for split in SPLITS},
        log:
            f"{TRAINED}logs/denoised/{{denoiser}}/{{adversarial_set}}.log",
        conda:
            "../../envs/torch.yaml"
        threads: config["compute"]["threads"]
        resources:
            gpu=GPU,
            mem_mb=memory("denoised"),
            runtime=minutes("denoised"),
        params:
            **PARAMS_OF_DENOISED,
        script:
            "../scripts/denoised.py"
