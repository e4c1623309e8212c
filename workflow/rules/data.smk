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
        mem_mb=memory("data"),
        runtime=minutes("data"),
    params:
        data=data_slice(config["data"]),
        seed=config["seed"],
        code=code("data.py"),
    script:
        "../scripts/data.py"
