import copy
from pathlib import Path

import pytest

from benchmarks import scale
from benchmarks.inputs import load_config
from benchmarks.scale import BATCH_FLOPS, FLOAT32_FLOPS, LEAST_BATCH, shares, table, within_patience
from benchmarks.throughput import CONFIG, Rates, projected_hours
from perturbflow.planning.costs import CLASSIFIERS, DENOISERS

IMAGES = {"train": 100_000, "val": 10_000}
NAMES = ("training", "forward", "gradient", "distances", "denoiser_training", "guide", "denoising", "through")


@pytest.fixture(scope="module")
def papers():
    return load_config(CONFIG)


@pytest.fixture(scope="module")
def hundred(papers):
    """Rates of a hundred images a second, whatever is done."""
    everything = dict.fromkeys([*papers["classifiers"], *papers["denoisers"]], 100.0)
    taps = dict.fromkeys(papers["classifiers"], 8)
    return Rates(**dict.fromkeys(NAMES, everything), control=100.0, errors=100.0, taps=taps)


def test_jobs_and_files_of_the_papers_study(papers):
    found = shares(papers, IMAGES)

    image = 64 * 64 * 3
    assert found["data"].file_bytes == 110_000 * image
    # Twelve sets, two of them of noise; each behind four denoisers, both splits in a job.
    assert found["adversarial"].n_jobs == 10
    assert found["adversarial"].file_bytes == 4 * 10 * 110_000 * image
    assert found["control"].file_bytes == 4 * 2 * 110_000 * image
    assert found["denoised"].n_jobs == 4 * 12
    assert found["denoised"].file_bytes == 4 * 4 * 12 * 110_000 * image
    assert found["measure"].n_jobs == (7 + 1) * 12  # and the classifier of Table 1


def test_replicates_take_all_but_the_data_again(papers):
    once, thrice = (shares(papers | {"replicates": numbers}, IMAGES) for numbers in ([0], [0, 1, 2]))
    assert thrice["data"] == once["data"]
    for rule in once.keys() - {"data"}:
        assert thrice[rule].n_jobs == 3 * once[rule].n_jobs
        assert thrice[rule].flops == pytest.approx(3 * once[rule].flops)
        assert thrice[rule].file_bytes == 3 * once[rule].file_bytes
        assert thrice[rule].memory == once[rule].memory


def test_operations_are_those_of_the_passes(papers):
    found = shares(papers, IMAGES)

    # Each denoiser passes all images of the twelve sets once, forward; three are U-Nets.
    gflop = 3 * DENOISERS["unet"].gflop + DENOISERS["fusionnet_original"].gflop
    assert found["denoised"].flops == pytest.approx(12 * 110_000 * gflop * 1e9)
    assert found["denoised"].gpu_seconds == pytest.approx(found["denoised"].flops / FLOAT32_FLOPS)


def test_shards_are_jobs_of_their_own_that_need_less_memory(papers):
    cut = copy.deepcopy(papers)
    cut["compute"]["images_per_shard"] = 25_600

    whole, in_shards = shares(papers, IMAGES)["adversarial"], shares(cut, IMAGES)
    assert in_shards["adversarial"].n_jobs == 10 * (4 + 1)
    assert in_shards["join_adversarial"].n_jobs == 10
    assert in_shards["denoised"].n_jobs == 4 * 12 * (4 + 1)
    assert in_shards["adversarial"].flops == whole.flops
    assert in_shards["adversarial"].file_bytes == whole.file_bytes
    # Of a split, 8-bit, what a job holds is the fewer images.
    assert whole.memory - in_shards["adversarial"].memory == pytest.approx((100_000 - 25_600) * 64 * 64 * 3)


def test_hours_are_those_of_the_projection(papers, hundred):
    found = shares(papers, IMAGES, hundred)

    hours = projected_hours(papers, hundred)
    assert {rule: found[rule].seconds / 3600 for rule in hours} == pytest.approx(hours)


def test_the_table_has_a_row_a_rule_and_their_sum(papers, hundred):
    found = shares(papers, IMAGES)

    lines = table(found).splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert [row[0] for row in cells[2:]] == [*found, "all"]
    assert cells[-1][1] == str(sum(share.n_jobs for share in found.values()))
    assert "hours here" not in cells[0]
    assert "hours here" in table(shares(papers, IMAGES, hundred))


def copied(settings, batch_size):
    return {**settings, "training": {**settings["training"], "batch_size": batch_size}}


def test_on_a_cpu_batches_are_as_configured_or_as_large_as_is_quickly_measured(papers):
    """A small network's rate depends on its batch, and shows in no single pass."""
    small, large = (
        load_config(Path(scale.__file__).with_name("scale_point.yaml")),
        load_config(CONFIG.with_name("imagenet.yaml")),
    )
    config, size = within_patience(small)
    assert config == small and size.images == small["compute"]["batch_size"] and size.rounds > 5

    config, size = within_patience(large)
    assert size.rounds == 1
    for name, settings in config["classifiers"].items():
        configured, at_once = (one["training"]["batch_size"] for one in (large["classifiers"][name], settings))
        gflop = CLASSIFIERS[name].scaled((224 / 128) ** 2, 1).gflop
        assert at_once == LEAST_BATCH or LEAST_BATCH < at_once <= min(configured, BATCH_FLOPS / (gflop * 1e9))
        assert settings == copied(large["classifiers"][name], at_once)
    assert within_patience(papers)[0]["classifiers"]["resnet18"] == papers["classifiers"]["resnet18"]


def test_checkpoints_are_as_large_as_their_weights(papers):
    parameters = sum(CLASSIFIERS[settings["architecture"]].parameters for settings in papers["classifiers"].values())
    assert shares(papers, IMAGES)["classifier"].file_bytes == pytest.approx(4e6 * parameters)
