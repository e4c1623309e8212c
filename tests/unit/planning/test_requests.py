import copy
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from perturbflow.classifiers.building import build_classifier
from perturbflow.denoisers.networks import DENOISERS, build_denoiser
from perturbflow.files.images import DataSplit, image_writer
from perturbflow.machine import devices
from perturbflow.planning import costs, requests
from perturbflow.planning.costs import NetworkCosts, classifier_costs, denoiser_costs
from perturbflow.planning.image_counts import source_images, stored_images
from perturbflow.planning.passes import attack_passes, jobs, passes
from perturbflow.planning.requests import LEAST_MINUTES, Job, job_of
from tests.inputs import load_config, write_split

ROOT = Path(__file__).parents[3]
COUNTS = {"train": 100_000, "val": 10_000}
ON_DISK = {"train": 48, "val": 16}


@pytest.fixture(scope="module")
def papers() -> dict[str, Any]:
    return load_config(ROOT / "config/config.yaml")


def changed(config: dict[str, Any], **compute: Any) -> dict[str, Any]:
    config = copy.deepcopy(config)
    config["compute"] |= compute
    return config


def classifier(papers: dict[str, Any], name: str, **settings: Any) -> dict[str, Any]:
    return {**papers["classifiers"][name], **settings}


# ------------------------------------------------------------------------------------------------ tables and networks


class LiveBytes(TorchDispatchMode):
    """The most that tensors made under it take at once."""

    def __init__(self) -> None:
        super().__init__()
        self.now, self.most = 0, 0
        self.seen: set[int] = set()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor) and (key := tensor.untyped_storage()._cdata) not in self.seen:
                self.seen.add(key)
                self.now += (n_bytes := tensor.untyped_storage().nbytes())
                self.most = max(self.most, self.now)
                weakref.finalize(tensor.untyped_storage(), self._forget, key, n_bytes)
        return out

    def _forget(self, key: int, n_bytes: int) -> None:
        self.seen.discard(key)
        self.now -= n_bytes


def measured_costs(network: nn.Module, size: int) -> NetworkCosts:
    """What an image costs a network on the meta device, where nothing is computed; a value is four bytes."""
    n_images = 2  # batch normalisation takes no single one
    images = torch.empty(n_images, 3, size, size, device="meta")
    own = {tensor.untyped_storage()._cdata for tensor in network.state_dict(keep_vars=True).values()}
    saved = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            saved[storage._cdata] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        network.train()(images)
    n_saved = sum(storage.nbytes() for storage in saved.values())
    with torch.no_grad(), LiveBytes() as live, FlopCounterMode(display=False) as counter:
        network.eval()(images)
    return NetworkCosts(
        taps=len(getattr(network, "taps", ())),
        parameters=sum(parameter.numel() for parameter in network.parameters()) / 1e6,
        gflop=counter.get_total_flops() / n_images / 1e9,
        saved=n_saved / 4 / n_images / 1e6,
        live=live.most / 4 / n_images / 1e6,
    )


def compare(table: NetworkCosts, real: NetworkCosts) -> None:
    assert table.taps == real.taps
    assert table.parameters == pytest.approx(real.parameters, rel=0.02)
    assert table.gflop == pytest.approx(real.gflop, rel=0.02)
    assert table.saved == pytest.approx(real.saved, rel=0.05)
    assert table.live == pytest.approx(real.live, rel=0.05)


@pytest.mark.parametrize("name", costs.CLASSIFIERS)
def test_the_table_of_classifiers_holds(name: str) -> None:
    with torch.device("meta"):
        network = build_classifier(name, 200, costs.CLASSIFIERS_INPUT_SIZE)
    compare(costs.CLASSIFIERS[name], measured_costs(network, costs.CLASSIFIERS_INPUT_SIZE))


@pytest.mark.parametrize("name", DENOISERS)
def test_the_table_of_denoisers_holds(name: str) -> None:
    with torch.device("meta"):
        network = build_denoiser(name, costs.DENOISERS_WIDTH)
    compare(costs.DENOISERS[name], measured_costs(network, costs.DENOISERS_IMAGE_SIZE))


