rule denoiser:
    input:
        data=f"{RESULTS}/data/train.h5",
        adversarial=lambda wildcards: [
            f"{RESULTS}/adversarial/{name}/train.h5" for name in config["denoisers"][wildcards.denoiser]["mix"]
        ],
    output:
        checkpoint=f"{RESULTS}/denoisers/{{denoiser}}/checkpoint.pt",
        history=f"{RESULTS}/denoisers/{{denoiser}}/history.csv",
    log:
        f"{RESULTS}/logs/denoisers/{{denoiser}}.log",
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
        seed=config["seed"],
        code=lambda wildcards: code_of_network("denoiser.py", config["denoisers"][wildcards.denoiser]["architecture"]),
    script:
        "../scripts/denoiser.py"


rule guided_denoiser:
    input:
        data=f"{RESULTS}/data/train.h5",
        adversarial=lambda wildcards: [
            f"{RESULTS}/adversarial/{name}/train.h5" for name in config["denoisers"][wildcards.denoiser]["mix"]
        ],
        guide=lambda wildcards: (
            f"{RESULTS}/classifiers/{config['denoisers'][wildcards.denoiser]['guide']}/checkpoint.pt"
        ),
    output:
        checkpoint=f"{RESULTS}/denoisers/{{denoiser}}/checkpoint.pt",
        history=f"{RESULTS}/denoisers/{{denoiser}}/history.csv",
    log:
        f"{RESULTS}/logs/denoisers/{{denoiser}}.log",
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
        seed=config["seed"],
        code=lambda wildcards: code_of_network(
            "guided_denoiser.py", config["denoisers"][wildcards.denoiser]["architecture"]
        ),
    script:
        "../scripts/guided_denoiser.py"


PARAMS_OF_DENOISED = {"code": code("denoised.py")}

if IMAGES_PER_SHARD:

    rule denoised_shard:
        input:
            adversarial=f"{RESULTS}/adversarial/{{adversarial_set}}/{{split}}.h5",
            denoiser=f"{RESULTS}/denoisers/{{denoiser}}/checkpoint.pt",
        output:
            temp(f"{RESULTS}/shards/denoised/{{denoiser}}/{{adversarial_set}}/{{split}}/{SHARD}.h5"),
        log:
            f"{RESULTS}/logs/shards/denoised/{{denoiser}}/{{adversarial_set}}/{{split}}/{SHARD}.log",
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
            adversarial_train=f"{RESULTS}/adversarial/{{adversarial_set}}/train.h5",
            adversarial_val=f"{RESULTS}/adversarial/{{adversarial_set}}/val.h5",
            train=lambda wildcards: shards(
                f"denoised/{wildcards.denoiser}/{wildcards.adversarial_set}", "train", PARAMS_OF_DENOISED, wildcards
            ),
            val=lambda wildcards: shards(
                f"denoised/{wildcards.denoiser}/{wildcards.adversarial_set}", "val", PARAMS_OF_DENOISED, wildcards
            ),
        output:
            train=f"{RESULTS}/denoised/{{denoiser}}/{{adversarial_set}}/train.h5",
            val=f"{RESULTS}/denoised/{{denoiser}}/{{adversarial_set}}/val.h5",
        log:
            f"{RESULTS}/logs/denoised/{{denoiser}}/{{adversarial_set}}.log",
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
            train=f"{RESULTS}/adversarial/{{adversarial_set}}/train.h5",
            val=f"{RESULTS}/adversarial/{{adversarial_set}}/val.h5",
            denoiser=f"{RESULTS}/denoisers/{{denoiser}}/checkpoint.pt",
        output:
            train=f"{RESULTS}/denoised/{{denoiser}}/{{adversarial_set}}/train.h5",
            val=f"{RESULTS}/denoised/{{denoiser}}/{{adversarial_set}}/val.h5",
        log:
            f"{RESULTS}/logs/denoised/{{denoiser}}/{{adversarial_set}}.log",
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
