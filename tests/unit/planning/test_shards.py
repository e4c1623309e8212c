"""How many images and shards there will be, and that a set in shards is the set made whole."""

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from torch import nn

from perturbflow.attacks.adversarial_set import AttackJob, attack_to_files
from perturbflow.attacks.foolbox_attack import FoolboxAttack
from perturbflow.attacks.foolbox_options import foolbox_attack
from perturbflow.attacks.gradient_sign import own_attack
from perturbflow.data.image_list import DataError
from perturbflow.data.sources import list_splits
from perturbflow.denoisers.denoised_set import denoise_to_file
from perturbflow.files.images import DataSplit, open_images, read_split
from perturbflow.files.shards import join_shards, remove_other_shards
from perturbflow.files.whole import BadFileError, sha256
from perturbflow.planning.image_counts import count_images
from perturbflow.planning.shards import digest_of, rows_of_shards
from tests.inputs import write_split

# ---- Rows


@pytest.mark.parametrize(("n_images", "per_shard"), [(1, 4), (4, 4), (5, 4), (12, 4), (3, 1)])
def test_the_rows_of_all_shards_are_all_rows(n_images, per_shard):
    shards = rows_of_shards(n_images, per_shard)
    assert [row for rows in shards for row in rows] == list(range(n_images))
    assert all(len(rows) == per_shard for rows in shards[:-1]) and 1 <= len(shards[-1]) <= per_shard


# ---- Number of images

DATA = {"source": "digits", "path": None, "classes": None, "images_per_class": {"train": None, "val": None}}


def counted(tmp_path, source_fingerprint="1a.2b", **data):
    return {
        split: count_images(tmp_path / f"{split}.h5", source_fingerprint, DATA | data, 0, split)
        for split in ("train", "val")
    }


def folder(path, n_train):
    for split, n_images in {"train": n_train, "val": 1}.items():
        for name in ("ant", "bee"):
            (path / split / name).mkdir(parents=True, exist_ok=True)
            for number in range(n_images):
                (path / split / name / f"{number}.png").touch()
    return {"source": "image-folder", "path": str(path)}


def write_data(path, n_images, attributes):
    images = np.zeros((n_images, 2, 2, 3), np.uint8)
    write_split(path, DataSplit(images, np.zeros(n_images, np.int64), [""] * n_images, ["ant"]), attributes)


def test_the_source_is_listed_before_there_are_data(tmp_path):
    assert counted(tmp_path) == {split: len(images.ids) for split, images in list_splits(DATA, 0).items()}
    assert counted(tmp_path, **folder(tmp_path / "images", 3)) == {"train": 6, "val": 2}
    (tmp_path / "images/train/ant/4.png").touch()
    numbers = {"images_per_class": {"train": 2, "val": None}, **folder(tmp_path / "images", 3)}
    assert counted(tmp_path, **numbers) == {"train": 4, "val": 2}
    with pytest.raises(FileNotFoundError, match="nowhere"):
        counted(tmp_path, source="image-folder", path=str(tmp_path / "nowhere"))


def test_what_the_config_says_needs_no_source(tmp_path):
    nowhere, numbers = str(tmp_path / "nowhere"), {"train": 5, "val": 2}
    few = {"path": nowhere, "classes": 3, "images_per_class": numbers}
    assert counted(tmp_path, source="image-folder", **few) == {"train": 15, "val": 6}
    assert counted(tmp_path, source="tiny-imagenet", **few) == {"train": 15, "val": 6}
    assert counted(tmp_path, source="tiny-imagenet", path=nowhere) == {"train": 100_000, "val": 10_000}


def test_data_that_are_there_are_counted_in_their_files(tmp_path):
    for split, n_images in {"train": 7, "val": 4}.items():
        write_data(tmp_path / f"{split}.h5", n_images, {"source_fingerprint": "1a.2b"})
    nowhere = {"source": "image-folder", "path": str(tmp_path / "nowhere")}
    assert counted(tmp_path, "1a.2b", **nowhere) == {"train": 7, "val": 4}
    assert counted(tmp_path, None, **nowhere) == {"train": 7, "val": 4}


def test_data_that_are_stale_are_not_counted(tmp_path):
    write_data(tmp_path / "train.h5", 7, {"source_fingerprint": "1a.0c"})
    write_data(tmp_path / "val.h5", 7, {})  # somebody's own: Snakemake does not make it anew
    assert counted(tmp_path, "1a.2b", **folder(tmp_path / "images", 3)) == {"train": 6, "val": 7}


