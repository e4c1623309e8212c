import gc
import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import numpy as np
import pytest

from perturbflow.files.images import (
    DataSplit,
    Subset,
    image_writer,
    open_images,
    read_columns,
    read_split,
)
from perturbflow.files.shards import join_shards
from perturbflow.files.whole import BadFileError, sha256, whole_file
from tests.inputs import write_split


@pytest.fixture
def split():
    images = np.random.default_rng(0).integers(0, 256, (5, 6, 7, 3), np.uint8)
    return DataSplit(
        images, np.array([0, 0, 1, 1, 1]), [f"train/{row}.png" for row in range(5)], ["ant", "chat à neuf"]
    )


@pytest.fixture
def path(split, tmp_path):
    write_split(tmp_path / "data/train.h5", split, {"config": '{"seed": 0}'})
    return tmp_path / "data/train.h5"


def names(folder):
    return [file.name for file in folder.iterdir()]


# ---- Whole files


def test_whole_file_appears_at_the_end(tmp_path):
    path = tmp_path / "new/folder/table.csv"
    with whole_file(path) as temporary:
        temporary.write_text("whole")
        assert not path.exists()
        assert temporary.parent == path.parent
    assert path.read_text() == "whole"
    assert names(path.parent) == ["table.csv"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_error_leaves_nothing(tmp_path, error):
    with pytest.raises(error), whole_file(tmp_path / "table.csv") as temporary:
        temporary.write_text("half")
        raise error
    assert names(tmp_path) == []


def test_error_keeps_the_earlier_file(tmp_path):
    (tmp_path / "table.csv").write_text("earlier")
    with pytest.raises(RuntimeError), whole_file(tmp_path / "table.csv") as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert names(tmp_path) == ["table.csv"]
    assert (tmp_path / "table.csv").read_text() == "earlier"


def test_error_while_writing_images_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError), image_writer(tmp_path / "set.h5", 2, (4, 4, 3), "float32", {}) as file:
        file["images"][0] = 1
        raise RuntimeError
    assert names(tmp_path) == []


def test_sha256(tmp_path):
    (tmp_path / "file").write_bytes(b"bytes")
    assert sha256(tmp_path / "file") == hashlib.sha256(b"bytes").hexdigest()


# ---- Data splits


def test_split_survives(path, split):
    read = read_split(path)
    np.testing.assert_array_equal(read.images, split.images)
    np.testing.assert_array_equal(read.labels, split.labels)
    assert (read.images.dtype, read.labels.dtype) == (np.uint8, np.int64)
    assert (read.ids, read.class_names) == (split.ids, split.class_names)


def test_split_opens_with_plain_h5py(path, split):
    with h5py.File(path) as file:
        assert file.attrs["config"] == '{"seed": 0}'
        assert set(file) == {"images", "label", "id", "class_name"}
        assert file["id"].asstr()[4] == "train/4.png"
        assert file["class_name"].asstr()[1] == "chat à neuf"
        assert file["images"].chunks is None


def test_rows_of_a_split(path, split):
    read = read_split(path, range(1, 4))
    np.testing.assert_array_equal(read.images, split.images[1:4])
    np.testing.assert_array_equal(read.labels, split.labels[1:4])
    assert (read.ids, read.class_names) == (split.ids[1:4], split.class_names)


def test_rows_that_a_split_lacks(path):
    with pytest.raises(BadFileError, match=r"train\.h5 has 5 images; asked for 3\.\.5"):
        read_split(path, range(3, 6))


def test_read_columns(path):
    label, name = read_columns(path, "label", "id")
    assert label.tolist() == [0, 0, 1, 1, 1]
    assert name[0] == b"train/0.png"


# ---- Images read as they are asked for


def test_open_images_equals_h5py(path):
    with h5py.File(path) as file:
        expected = file["images"][:]
    images = open_images(path)
    assert images.shape == expected.shape and len(images) == 5 and images.dtype == np.uint8
    for rows in (slice(None), slice(1, 3), slice(3, 99), slice(None, None, -2), slice(2, 2)):
        np.testing.assert_array_equal(images[rows], expected[rows])
    for rows in ([4, 0, 1, 2], [3, 3, -1], [[0, 1], [4, 3]], []):
        np.testing.assert_array_equal(images[np.array(rows, np.int64)], expected[np.array(rows, np.int64)])
    np.testing.assert_array_equal(images[2], expected[2])
    np.testing.assert_array_equal(images[-1], expected[-1])