@pytest.mark.parametrize(
    ("name", "size", "width"), [("resnet18", 224, 0.5), ("vgg19", 224, 1.0), ("inception_resnet_v2", 224, 1.0)]
)
def test_costs_follow_input_size_and_width_within_a_third(
    papers: dict[str, Any], name: str, size: int, width: float
) -> None:
    options = {} if width == 1 else {"width": width}
    with torch.device("meta"):
        real = measured_costs(build_classifier(name, 200, size, options=options), size)
    estimate = classifier_costs(classifier(papers, name, input_size=size, options=options))
    assert estimate.gflop == pytest.approx(real.gflop, rel=1 / 3)
    assert estimate.parameters == pytest.approx(real.parameters, rel=1 / 3)
    assert estimate.saved == pytest.approx(real.saved, rel=1 / 3)


def test_a_denoisers_costs_follow_its_width(papers: dict[str, Any]) -> None:
    with torch.device("meta"):
        real = measured_costs(build_denoiser("unet", 32), 32)
    estimate = denoiser_costs({**papers["denoisers"]["unet"], "width": 32}, 32)
    assert estimate.gflop == pytest.approx(real.gflop, rel=0.1)
    assert estimate.saved == pytest.approx(real.saved, rel=0.1)


@pytest.mark.parametrize("architecture", ["convnext_tiny", "torchvision.models:resnet50"])
def test_an_unknown_network_is_as_costly_as_the_costliest(papers: dict[str, Any], architecture: str) -> None:
    # Its options are its own affair.
    estimate = classifier_costs(classifier(papers, "resnet18", architecture=architecture, options={"width": 0.1}))
    assert estimate == NetworkCosts(14, 140.39, 17.563, 31.124, 2.509)
    unknown = {**papers["denoisers"]["unet"], "architecture": "mine:Denoiser", "width": 1}
    assert denoiser_costs(unknown, 64) == NetworkCosts(0, 78.52, 13.316, 12.865, 2.110)


def test_the_taps_of_the_config_count(papers: dict[str, Any]) -> None:
    assert classifier_costs(classifier(papers, "vgg19", taps=["features.4", "head.fc"])).taps == 2


def test_the_snakefile_does_not_import_torch() -> None:
    program = "import sys, perturbflow.planning.requests; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT).returncode == 0


# ------------------------------------------------------------------------------------------------ numbers of images


def test_the_jobs_of_the_papers_study(papers: dict[str, Any]) -> None:
    found = list(jobs(papers))
    counts = {rule: sum(1 for other, _ in found if other == rule) for rule, _ in found}
    assert counts == {
        "classifier": 9,
        "adversarial": 10,
        "control": 2,
        "denoiser": 2,
        "guided_denoiser": 2,
        "denoised": 48,
        "measure": 96,
        "intervene": 7,
        "mean_squared_error": 12,
    }


def test_images_of_a_source(papers: dict[str, Any]) -> None:
    assert source_images(papers["data"]) == COUNTS
    data = {**papers["data"], "classes": 10, "images_per_class": {"train": 20, "val": None}}
    assert source_images(data) == {"train": 200, "val": 500}
    digits = {**papers["data"], "source": "digits", "classes": 2, "images_per_class": {"train": 24, "val": 8}}
    assert source_images(digits) == {"train": 48, "val": 16}


