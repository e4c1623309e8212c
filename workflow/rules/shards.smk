# Large sets are cut into shards where the config says so: a job each, and one that joins them.
from functools import cache, partial

from perturbflow.planning.image_counts import count_images
from perturbflow.planning.shards import digest_of, rows_of_shards

IMAGES_PER_SHARD = config["compute"]["images_per_shard"]

# The name of a shard: its first and last row in the data, and a digest of what it is made with.
SHARD = "{first}-{last}.{digest}"


wildcard_constraints:
    first=r"\d+",
    last=r"\d+",
    digest="[0-9a-f]{12}",


@cache
def number_of_images(split):
    """Images of a split, also where the data are still to be made."""
    # In a job's own process data that are there are those of the run.
    fingerprint = fingerprint_of_source() if workflow.is_main_process else None
    return count_images(rules.data.output.get(split), fingerprint, config["data"], config["seed"], split)


def shards(of, split, params, wildcards):
    """The files that a split of a set is joined from, in order; params: of the rule that makes them."""
    digest = digest_of([value(wildcards) if callable(value) else value for value in params.values()])
    names = [
        SHARD.format(first=rows[0], last=rows[-1], digest=digest)
        for rows in rows_of_shards(number_of_images(split), IMAGES_PER_SHARD)
    ]
    return [f"{folder(wildcards)}shards/{of}/{split}/{name}.h5" for name in names]


def shards_of_adversarial(split, wildcards):
    """The shards of a split of an adversarial set."""
    return shards(f"adversarial/{wildcards.adversarial_set}", split, PARAMS_OF_SET, wildcards)


def shards_of_denoised(split, wildcards):
    """The shards of a split of a denoised set."""
    of = f"denoised/{wildcards.denoiser}/{wildcards.adversarial_set}"
    return shards(of, split, PARAMS_OF_DENOISED, wildcards)


def rows_of_shard(wildcards):
    """The rows of the data that a shard has."""
    return range(int(wildcards.first), int(wildcards.last) + 1)