def test_what_is_read_is_ones_own(path):
    images = open_images(path)
    first = images[:2]
    first[:] = 7
    assert (images[:2] != 7).any()


def test_open_images_keeps_floats_exactly(tmp_path):
    images = np.random.default_rng(0).uniform(0, 255, (3, 4, 5, 3)).astype(np.float32)
    with image_writer(tmp_path / "set.h5", 3, (4, 5, 3), "float32", {}) as file:
        file["index"] = np.arange(3)
        for row in (2, 0, 1):
            file["images"][row] = images[row]
    read = open_images(tmp_path / "set.h5")
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read[:], images)


def test_threads_read_at_the_same_time(tmp_path):
    expected = np.random.default_rng(0).integers(0, 256, (64, 16, 16, 3)).astype(np.uint8)
    with image_writer(tmp_path / "set.h5", 64, (16, 16, 3), "uint8", {}) as file:
        file["images"][:] = expected
    images = open_images(tmp_path / "set.h5")
    orders = [np.random.default_rng(seed).permutation(64) for seed in range(50)]
    with ThreadPoolExecutor(8) as pool:
        for order, read in zip(orders, pool.map(images.__getitem__, orders), strict=True):
            np.testing.assert_array_equal(read, expected[order])


def test_rows_that_are_not_there(path):
    images = open_images(path)
    for rows in (5, -6, np.array([0, 5])):
        with pytest.raises(IndexError, match=r"has 5 images; asked for"):
            images[rows]
    with pytest.raises(TypeError, match="not a mask"):
        images[np.ones(5, bool)]


def test_a_file_that_has_become_shorter(path):
    images = open_images(path)
    os.truncate(path, images.offset + 10)
    with pytest.raises(BadFileError, match="ends before its image"):
        images[:]


def test_files_are_closed(path):
    n_open = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(5):
        open_images(path)[:1]
    gc.collect()
    assert len(list(Path("/proc/self/fd").iterdir())) == n_open


def test_selected_rows(path):
    images = open_images(path)
    selected = Subset(images, np.array([4, 1, 2]))
    assert selected.shape == (3, *images.shape[1:]) and len(selected) == 3
    np.testing.assert_array_equal(selected[:], images[np.array([4, 1, 2])])
    np.testing.assert_array_equal(selected[1:], images[np.array([1, 2])])
    np.testing.assert_array_equal(selected[np.array([2, 0])], images[np.array([2, 4])])


def test_no_images(tmp_path):
    with image_writer(tmp_path / "set.h5", 0, (4, 4, 3), "float32", {}):
        pass
    assert open_images(tmp_path / "set.h5")[:].shape == (0, 4, 4, 3)


def test_compressed_images_are_refused(tmp_path):
    with h5py.File(tmp_path / "set.h5", "w") as file:
        file.create_dataset("images", data=np.zeros((2, 4, 4, 3)), compression="gzip")
    with pytest.raises(BadFileError, match=r"set\.h5: images are chunked or compressed"):
        open_images(tmp_path / "set.h5")


# ---- Shards


SHARDS = {"first.h5": range(3), "second.h5": range(3, 6), "third.h5": range(6, 7)}


def attributes_of(**changed):
    return {"config": "{}", "git_commit": "a1", "versions": "{}", "attacker_sha256": "01", **changed}


def write_shard(path, rows, **changed):
    """Images and labels that tell their row."""
    with image_writer(path, len(rows), (2, 4, 3), "float32", attributes_of(**changed)) as file:
        for place, row in enumerate(rows):
            file["images"][place] = row + 0.25
        file["index"] = np.array(rows, np.int64)
        file["succeeded"] = np.array([row % 2 == 1 for row in rows])


@pytest.fixture
def shards(tmp_path):
    for name, rows in SHARDS.items():
        write_shard(tmp_path / name, rows)
    return [tmp_path / name for name in SHARDS]


@pytest.mark.parametrize("bytes_at_once", [1, 200, 2**26])
def test_joined_shards_are_the_whole(shards, tmp_path, monkeypatch, bytes_at_once):
    monkeypatch.setattr("perturbflow.files.shards.BYTES_AT_ONCE", bytes_at_once)
    join_shards(shards, tmp_path / "joined.h5", 7, {"data_sha256": "02"})
    write_shard(tmp_path / "whole.h5", range(7), data_sha256="02")
    with h5py.File(tmp_path / "joined.h5") as joined, h5py.File(tmp_path / "whole.h5") as whole:
        assert dict(joined.attrs) == dict(whole.attrs)
        assert set(joined) == set(whole)
        for name in whole:
            np.testing.assert_array_equal(joined[name][:], whole[name][:])
            assert joined[name].dtype == whole[name].dtype
    np.testing.assert_array_equal(open_images(tmp_path / "joined.h5")[:], open_images(tmp_path / "whole.h5")[:])


