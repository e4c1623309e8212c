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
        mem_mb=16000,
        runtime=5760,
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
        mem_mb=16000,
        runtime=5760,
    params:
        denoiser=lambda wildcards: config["denoisers"][wildcards.denoiser],
        seed=config["seed"],
        code=lambda wildcards: code_of_network(
            "guided_denoiser.py", config["denoisers"][wildcards.denoiser]["architecture"]
        ),
    script:
        "../scripts/guided_denoiser.py"


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
        f"{RESULTS}/logs/denoised/{{denoiser}}_{{adversarial_set}}.log",
    conda:
        "../../envs/torch.yaml"
    threads: config["compute"]["threads"]
    resources:
        gpu=GPU,
        mem_mb=8000,
        runtime=120,
    params:
        code=code("denoised.py"),
    script:
        "../scripts/denoised.py"
