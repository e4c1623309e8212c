"""Parquet files as hubs distribute image data sets."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from perturbflow.data import parquet
from perturbflow.data.fingerprint import digest_of_files
from perturbflow.data.image_list import DataError
from perturbflow.data.sources import SOURCES, list_splits
from tests.inputs import decode
from tests.unit.data.test_sources import jpeg, settings, write

LABELS = {"train": [2, 0, 1, 1, 0, 2, 0, 1, 2, 0], "val": [1, 0, 2, 1]}
IDS = ["n01443537", "n01629819", "n01641577"]
STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def pictures(split: str) -> list[bytes]:
    return [jpeg(100 * (split == "val") + row) for row in range(len(LABELS[split]))]


def table(
    split: str, first: int = 0, last: int | None = None, names: list[str] | None = None, **columns: Any
) -> pa.Table:
    """Rows of a split as `datasets` writes them."""
    rows = [{"bytes": content, "path": None} for content in pictures(split)[first:last]]
    found = {"image": pa.array(rows, STRUCT), "label": pa.array(LABELS[split][first:last], pa.int64()), **columns}
    kind = {"names": names, "_type": "ClassLabel"} if names else {"dtype": "int64", "_type": "Value"}
    info = {"info": {"features": {"image": {"_type": "Image"}, "label": kind}}}
    return pa.table(found).replace_schema_metadata({"huggingface": json.dumps(info)} if names else None)


def save(file: Path, content: pa.Table, rows: int = 3) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(content, file, row_group_size=rows)


@pytest.fixture
def hub(tmp_path: Path) -> Path:
    """TinyImageNet as it is on the hub: shards, the names of classes in the schema."""
    root = tmp_path / "hub"
    save(root / "data/train-00000-of-00002-0a1b.parquet", table("train", 0, 6, IDS))
    save(root / "data/train-00001-of-00002-2c3d.parquet", table("train", 6, None, IDS))
    save(root / "data/valid-00000-of-00001-4e5f.parquet", table("val", names=IDS))
    write(root / ".cache/huggingface/download/data/train-00000-of-00002.parquet", "unfinished")
    write(root / "README.md", "---\nlicense: mit\n---\n# Tiny\n")
    return root


def pixels(content: bytes) -> np.ndarray:
    from io import BytesIO

    return np.asarray(Image.open(BytesIO(content)))


def check(path: Path, class_names: list[str], **others: Any) -> None:
    """That a study takes the pictures of LABELS, sorted by label and then by row."""
    splits = list_splits(settings("parquet", path, **others), 0)
    for split, images in splits.items():
        rows = np.argsort(LABELS[split], kind="stable")
        assert images.class_names == class_names
        assert images.labels.dtype == np.int64 and images.labels.tolist() == sorted(LABELS[split])
        decoded = decode(images, 64, threads=3)
        for row, image in zip(rows, decoded.images, strict=True):
            np.testing.assert_array_equal(image, pixels(pictures(split)[row]))


def test_shards_of_the_hub(hub):
    check(hub, ["n01443537 goldfish", "n01629819 European fire salamander", "n01641577 bullfrog"])
    images = list_splits(settings("parquet", hub), 0)["train"]
    first, second = "data/train-00000-of-00002-0a1b.parquet", "data/train-00001-of-00002-2c3d.parquet"
    assert images.ids[:4] == [f"{first}/0000001", f"{first}/0000004", f"{second}/0000000", f"{second}/0000003"]


@pytest.mark.parametrize(
    ("train", "val"),
    [
        ("train/0000.parquet", "validation/0000.parquet"),
        ("default/partial-train/0000.parquet", "default/validation/0000.parquet"),
        ("train.parquet", "val.parquet"),
        ("plain_text/train-00000-of-00001.parquet", "plain_text/test-00000-of-00001.parquet"),
        ("data/Training_0.parquet", "data/dev_0.parquet"),
    ],
)
def test_splits_are_told_by_files_or_folders(train, val, tmp_path):
    save(tmp_path / train, table("train", names=["a", "b", "c"]))
    save(tmp_path / val, table("val", names=["a", "b", "c"]))
    check(tmp_path, ["a", "b", "c"])


def test_test_is_passed_over_where_there_is_a_validation_split(tmp_path):
    names = ["a", "b", "c"]
    save(tmp_path / "data/train-00000-of-00001.parquet", table("train", names=names))
    save(tmp_path / "data/validation-00000-of-00001.parquet", table("val", names=names))
    unlabelled = table("val", names=names).set_column(1, "label", pa.array([-1] * len(LABELS["val"])))
    save(tmp_path / "data/test-00000-of-00001.parquet", unlabelled)
    check(tmp_path, names)


def test_val_needs_nothing_of_train(hub):
    for file in hub.glob("data/train*"):
        file.unlink()
    names = ["n01443537 goldfish", "n01629819 European fire salamander", "n01641577 bullfrog"]
    check(hub, names, splits=["val"])


def both(root: Path, **columns: Any) -> Path:
    """A file a split, with other columns. columns: functions from a split to the column."""
    for split in LABELS:
        content = table(split)
        for name, column in columns.items():
            content = content.drop_columns([name]) if column is None else content.append_column(name, column(split))
        save(root / f"{split}.parquet", content)
    return root


def test_other_columns(tmp_path):
    names = np.array(["zebra", "ant", "bee"])
    check(both(tmp_path / "bytes", image=None, img=lambda split: pa.array(pictures(split))), ["0", "1", "2"])
    check(both(tmp_path / "fine", label=None, fine_label=lambda split: pa.array(LABELS[split])), ["0", "1", "2"])
    strings = {
        "label": None,
        "labels": lambda split: pa.array(np.array(["ant", "bee", "zebra"])[LABELS[split]].tolist()),
    }
    check(both(tmp_path / "strings", **strings), ["ant", "bee", "zebra"])
    categories = {
        "label": None,
        "class": lambda split: pa.array(sorted(names)).take(pa.array(LABELS[split])).dictionary_encode(),
    }
    check(both(tmp_path / "categories", **categories), ["ant", "bee", "zebra"])


README = """---
dataset_info:
- config_name: default
  features:
  - name: image
    dtype: image
  - name: label
    dtype:
      class_label:
        names:
          '0': ant
          '1': bee
          '2': cat