def test_what_is_left_out_is_known_once_there_are_data(tmp_path):
    source = {"on_error": "skip", **folder(tmp_path / "images", 3)}
    with pytest.raises(DataError, match=r"data\.on_error: skip: .* by asking for .*train\.h5; then run again"):
        counted(tmp_path, **source)
    for split, n_images in {"train": 5, "val": 2}.items():
        write_data(tmp_path / f"{split}.h5", n_images, {"source_fingerprint": "1a.2b"})
    assert counted(tmp_path, **source) == {"train": 5, "val": 2}


def test_a_data_file_that_holds_no_images_is_named(tmp_path):
    (tmp_path / "train.h5").write_bytes(b"\x89HDF\r\n")
    with pytest.raises(BadFileError, match=r"train\.h5 is not a readable HDF5 file"):
        counted(tmp_path)


def test_a_digest_tells_params_apart():
    params = [[{"step": 1.0}, 0], [{"step": 2.0}, 0], [{"step": 1.0}, 1], [{"step": 1.0, "max_steps": 1}, 0]]
    assert len({digest_of(one) for one in params}) == len(params)
    assert digest_of([{"a": 1, "b": 2}]) == digest_of([{"b": 2, "a": 1}])


def test_other_shards_are_removed(tmp_path):
    for name in ("0-3.aa.h5", "4-7.aa.h5", "0-7.aa.h5", "0-3.bb.h5", ".0-3.bb.h5.1.part"):
        (tmp_path / name).touch()
    (tmp_path / "folder").mkdir()
    remove_other_shards([str(tmp_path / "0-3.aa.h5"), str(tmp_path / "4-7.aa.h5")])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0-3.aa.h5", "4-7.aa.h5", "folder"]


# ---- A set in shards is the set made whole

N_IMAGES, N_CLASSES, SIZE, BATCH = 27, 4, 8, 4


