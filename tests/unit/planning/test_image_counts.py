"""How many images there will be is told by the source itself, whichever it is."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from perturbflow.data import tiny_imagenet
from perturbflow.data.image_list import ImageList
from perturbflow.data.sources import SOURCES, ClassSizes, Source, data_slice, list_splits
from perturbflow.data.tree import Tree
from perturbflow.planning.config import ConfigError, resolve_config
from perturbflow.planning.image_counts import count_images, source_images
from perturbflow.planning.requests import START_SECONDS, job_of
from tests.inputs import load_config

ROOT = Path(__file__).parents[3]
N_CLASSES, N_TRAIN, N_VAL = 3, 4, 2
COUNTS = {"train": N_CLASSES * N_TRAIN, "val": N_CLASSES * N_VAL}


def stripes(data: dict[str, Any], seed: int) -> dict[str, ImageList]:
    """Three classes of four images and two, from a folder of somebody's own."""

    def images(n_per_class: int) -> ImageList:
        ids = [f"{label}/{number}" for label in range(N_CLASSES) for number in range(n_per_class)]
        labels = np.repeat(np.arange(N_CLASSES), n_per_class)
        return ImageList(data["path"], ids, labels, ["a", "b", "c"], lambda name: b"P5 1 1 255\n0")

    return {"train": images(N_TRAIN), "val": images(N_VAL)}


@pytest.fixture(params=["every class has as many", "the largest class has as many"])
def study(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A config of the paper's with a source that nothing but its entry knows of."""
    all_equal = request.param == "every class has as many"
    sizes = ClassSizes(N_CLASSES, {"train": N_TRAIN, "val": N_VAL}, all_equal)
    monkeypatch.setitem(SOURCES, "stripes", Source(stripes, lambda data: sizes))
    config = load_config(ROOT / "config/config.yaml")
    return {**config, "data": {**config["data"], "source": "stripes", "path": "my/stripes"}}


def test_a_new_source_is_counted_by_what_it_says(study: dict[str, Any], tmp_path: Path) -> None:
    data = study["data"]
    listed = {split: len(images.ids) for split, images in list_splits(data, 0).items()}
    assert source_images(data) == listed == COUNTS
    for split, n_images in COUNTS.items():
        assert count_images(tmp_path / f"{split}.h5", "1a.2b", data, 0, split) == n_images
    fewer = {**data, "classes": 2, "images_per_class": {"train": 3, "val": None}}
    assert source_images(fewer) == {"train": 6, "val": 4}
    assert [count_images(tmp_path / "none.h5", "1a.2b", fewer, 0, split) for split in ("train", "val")] == [6, 4]


def test_where_a_new_source_lies_is_no_part_of_the_study_but_its_files_are(study: dict[str, Any]) -> None:
    assert not {"path", "download"} & {*data_slice(study["data"])}
    assert SOURCES["stripes"].files(study["data"]) == {"": Path("my/stripes")}


def test_a_new_source_asks_for_no_time_to_download(study: dict[str, Any]) -> None:
    assert job_of("data", {}, study, None).seconds(threads=1) < START_SECONDS + 10


def test_the_sizes_that_are_known_beforehand_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiny_imagenet, "open_tree", lambda path: whole_tiny_imagenet())
    data = {"path": ".", "download": False}
    for name in ("tiny-imagenet", "digits"):
        sizes = SOURCES[name].class_sizes(data)
        for split, images in SOURCES[name].list_images(data, 0).items():
            counts = np.bincount(images.labels)
            assert (len(counts), counts.max()) == (sizes.n_classes, sizes.largest[split])
            assert sizes.all_equal == (counts.min() == counts.max())


def whole_tiny_imagenet() -> Tree:
    """The official data set's files by name."""
    names = [f"n{number:08}" for number in range(200)]
    train = [f"train/{name}/images/{name}_{number}.JPEG" for name in names for number in range(500)]
    val = {f"val_{number}.JPEG": names[number % 200] for number in range(10_000)}
    texts = {
        "wnids.txt": "\n".join(names),
        "words.txt": "".join(f"{name}\tword\n" for name in names),
        "val/val_annotations.txt": "".join(f"{image}\t{name}\t0\n" for image, name in val.items()),
    }
    files = [*texts, *train, *(f"val/images/{image}" for image in val)]
    folders = ["train", "val", *(f"train/{name}" for name in names)]
    return Tree("it", files, folders, lambda file: texts[file].encode())


def test_only_what_downloads_asks_for_time_to_download() -> None:
    config = load_config(ROOT / "config/config.yaml")

    def seconds(**data: Any) -> float:
        return job_of("data", {}, {**config, "data": {**config["data"], **data}}, None).seconds(threads=8)

    longer = seconds(download=True) - seconds(download=False)
    assert longer == pytest.approx(tiny_imagenet.TINY_IMAGENET.size / 0.4e6)
    assert seconds(source="digits", path=None, download=True) == seconds(source="digits", path=None, download=False)


@pytest.mark.parametrize("source", SOURCES)
def test_a_source_that_needs_a_path_is_refused_without(source: str) -> None:
    demo = yaml.safe_load((ROOT / "config/demo.yaml").read_text(encoding="utf-8"))
    config = {**demo, "data": {**demo["data"], "source": source, "path": None}}
    if not SOURCES[source].needs_path:
        assert resolve_config(config)["data"]["path"] is None
        return
    with pytest.raises(ConfigError, match=r"^config: data\.path: must be a string, got nothing \(null\)$"):
        resolve_config(config)