---
"""


@pytest.mark.parametrize("below", ["", "data"])
def test_names_of_classes_from_the_readme(below, tmp_path):
    write(tmp_path / "README.md", README)
    check(both(tmp_path / below), ["ant", "bee", "cat"])


def test_classes_without_an_image_are_left_out(tmp_path):
    names = ["none", "ant", "bee", "also none", "cat"]
    for split in LABELS:
        moved = pa.array([(1, 2, 4)[label] for label in LABELS[split]])
        save(tmp_path / f"{split}.parquet", table(split, names=names).set_column(1, "label", moved))
    check(tmp_path, ["ant", "bee", "cat"])


def test_a_row_group_is_read_once_however_its_classes_are_mixed(hub, monkeypatch):
    read = []
    group = pq.ParquetFile.read_row_group
    monkeypatch.setattr(pq.ParquetFile, "read_row_group", lambda self, *a, **k: read.append(a) or group(self, *a, **k))
    monkeypatch.setattr(parquet, "KEPT_BYTES", 0)  # two at least
    images = list_splits(settings("parquet", hub), 0)["train"]
    decode(images, 64)
    assert len(read) == 2 + 2  # six rows and four, three a group


def test_an_edit_of_whatever_is_read_is_seen(hub):
    files = SOURCES["parquet"].files
    seen = {digest_of_files(files(settings("parquet", hub)))}
    for file in [*hub.glob("data/*.parquet"), hub / "README.md"]:
        os.utime(file, (1, 1))
        seen.add(digest_of_files(files(settings("parquet", hub))))
    (hub / "data/train-00001-of-00002-2c3d.parquet").unlink()
    assert len(seen | {digest_of_files(files(settings("parquet", hub)))}) == 6


def test_sizes_are_told_by_the_labels(hub, tmp_path):
    sizes = SOURCES["parquet"].class_sizes(settings("parquet", hub))
    assert (sizes.n_classes, sizes.largest, sizes.all_equal) == (3, {"train": 4, "val": 2}, False)
    assert SOURCES["parquet"].class_sizes(settings("parquet", tmp_path / "nowhere")).n_classes == 0


def with_labels(root: Path, labels: Any) -> None:
    for split in LABELS:
        save(root / f"{split}.parquet", table(split, names=IDS).set_column(1, "label", labels(split)))


REFUSED = {
    "nowhere": (
        lambda root: None,
        FileNotFoundError,
        r"\(data\.path\) does not exist; it must be a folder with parquet",
    ),
    "pictures": (lambda root: write(root / "train/a/0.jpg", jpeg(0)), FileNotFoundError, r"it holds train/\."),
    "no val": (
        lambda root: save(root / "train.parquet", table("train")),
        FileNotFoundError,
        "but none of val: train.parquet",
    ),
    "missing shards": (
        lambda root: save(both(root) / "train-00001-of-00003.parquet", table("train")),
        FileNotFoundError,
        r"train-\*-of-00003\.parquet: 2 of 3 files are not there, number 0, 2; fetch them, or",
    ),
    "two versions": (
        lambda root: (both(root / "snapshots/a"), both(root / "snapshots/b")),
        DataError,
        r"several data sets, snapshots/a/train\.parquet and snapshots/b/train\.parquet: name the folder of one",
    ),
    "near names": (
        lambda root: both(root, label=None, lable=lambda split: pa.array(LABELS[split])),
        DataError,
        r"has no column of labels \(label or .*it has image, lable: rename lable to label",
    ),
    "no images": (
        lambda root: both(root, image=None),
        DataError,
        r"no column of images .* it has label: rename the one",
    ),
    "arrays": (
        lambda root: both(root, image=None, img=lambda split: pa.array([[0, 1]] * len(LABELS[split]))),
        DataError,
        r"column img holds list<.*>, not the bytes of pictures' files",
    ),
    "unlabelled": (
        lambda root: with_labels(root, lambda split: pa.array([-1] * len(LABELS[split]))),
        DataError,
        r"label -1 stands for none",
    ),
    "label without a name": (
        lambda root: with_labels(root, lambda split: pa.array([7, *LABELS[split][1:]])),
        DataError,
        "label 7 has no name among the 3",
    ),
    "missing labels": (
        lambda root: with_labels(root, lambda split: pa.array([None, *LABELS[split][1:]])),
        DataError,
        r"train\.parquet: 1 rows have no label",
    ),
    "fractions": (
        lambda root: with_labels(root, lambda split: pa.array([0.5] * len(LABELS[split]))),
        DataError,
        "column label holds double; labels must be integers or strings",
    ),
    "other columns": (
        lambda root: save(both(root) / "val.parquet", table("val").rename_columns(["image", "labels"])),
        DataError,
        r"val\.parquet lacks column label, which other files",
    ),
    "class missing": (
        lambda root: save(both(root) / "val.parquet", table("val", 1, 2)),
        DataError,
        "no images of class 1, 2 in val; other splits have some",
    ),
    "half a file": (
        lambda root: write(both(root) / "val.parquet", (root / "val.parquet").read_bytes()[:500]),
        DataError,
        r"val\.parquet is not a whole parquet file",
    ),
    "pointer": (
        lambda root: write(both(root) / "val.parquet", "version https://git-lfs.github.com/spec/v1\noid sha256:0\n"),
        DataError,
        r"val\.parquet is a pointer of Git LFS, not the file itself; run `git lfs pull`",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_read_is_refused_with_the_way_out(case, tmp_path):
    make, error, message = REFUSED[case]
    make(tmp_path / "set")
    with pytest.raises(error, match=message):
        list_splits(settings("parquet", tmp_path / "set"), 0)


def test_a_row_without_bytes_is_named(tmp_path):
    rows = [{"bytes": None, "path": "elsewhere.jpg"} for _ in LABELS["train"]]
    save(both(tmp_path) / "train.parquet", table("train").set_column(0, "image", pa.array(rows, STRUCT)))
    with pytest.raises(DataError, match=r"train\.parquet/0000000 cannot be read .its row holds no bytes"):
        decode(list_splits(settings("parquet", tmp_path), 0)["train"], 64)