class Net(nn.Module):
    """Pixels in 0..255 -> logits."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.first = nn.Conv2d(3, 8, 3, 1, 1)
        self.last = nn.Linear(8 * SIZE * SIZE, N_CLASSES)

    def forward(self, pixels):
        return 6 * self.last(self.first(pixels / 127.5 - 1).tanh().flatten(1))


@pytest.fixture(scope="module")
def networks():
    """Attacker and stopping classifier, so near each other that adversaries transfer."""
    attacker, stopping = Net(0), Net(1)
    for mine, theirs in zip(attacker.parameters(), stopping.parameters(), strict=True):
        theirs.data = 0.9 * mine.data + 0.1 * theirs.data
    return [network.eval().requires_grad_(False) for network in (attacker, stopping)]


@pytest.fixture
def inputs(tmp_path: Path, networks):
    """Data, and files that stand for the checkpoints, of which only digests are taken.

    The labels are what the stopping classifier says, but for each fifth image.
    """
    images = np.random.default_rng(0).integers(0, 256, (N_IMAGES, SIZE, SIZE, 3), np.uint8)
    labels = networks[1](torch.from_numpy(images).permute(0, 3, 1, 2).float()).argmax(1).numpy()
    labels[::5] = (labels[::5] + 1) % N_CLASSES
    names = [str(number) for number in range(N_IMAGES)]
    write_split(tmp_path / "train.h5", DataSplit(images, labels, names, ["a", "b", "c", "d"]), {})
    for name in ("attacker", "stopping_classifier"):
        (tmp_path / f"{name}.pt").write_text(name)
    return {
        "data": {"train": str(tmp_path / "train.h5")},
        "attacker": str(tmp_path / "attacker.pt"),
        "stopping_classifier": str(tmp_path / "stopping_classifier.pt"),
    }


def build_attack(name, first_row):
    common = {"early_stop": name != "ifgsm", "batch_size": BATCH, "round_to_8_bits": False}
    if name in ("fgsm", "ifgsm", "mifgsm"):
        decay = {"decay": 1.0} if name == "mifgsm" else {}
        return own_attack({"attack": name, "step": 4.0, "max_steps": 5, **decay}, **common)
    return FoolboxAttack(foolbox_attack(name, {"steps": 4}), epsilon=12.0, seed=3, first_row=first_row, **common)


def assert_equal_files(one, other):
    """In what h5py reads, which says where they differ, and in every byte."""
    assert_equal_content(one, other)
    assert sha256(one) == sha256(other)


def assert_equal_content(one, other):
    with h5py.File(one) as one, h5py.File(other) as other:
        assert dict(one.attrs) == dict(other.attrs)
        assert set(one) == set(other)
        for name in one:
            np.testing.assert_array_equal(one[name][:], other[name][:], err_msg=name)
            assert one[name].dtype == other[name].dtype


@pytest.mark.parametrize("images_per_shard", [4, 12, 28])
@pytest.mark.parametrize("name", ["fgsm", "ifgsm", "mifgsm", "LinfPGD"])
def test_an_adversarial_set(name, images_per_shard, inputs, networks, tmp_path):
    networks = dict(zip([inputs["attacker"], inputs["stopping_classifier"]], networks, strict=True))

    def attack(path, rows=None):
        job = AttackJob(**inputs, adversarial={"train": path}, settings={"attack": name}, seed=0, rows=rows)
        attack_to_files(job, build_attack(name, job.first_row), networks, torch.device("cpu"))

    attack(tmp_path / "whole.h5")
    shards = []
    for rows in reversed(rows_of_shards(N_IMAGES, images_per_shard)):
        shards.insert(0, tmp_path / f"{rows[0]}.h5")
        attack(shards[0], rows)
        with h5py.File(shards[0]) as shard:
            assert shard["index"][:].tolist() == list(rows)
            assert "data_sha256" not in shard.attrs
    with h5py.File(tmp_path / "whole.h5") as whole:
        digest = whole.attrs["data_sha256"]
        assert whole.attrs["batch_size"] == str(BATCH)
        assert whole["succeeded"][:].sum() > 0
        if name in ("fgsm", "mifgsm"):
            assert len(np.unique(whole["steps"][:])) > 2, "images leave the batch at different times"
    join_shards(shards, tmp_path / "joined.h5", N_IMAGES, {"data_sha256": digest})
    assert_equal_files(tmp_path / "joined.h5", tmp_path / "whole.h5")


def test_each_split_of_a_set_is_as_it_would_be_alone(inputs, networks, tmp_path):
    networks = dict(zip([inputs["attacker"], inputs["stopping_classifier"]], networks, strict=True))
    split = read_split(inputs["data"]["train"], range(10))
    reversed_split = DataSplit(split.images[::-1], split.labels[::-1], split.ids, split.class_names)
    write_split(tmp_path / "val.h5", reversed_split, {})
    data = {**inputs["data"], "val": str(tmp_path / "val.h5")}

    def attack(folder, data):
        paths = {name: str(tmp_path / folder / f"{name}.h5") for name in data}
        job = AttackJob(**{**inputs, "data": data}, adversarial=paths, settings={"attack": "LinfPGD"}, seed=0)
        attack_to_files(job, build_attack("LinfPGD", 0), networks, torch.device("cpu"))

    attack("together", data)
    for name, path in data.items():
        attack("alone", {name: path})
        assert_equal_files(tmp_path / "together" / f"{name}.h5", tmp_path / "alone" / f"{name}.h5")


@pytest.mark.parametrize("images_per_shard", [4, 12, 28])
def test_a_denoised_set(images_per_shard, inputs, tmp_path):
    torch.manual_seed(0)
    denoiser = nn.Conv2d(3, 3, 3, 1, 1).eval()
    device = torch.device("cpu")
    with h5py.File(tmp_path / "set.h5", "w") as file, h5py.File(inputs["data"]["train"]) as data:
        file["images"] = data["images"][:].astype(np.float32) + 0.5
        file["index"], file["label"] = np.arange(N_IMAGES), data["label"][:]
    attributes = {"versions": "{}", "git_commit": "a1", "config": '{"denoiser": "conv"}'}
    denoise_to_file(
        denoiser, tmp_path / "set.h5", tmp_path / "whole.h5", BATCH, device, {**attributes, "adversarial_sha256": "01"}
    )
    shards = []
    for rows in rows_of_shards(N_IMAGES, images_per_shard):
        shards.append(tmp_path / f"{rows[0]}.h5")
        denoise_to_file(denoiser, tmp_path / "set.h5", shards[-1], BATCH, device, attributes, rows)
        assert len(open_images(shards[-1])) == len(rows)
    join_shards(shards, tmp_path / "joined.h5", N_IMAGES, {"adversarial_sha256": "01"})
    assert_equal_files(tmp_path / "joined.h5", tmp_path / "whole.h5")