def test_images_of_a_folder_are_estimated_from_a_few_classes(papers: dict[str, Any], tmp_path: Path) -> None:
    for split, n_images in {"train": 3, "val": 1}.items():
        for number in range(25):
            folder = tmp_path / split / f"class{number:02}"
            folder.mkdir(parents=True)
            for image in range(n_images):
                (folder / f"{image}.png").touch()
    data = {**papers["data"], "source": "image-folder", "path": str(tmp_path)}
    assert source_images(data) == {"train": 75, "val": 25}
    assert source_images({**data, "classes": 5, "images_per_class": {"train": 2, "val": None}}) == {
        "train": 10,
        "val": 5,
    }
    assert source_images({**data, "path": str(tmp_path / "nowhere")}) == {"train": 0, "val": 0}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """Data and an adversarial set of 64 px."""
    folder = tmp_path_factory.mktemp("files")
    found: dict[str, dict[str, str]] = {"data": {}, "adversarial": {}}
    for split, n_images in ON_DISK.items():
        images = np.zeros((n_images, 64, 64, 3), np.uint8)
        found["data"][split] = str(folder / f"{split}.h5")
        write_split(
            found["data"][split],
            DataSplit(images, np.zeros(n_images, np.int64), [f"{split}/{row}.png" for row in range(n_images)], ["a"]),
            {},
        )
        found["adversarial"][split] = str(folder / f"adversarial_{split}.h5")
        with image_writer(found["adversarial"][split], n_images, images.shape[1:], "float32", {}) as file:
            file["images"][:] = images
            file["index"] = np.arange(n_images)
    return found


def test_the_size_of_a_file_tells_its_images(files: dict[str, dict[str, str]]) -> None:
    for split, n_images in ON_DISK.items():
        assert n_images <= stored_images(files["data"][split], 64, 1) <= 1.05 * n_images + 1
        assert n_images <= stored_images(files["adversarial"][split], 64, 4) <= 1.05 * n_images + 1


def inputs_of(rule: str, files: dict[str, dict[str, str]]) -> tuple[dict[str, str], Any]:
    """Wildcards and inputs of a job, as the rule files name them."""
    data, sets = files["data"], files["adversarial"]
    of_set = {"adversarial_set": "fgsm_v2"}
    match rule:
        case "classifier":
            return {"classifier": "vgg19"}, {"data": list(data.values())}
        case "adversarial":
            return of_set, data
        case "control":
            return {"adversarial_set": "fgsm_v2_sign"}, data
        case "denoiser":
            return {"denoiser": "unet"}, {"data": [data["train"]]}
        case "guided_denoiser":
            return {"denoiser": "lgd"}, {"data": [data["train"]]}
        case "denoised":
            return {"denoiser": "unet", **of_set}, sets
        case "measure":
            return {"classifier": "vgg19", **of_set}, {"images": [*sets.values(), "denoised.h5"]}
        case "intervene":
            return {"classifier": "vgg19", **of_set}, {"data": data["train"]}
    return of_set, {"data": list(data.values())}


COUNTED = {
    "classifier": ["train", "val"],
    "adversarial": ["train", "val"],
    "control": ["train", "val"],
    "denoiser": ["train"],
    "guided_denoiser": ["train"],
    "denoised": ["train", "val"],
    "measure": ["train", "val"],
    "intervene": ["train"],
    "mean_squared_error": ["train", "val"],
}


@pytest.mark.parametrize("rule", COUNTED)
def test_a_job_counts_the_images_of_its_inputs(
    papers: dict[str, Any], files: dict[str, dict[str, str]], rule: str
) -> None:
    wildcards, inputs = inputs_of(rule, files)
    job = job_of(rule, wildcards, papers, inputs)
    assert [*job.images] == COUNTED[rule]
    assert all(ON_DISK[split] <= count <= 1.05 * ON_DISK[split] + 1 for split, count in job.images.items())
    assert job.minutes(1, 4) >= LEAST_MINUTES
    assert job.memory_mb(1) >= 1000


def test_a_missing_input_is_named_as_snakemake_names_it(papers: dict[str, Any], tmp_path: Path) -> None:
    missing = str(tmp_path / "results/train.h5")
    with pytest.raises(FileNotFoundError) as error:
        job_of("denoiser", {"denoiser": "unet"}, papers, {"data": [missing]})
    assert error.value.filename == missing
    with pytest.raises(FileNotFoundError) as error:
        job_of("table", {}, papers, [missing])
    assert error.value.filename == missing


