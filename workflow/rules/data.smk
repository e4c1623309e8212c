rule data:
    output:
        train=f"{RESULTS}/data/train.h5",
        val=f"{RESULTS}/data/val.h5",
    log:
        f"{RESULTS}/logs/data.log",
    conda:
        "../../envs/torch.yaml"
    threads: 8
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        data=data_slice(),
        seed=config["seed"],
        code=code("data.py"),
    script:
        "../scripts/data.py"
