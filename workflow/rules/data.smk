rule data:
    output:
        **{split: f"{RESULTS}/data/{split}.h5" for split in SPLITS},
        left_out=f"{RESULTS}/data/left_out.csv",
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
        # A function: other jobs need no look at the source.
        source_fingerprint=lambda wildcards: fingerprint_of_source(),
    script:
        "../scripts/data.py"