def test_a_shard_has_the_images_that_its_name_says(papers: dict[str, Any], files: dict[str, dict[str, str]]) -> None:
    wildcards = {"adversarial_set": "fgsm_v2", "split": "train", "first": "512", "last": "1023", "digest": "0" * 12}
    shard = job_of("adversarial_shard", wildcards, papers, [files["data"]["train"]])
    assert sum(shard.images.values()) == 512
    whole = Job("adversarial", {"adversarial_set": "fgsm_v2"}, papers, COUNTS)
    assert shard.seconds(4) < whole.seconds(4) / 50
    assert shard.memory_mb(1) < whole.memory_mb(1)


def test_joining_and_tables_follow_the_size_of_their_files(papers: dict[str, Any]) -> None:
    small, large = (Job("join_adversarial", {}, papers, {}, size) for size in (10**6, 10**12))
    assert small.memory_mb(1) == large.memory_mb(1)
    assert small.minutes(1, 1) < large.minutes(1, 1)
    small, large = (Job("table", {}, papers, {}, size) for size in (10**6, 10**9))
    assert small.memory_mb(1) + 10_000 < large.memory_mb(1)


# ------------------------------------------------------------------------------------------------ what is asked for


def job(config: dict[str, Any], rule: str, images: dict[str, int] | None = None, **wildcards: str) -> Job:
    return Job(rule, wildcards, config, images or COUNTS)


def test_time_grows_with_the_work_and_with_each_attempt(papers: dict[str, Any]) -> None:
    def minutes(name: str, attempt: int = 1, images: dict[str, int] | None = None) -> int:
        return job(papers, "adversarial", images, adversarial_set=name).minutes(attempt, 4)

    assert minutes("fgsm_v1") < minutes("fgsm_v2") < minutes("fgsm_v2_adaptive")
    assert minutes("fgsm_v2", 2) == pytest.approx(2 * minutes("fgsm_v2"), abs=1)
    assert minutes("fgsm_v2", images={"train": 10}) == LEAST_MINUTES


def test_a_set_takes_the_time_of_both_splits_and_the_memory_of_the_larger_one(papers: dict[str, Any]) -> None:
    sizes = [COUNTS, {"train": COUNTS["train"]}, {"val": COUNTS["val"]}]
    both, train, val = (job(papers, "adversarial", images, adversarial_set="fgsm_v2") for images in sizes)
    assert both.seconds(4) == pytest.approx(train.seconds(4) + val.seconds(4) - requests.START_SECONDS)
    assert both.megabytes() == train.megabytes() > val.megabytes()


def test_no_job_asks_for_more_than_the_longest(papers: dict[str, Any]) -> None:
    training = job(papers, "classifier", classifier="senet154")
    assert training.seconds(4) > 24 * 3600
    assert training.minutes(1, 4) == training.minutes(3, 4) == 24 * 60
    assert job(changed(papers, longest_job_hours=0.05), "classifier", classifier="senet154").minutes(1, 4) == 3


def test_an_attack_of_foolbox_asks_for_the_longest(papers: dict[str, Any]) -> None:
    config = copy.deepcopy(papers)
    config["adversarial_sets"]["pgd"] = {
        "attack": "LinfPGD",
        "attacker": "resnet18",
        "stopping_classifier": "resnet18",
        "epsilon": 2.0,
        "denoiser": None,
    }
    foolbox = job(config, "adversarial", {"train": 8}, adversarial_set="pgd")
    own = job(config, "adversarial", {"train": 8}, adversarial_set="fgsm_v1")
    assert foolbox.minutes(1, 4) == 24 * 60
    assert foolbox.memory_mb(1) == own.memory_mb(1)


def test_on_a_cpu_time_is_that_of_its_threads_and_memory_that_of_the_maps(papers: dict[str, Any]) -> None:
    on_cpu = changed(papers, device="cpu")
    images = {"train": 2000, "val": 200}
    one, four = (job(on_cpu, "denoiser", images, denoiser="unet").seconds(threads) for threads in (1, 4))
    on_gpu = job(papers, "denoiser", images, denoiser="unet")
    assert 3.5 < one / four <= 4
    assert on_gpu.seconds(1) == on_gpu.seconds(4) < four
    # Of 32 images 6.04 million values each, in float32, are kept for the way back.
    assert job(on_cpu, "denoiser", images, denoiser="unet").megabytes() > 32 * 6.04 * 4
    assert on_gpu.megabytes() < 10_000