def test_one_shard_is_the_whole(shards, tmp_path):
    join_shards(shards[:1], tmp_path / "joined.h5", 3, {})
    np.testing.assert_array_equal(open_images(tmp_path / "joined.h5")[:], open_images(shards[0])[:])


@pytest.mark.parametrize(
    ("name", "first", "other", "both"),
    [("git_commit", "a1", "b2", '["a1", "b2"]'), ("batch_size", "16", "8", '["16", "8"]')],
)
def test_shards_that_were_made_otherwise(shards, tmp_path, name, first, other, both):
    for shard, rows in SHARDS.items():
        write_shard(tmp_path / shard, rows, **{name: other if shard == "second.h5" else first})
    join_shards(shards, tmp_path / "joined.h5", 7, {})
    with h5py.File(tmp_path / "joined.h5") as joined:
        assert dict(joined.attrs) == {**attributes_of(**{name: first}), f"{name}_of_shards": both}


@pytest.mark.parametrize("changed", [{"config": '{"step": 1}'}, {"attacker_sha256": "03"}, {"data_sha256": "04"}])
def test_shards_that_do_not_belong_together(shards, tmp_path, changed):
    write_shard(shards[2], SHARDS["third.h5"], **changed)
    with pytest.raises(BadFileError, match=r"third\.h5.*first\.h5; delete both"):
        join_shards(shards, tmp_path / "joined.h5", 7, {})
    assert not (tmp_path / "joined.h5").exists()


@pytest.mark.parametrize(("order", "n_images"), [((0, 1), 7), ((0, 2), 4), ((1, 0, 2), 7), ((0, 1, 2), 8)])
def test_shards_that_are_not_all(shards, tmp_path, order, n_images):
    with pytest.raises(BadFileError, match=r"joined\.h5: the shards .* are not those of \d images"):
        join_shards([shards[place] for place in order], tmp_path / "joined.h5", n_images, {})
    assert not (tmp_path / "joined.h5").exists()


def test_a_shard_that_is_not_there(shards, tmp_path):
    shards[1].unlink()
    with pytest.raises(FileNotFoundError, match=r"second\.h5 does not exist"):
        join_shards(shards, tmp_path / "joined.h5", 7, {})


# ---- Bad files


@pytest.mark.parametrize("read", [read_split, open_images, lambda path: read_columns(path, "label")])
class TestBadFiles:
    def test_missing(self, read, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"train\.h5 does not exist; run the rule"):
            read(tmp_path / "train.h5")

    def test_not_hdf5(self, read, tmp_path):
        (tmp_path / "train.h5").write_text("text")
        with pytest.raises(BadFileError, match=r"train\.h5 is not a readable HDF5 file"):
            read(tmp_path / "train.h5")

    def test_truncated(self, read, path):
        path.write_bytes(path.read_bytes()[:-100])
        with pytest.raises(BadFileError, match=r"train\.h5 is not a readable HDF5 file"):
            read(path)

    def test_dataset_missing(self, read, path):
        with h5py.File(path, "a") as file:
            del file["images"], file["label"]
        with pytest.raises(BadFileError, match=r"train\.h5 has no dataset (images|label)"):
            read(path)


@pytest.mark.parametrize(("shape", "dtype"), [((5, 6, 7, 3), "float32"), ((5, 6, 7), "uint8")])
def test_images_of_another_type_or_shape(path, shape, dtype):
    with h5py.File(path, "a") as file:
        del file["images"]
        file["images"] = np.zeros(shape, dtype)
    with pytest.raises(BadFileError, match=r"train\.h5: images must be uint8 \(N, H, W, 3\)"):
        read_split(path)


def test_what_a_killed_process_left_is_removed(tmp_path):
    left_over = tmp_path / ".set.h5.12345.part"
    left_over.write_bytes(b"half")
    other = tmp_path / ".other.h5.12345.part"
    other.write_bytes(b"half")
    with whole_file(tmp_path / "set.h5") as temporary:
        temporary.write_bytes(b"whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == [other.name, "set.h5"]
