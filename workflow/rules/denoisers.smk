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