def test_small_batches_on_a_gpu_take_as_long_as_their_kernels_are_launched(papers: dict[str, Any]) -> None:
    config = copy.deepcopy(papers)
    config["classifiers"]["resnet18"] |= {"input_size": 16, "options": {"width": 0.125}}
    training = config["classifiers"]["resnet18"]["training"]
    n_steps = COUNTS["train"] / training["batch_size"] * training["max_epochs"]
    assert job(config, "classifier", classifier="resnet18").seconds(4) > requests.PASS_SECONDS * n_steps


def test_memory_grows_with_each_attempt_up_to_three_times(papers: dict[str, Any]) -> None:
    training = job(papers, "classifier", classifier="vgg19")
    asked = [training.memory_mb(attempt) for attempt in range(1, 8)]
    assert asked == pytest.approx([asked[0] * factor for factor in (1, 1.5, 2, 2.5, 3, 3, 3)], rel=0.02)


def test_memory_grows_with_the_images_where_they_are_held(papers: dict[str, Any]) -> None:
    few, many = {"train": 1000, "val": 100}, {"train": 1_000_000, "val": 100_000}
    grows = {
        rule: job(config, rule, many, **wildcards).megabytes() - job(config, rule, few, **wildcards).megabytes() > 100
        for config, rule, wildcards in [
            (papers, "adversarial", {"adversarial_set": "fgsm_v2"}),
            (changed(papers, device="cpu"), "classifier", {"classifier": "resnet18"}),
            (papers, "denoiser", {"denoiser": "unet"}),
            (papers, "denoised", {"denoiser": "unet", "adversarial_set": "fgsm_v2"}),
            (papers, "measure", {"classifier": "vgg19", "adversarial_set": "fgsm_v2"}),
            (papers, "data", {}),
        ]
    }
    assert grows == {
        "adversarial": True,
        "classifier": True,
        "denoiser": False,
        "denoised": False,
        "measure": False,
        "data": True,
    }


def test_a_classifier_that_is_not_trained_asks_for_no_training(papers: dict[str, Any]) -> None:
    config = changed(copy.deepcopy(papers), device="cpu")
    config["classifiers"]["vgg19"]["training"]["max_epochs"] = 0
    asked, trained = (job(one, "classifier", classifier="vgg19") for one in (config, changed(papers, device="cpu")))
    assert [one.way for one in passes("classifier", {"classifier": "vgg19"}, config, COUNTS)] == ["forward"]
    assert asked.megabytes() < trained.megabytes() - 64 * 4 * costs.CLASSIFIERS["vgg19"].saved


def test_a_walk_that_is_rounded_is_judged_apart_from_its_gradients(papers: dict[str, Any]) -> None:
    settings = {**papers["adversarial_sets"]["ifgsm_v1"], "max_steps": 5, "round_to_8_bits": True}
    gradients, judged = attack_passes(settings)
    assert (gradients.n_images, judged.n_images) == (5, 6)
    shared, unneeded = attack_passes({**settings, "round_to_8_bits": False})
    assert (shared.n_images, unneeded.n_images) == (6, 0)


def test_what_is_asked_for_to_hold_images_is_what_may_be_held() -> None:
    assert requests.LARGEST_KEPT == devices.LARGEST_HELD


def test_a_guided_training_holds_guide_and_denoiser(papers: dict[str, Any]) -> None:
    on_cpu = changed(papers, device="cpu")
    guided = job(on_cpu, "guided_denoiser", denoiser="lgd").megabytes()
    guide = classifier_costs(papers["classifiers"]["inception_resnet_v2"])
    assert guided > job(on_cpu, "denoiser", denoiser="unet").megabytes() + 32 * 4 * guide.saved
