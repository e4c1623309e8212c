from functools import cache
from pathlib import Path

from perturbflow.data.fingerprint import source_fingerprint

DATA_FILES = {split: f"{RESULTS}/data/{split}.h5" for split in SPLITS}


@cache
def fingerprint_of_source():
    """What the data are made from, see perturbflow/data/fingerprint.py; where pictures have moved it reads them."""
    files = {split: Path(rules.data.output.get(split)) for split in SPLITS}  # with the prefix that a module may have
    return source_fingerprint(config["data"], config["seed"], code("data.py"), files)


rule data:
    output:
        **DATA_FILES,
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
