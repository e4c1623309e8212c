import hashlib
import io
import os
import shutil
import socket
import subprocess
import sys
import zipfile
from collections import Counter
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import numpy as np
import pytest
from PIL import Image

from perturbflow.data import tiny_imagenet
from perturbflow.data.download import RemoteFile, download
from perturbflow.data.image_list import DataError
from perturbflow.data.sources import list_splits
from tests.inputs import decode

SYNONYMS = {"n03": "goldfish, Carassius auratus", "n01": "dog", "n02": "sports car, sport car"}
N_TRAIN, N_VAL = 5, 3


def settings(source, path=None, classes=None, train=None, val=None, **others):
    per_class = {"train": train, "val": val}
    defaults = {"download": False, "image_size": 64, "classes": classes, "images_per_class": per_class}
    return {"source": source, "path": None if path is None else str(path), **defaults, **others}


def jpeg(seed, mode="RGB", size=(64, 64)):
    """The bytes of a smooth random picture."""
    pixels = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC).convert(mode).save(buffer, "JPEG")
    return buffer.getvalue()


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


def files_below(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def tiny(tmp_path):
    """A TinyImageNet of 3 classes, in the layout of the real one."""
    root = tmp_path / "tiny-imagenet-200"
    write(root / "wnids.txt", "n03\nn01\nn02\n")
    write(root / "words.txt", "".join(f"{key}\t{value}\n" for key, value in SYNONYMS.items()) + "n99\tsoup\n")
    write(root / "test/images/test_0.JPEG", jpeg(0))
    annotations = []
    for label, name in enumerate(("n01", "n02", "n03")):
        write(root / f"train/{name}/{name}_boxes.txt", "boxes\n")
        for image in range(N_TRAIN):
            write(root / f"train/{name}/images/{name}_{image}.JPEG", jpeg(10 * label + image))
        for image in range(N_VAL):
            file = f"val_{3 * image + label}.JPEG"
            write(root / "val/images" / file, jpeg(100 + 10 * label + image))
            annotations.append(f"{file}\t{name}\t0\t0\t62\t62\n")
    write(root / "val/val_annotations.txt", "".join(sorted(annotations)))
    return root


@pytest.fixture
def tiny_zip(tiny):
    """The same as a zip file, without the folder."""
    file = tiny.with_name("tiny-imagenet-200.zip")
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(tiny.rglob("*")):
            archive.write(path, path.relative_to(tiny.parent))
    shutil.rmtree(tiny)
    return file


@pytest.fixture
def folder(tmp_path):
    """Pictures of several sizes and formats in folders by split and class."""
    root = tmp_path / "pictures"
    for split, n_images in (("train", 4), ("val", 2)):
        for label, name in enumerate(("cat", "ant")):
            for image in range(n_images):
                write(root / split / name / f"{image}.jpg", jpeg(10 * label + image, size=(80 + image, 100)))
    return root


# ---- TinyImageNet


def test_tiny_imagenet_folder(tiny):
    splits = list_splits(settings("tiny-imagenet", tiny), 0)
    assert list(splits) == ["train", "val"]
    for split, n_images in (("train", N_TRAIN), ("val", N_VAL)):
        images = splits[split]
        assert images.class_names == ["n01 dog", "n02 sports car", "n03 goldfish"]
        assert images.labels.dtype == np.int64
        assert images.labels.tolist() == [0] * n_images + [1] * n_images + [2] * n_images
    assert splits["train"].ids[5] == "train/n02/images/n02_0.JPEG"
    assert splits["val"].ids[:4] == [f"val/images/val_{number}.JPEG" for number in (0, 3, 6, 1)]


def test_tiny_imagenet_pixels_are_the_files_pixels(tiny):
    for images in list_splits(settings("tiny-imagenet", tiny), 0).values():
        split = decode(images, 64)
        assert split.images.dtype == np.uint8
        for row, name in enumerate(split.ids):
            np.testing.assert_array_equal(split.images[row], np.asarray(Image.open(tiny / name)))


def test_tiny_imagenet_zip_equals_folder(tiny, request):
    config = settings("tiny-imagenet", tiny)
    from_folder = {split: decode(images, 64) for split, images in list_splits(config, 0).items()}
    tiny_zip = request.getfixturevalue("tiny_zip")
    # The zip file itself, and the zip file beside a folder that is not there.
    for path in (tiny_zip, tiny):
        for split, images in list_splits(settings("tiny-imagenet", path), 0).items():
            from_zip = decode(images, 64, threads=2)
            np.testing.assert_array_equal(from_zip.images, from_folder[split].images)
            assert from_zip.ids == from_folder[split].ids
            assert from_zip.class_names == from_folder[split].class_names


def test_tiny_imagenet_zip_may_have_folder_entries_or_other_roots(tiny, tmp_path):
    file = tmp_path / "packed.zip"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("__MACOSX/._wnids.txt", "rubbish")
        for path in tiny.rglob("*"):
            if path.is_file():
                archive.write(path, path.relative_to(tiny))
    assert list_splits(settings("tiny-imagenet", file), 0)["train"].ids[0] == "train/n01/images/n01_0.JPEG"


def test_tiny_imagenet_missing_and_no_download(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere \(data\.path\) does not exist and data\.download is false"):
        list_splits(settings("tiny-imagenet", tmp_path / "nowhere"), 0)


def test_tiny_imagenet_neither_folder_nor_zip(tmp_path):
    write(tmp_path / "text.zip", "not a zip")
    with pytest.raises(DataError, match=r"text\.zip is neither a folder nor a whole zip file"):
        list_splits(settings("tiny-imagenet", tmp_path / "text.zip"), 0)


def remove(file, root):
    path = root / file
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def put(file, content, root):
    write(root / file, content)


def swap(file, old, new, root):
    text = (root / file).read_text()
    assert old in text
    write(root / file, text.replace(old, new))


def empty(file, root):
    remove(file, root)
    (root / file).mkdir()


TINY_DAMAGE = {
    "no annotations": (
        partial(remove, "val/val_annotations.txt"),
        FileNotFoundError,
        r"val/images/val_0\.JPEG lies in no folder of a class and val/val_annotations\.txt is not there: .* sort",
    ),
    "no train": (
        partial(remove, "train"),
        FileNotFoundError,
        "is not TinyImageNet, which has a folder train/: it holds test/, val/, wnids.txt, words.txt",
    ),
    "no class folder": (partial(remove, "train/n02"), FileNotFoundError, r"no folder for class n02 of wnids\.txt"),
    "class not in wnids": (partial(swap, "wnids.txt", "n02\n", ""), DataError, r"class n02, which wnids\.txt does not"),
    "empty class": (partial(empty, "train/n02/images"), DataError, "no images of class n02 in train"),
    "image in no class": (partial(put, "train/x.JPEG", b""), DataError, r"train/x\.JPEG lies in no class folder"),
    "image without annotation": (
        partial(put, "val/images/val_77.JPEG", b""),
        DataError,
        r"val/images/val_77\.JPEG has no line in val/val_annotations\.txt",
    ),
    "annotation of unknown class": (
        partial(swap, "val/val_annotations.txt", "val_4.JPEG\tn02", "val_4.JPEG\tn99"),
        DataError,
        r"val/images/val_4\.JPEG the class n99",
    ),
    "annotation without image": (
        partial(remove, "val/images/val_4.JPEG"),
        FileNotFoundError,
        r"lacks 1 images .* such as val_4\.JPEG",
    ),
    "malformed annotation": (
        partial(swap, "val/val_annotations.txt", "val_4.JPEG\tn02\t0\t0\t62\t62", "val_4.JPEG n02"),
        DataError,
        r"no image and class, separated by a tab, in 'val_4\.JPEG n02'",
    ),
    "class without val images": (
        partial(swap, "val/val_annotations.txt", "\tn02", "\tn01"),
        DataError,
        "no images of class n02 in val",
    ),
}


@pytest.mark.parametrize("name", TINY_DAMAGE)
def test_tiny_imagenet_damage_is_named(tiny, name):
    damage, error, message = TINY_DAMAGE[name]
    damage(tiny)
    with pytest.raises(error, match=message):
        list_splits(settings("tiny-imagenet", tiny), 0)


# ---- Image folder


def test_image_folder(folder):
    write(folder / "train/cat/notes.txt", "not an image")
    write(folder / "train/cat/.hidden.jpg", "not an image")
    write(folder / "train/.cache/x.jpg", "not an image")
    write(folder / "train/cat/below/PICTURE.PNG", jpeg(5))
    splits = list_splits(settings("image-folder", folder), 0)
    assert splits["train"].class_names == splits["val"].class_names == ["ant", "cat"]
    assert splits["train"].labels.tolist() == [0] * 4 + [1] * 5
    assert splits["train"].ids[4:6] == ["train/cat/0.jpg", "train/cat/1.jpg"]
    assert splits["train"].ids[-1] == "train/cat/below/PICTURE.PNG"
    assert splits["val"].ids == [f"val/{name}/{image}.jpg" for name in ("ant", "cat") for image in range(2)]


def test_resize_and_centre_crop(tmp_path):
    pixels = np.zeros((40, 120, 3), np.uint8)
    pixels[:, :40, 0] = pixels[:, 40:80, 1] = pixels[:, 80:, 2] = 255
    for split in ("train", "val"):
        (tmp_path / split / "a").mkdir(parents=True)
        Image.fromarray(pixels).save(tmp_path / split / "a/wide.png")
        Image.fromarray(pixels.swapaxes(0, 1)).save(tmp_path / split / "a/tall.png")
    images = decode(list_splits(settings("image-folder", tmp_path), 0)["train"], 16).images
    assert images.shape == (2, 16, 16, 3)
    np.testing.assert_array_equal(images[0], images[1].swapaxes(0, 1))
    # The middle third is green; only its edges mix with their neighbours.
    assert (images[0][2:-2] == (0, 255, 0)).all()


def test_downscaling_is_antialiased(tmp_path):
    checkerboard = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)
    for split in ("train", "val"):
        (tmp_path / split / "a").mkdir(parents=True)
        Image.fromarray(checkerboard).save(tmp_path / split / "a/0.png")
    image = decode(list_splits(settings("image-folder", tmp_path), 0)["train"], 8).images[0]
    assert np.abs(image.astype(int) - 127).max() <= 2


def test_image_folder_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere \(data\.path\) does not exist; it must be a folder"):
        list_splits(settings("image-folder", tmp_path / "nowhere"), 0)


FOLDER_DAMAGE = {
    "no val": (partial(remove, "val"), FileNotFoundError, r"val/<class>/: it holds train/\."),
    "class lacks in val": (partial(remove, "val/cat"), FileNotFoundError, "val has no folder for class cat of .*train"),
    "class lacks in train": (partial(remove, "train/cat"), DataError, "val has a folder for class cat, which .*train"),
    "empty class": (partial(empty, "val/cat"), DataError, "no images of class cat in val; an image's name ends in"),
    "image in no class": (partial(put, "val/x.png", b""), DataError, r"val/x\.png lies in no class folder"),
}


@pytest.mark.parametrize("name", FOLDER_DAMAGE)
def test_image_folder_damage_is_named(folder, name):
    damage, error, message = FOLDER_DAMAGE[name]
    damage(folder)
    with pytest.raises(error, match=message):
        list_splits(settings("image-folder", folder), 0)


# ---- Digits


def test_digits():
    splits = list_splits(settings("digits"), 0)
    ids = {split: set(images.ids) for split, images in splits.items()}
    assert len(ids["train"]) + len(ids["val"]) == len(ids["train"] | ids["val"]) == 1797
    for label in range(10):
        counts = [np.count_nonzero(splits[split].labels == label) for split in ("train", "val")]
        assert counts[1] / sum(counts) == pytest.approx(0.2, abs=0.003)
    assert splits["train"].class_names == list("0123456789")
    assert ids["val"] != set(list_splits(settings("digits"), 1)["val"].ids)
    assert ids["val"] == set(list_splits(settings("digits"), 0)["val"].ids)


@pytest.mark.parametrize("split", ["train", "val"])
def test_digits_pixels(split):
    from sklearn.datasets import load_digits

    bunch = load_digits()
    digits = decode(list_splits(settings("digits", train=3, val=3), 0)[split], 8)
    rows = [int(name.removeprefix("digits/")) for name in digits.ids]
    np.testing.assert_array_equal(digits.labels, bunch.target[rows])
    expected = np.rint(bunch.images[rows] * 255 / 16)
    np.testing.assert_array_equal(digits.images, np.repeat(expected[..., None], 3, axis=-1))


def test_digits_upscaled():
    assert decode(list_splits(settings("digits", train=1, val=1), 0)["train"], 32).images.shape == (10, 32, 32, 3)


# ---- Subsets


def test_subset_is_drawn_by_the_seed():
    def draw(seed):
        return list_splits(settings("digits", classes=4, train=6, val=2), seed)

    first, again, other = draw(0), draw(0), draw(1)
    assert [first[split].ids for split in first] == [again[split].ids for split in again]
    assert first["train"].ids != other["train"].ids
    assert len({tuple(draw(seed)["train"].class_names) for seed in range(5)}) > 1


def test_subset_holds_what_it_promises():
    full = list_splits(settings("digits"), 3)
    splits = list_splits(settings("digits", classes=4, train=6, val=2), 3)
    assert splits["train"].class_names == splits["val"].class_names == sorted(splits["val"].class_names)
    assert len(splits["train"].class_names) == 4
    for split, n_images in (("train", 6), ("val", 2)):
        labels = dict(zip(full[split].ids, full[split].labels.tolist(), strict=True))
        assert Counter(splits[split].labels.tolist()) == dict.fromkeys(range(4), n_images)
        for name, label in zip(splits[split].ids, splits[split].labels, strict=True):
            assert splits[split].class_names[label] == str(labels[name])


def test_smaller_subsets_are_parts_of_larger_ones():
    def ids(**subset):
        return set(list_splits(settings("digits", **subset), 0)["train"].ids)

    assert ids(classes=3, train=5) < ids(classes=6, train=5) < ids(classes=6, train=20) < ids(train=20) < ids()


def test_subset_does_not_depend_on_the_order_of_files(tiny, monkeypatch):
    config = settings("tiny-imagenet", tiny, classes=2, train=3, val=2)
    expected = list_splits(config, 0)
    walk = os.walk

    def backwards(*arguments, **options):
        for folder, folder_names, file_names in walk(*arguments, **options):
            folder_names.sort(reverse=True)
            yield folder, folder_names, sorted(file_names, reverse=True)

    monkeypatch.setattr(os, "walk", backwards)
    for split, images in list_splits(config, 0).items():
        assert images.ids == expected[split].ids
        assert images.labels.tolist() == expected[split].labels.tolist()


@pytest.mark.parametrize(
    ("subset", "message"),
    [
        ({"classes": 4}, r"data\.classes is 4, but the source has 3 classes"),
        ({"train": 6}, r"data\.images_per_class\.train is 6, but class n01 dog has 5 images in train"),
        ({"val": 4}, r"data\.images_per_class\.val is 4, but class n01 dog has 3 images in val"),
    ],
)
def test_subset_larger_than_the_source(tiny, subset, message):
    with pytest.raises(DataError, match=message):
        list_splits(settings("tiny-imagenet", tiny, **subset), 0)


# ---- Download

CONTENT = np.random.default_rng(0).bytes(300_000)


class Server(ThreadingHTTPServer):
    """Serves `content` under any path, and notes which ranges were asked for."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.honours_range, self.bytes_per_answer, self.status = CONTENT, True, None, None
        self.ranges = []

    @property
    def remote(self):
        size, md5 = len(self.content), hashlib.md5(self.content).hexdigest()
        return RemoteFile(f"http://127.0.0.1:{self.server_port}/set.zip", size, md5)


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        asked = self.headers.get("Range")
        self.server.ranges.append(asked)
        if self.server.status:
            self.send_error(self.server.status)
            return
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and self.server.honours_range else 0
        content = self.server.content[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        # Fewer bytes than announced: the connection breaks.
        self.wfile.write(content[: self.server.bytes_per_answer])

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = Server()
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_download(server, tmp_path):
    download(server.remote, tmp_path / "data/set.zip")
    assert files_below(tmp_path) == ["data/set.zip"]
    assert (tmp_path / "data/set.zip").read_bytes() == CONTENT
    assert server.ranges == [None]


def test_download_goes_on_where_it_broke_off(server, tmp_path):
    server.bytes_per_answer = 200_000
    with pytest.raises(DataError, match=r"set\.zip .*Run again to continue, or put the file at .*set\.zip yourself"):
        download(server.remote, tmp_path / "set.zip")
    assert files_below(tmp_path) == ["set.zip.part"]
    assert 0 < (tmp_path / "set.zip.part").stat().st_size <= 200_000
    broken_off = (tmp_path / "set.zip.part").stat().st_size
    download(server.remote, tmp_path / "set.zip")
    assert server.ranges == [None, f"bytes={broken_off}-"]
    assert (tmp_path / "set.zip").read_bytes() == CONTENT
    assert files_below(tmp_path) == ["set.zip"]


def test_download_starts_over_where_ranges_are_ignored(server, tmp_path):
    server.honours_range = False
    (tmp_path / "set.zip.part").write_bytes(CONTENT[:1000])
    download(server.remote, tmp_path / "set.zip")
    assert server.ranges == ["bytes=1000-"]
    assert (tmp_path / "set.zip").read_bytes() == CONTENT


def test_download_starts_over_where_the_part_is_too_long(server, tmp_path):
    (tmp_path / "set.zip.part").write_bytes(CONTENT + b"more")
    download(server.remote, tmp_path / "set.zip")
    assert (tmp_path / "set.zip").read_bytes() == CONTENT


def test_whole_part_needs_no_request(server, tmp_path):
    (tmp_path / "set.zip.part").write_bytes(CONTENT)
    download(server.remote, tmp_path / "set.zip")
    assert server.ranges == []
    assert (tmp_path / "set.zip").read_bytes() == CONTENT


def test_download_with_wrong_md5_leaves_nothing(server, tmp_path):
    remote = RemoteFile(server.remote.url, len(CONTENT), "0" * 32)
    with pytest.raises(DataError, match=r"http://127.* gave a damaged file \(MD5 \w+, not 0+\)\. Run again to start"):
        download(remote, tmp_path / "set.zip")
    assert files_below(tmp_path) == []


def test_download_of_wrong_size_keeps_what_came_before(server, tmp_path):
    remote = server.remote
    server.content, server.honours_range = b"<html>Please log in</html>", False
    (tmp_path / "set.zip.part").write_bytes(CONTENT[:1000])
    with pytest.raises(DataError, match="failed: the server offers 26 bytes instead of 300,000"):
        download(remote, tmp_path / "set.zip")
    assert (tmp_path / "set.zip.part").read_bytes() == CONTENT[:1000]


@pytest.mark.parametrize("status", [404, 503])
def test_download_refused(server, tmp_path, status):
    server.status = status
    with pytest.raises(DataError, match=rf"Download of http://127.*/set\.zip to .*set\.zip failed: .*{status}"):
        download(server.remote, tmp_path / "set.zip")
    assert files_below(tmp_path) == []


def test_download_without_a_server(tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound, but nobody listens
        remote = RemoteFile(f"http://127.0.0.1:{unused.getsockname()[1]}/set.zip", 10, "")
        with pytest.raises(DataError, match=r"set\.zip failed: .*refused"):
            download(remote, tmp_path / "set.zip")


def test_tiny_imagenet_is_downloaded_once(tiny_zip, server, tmp_path, monkeypatch):
    server.content = tiny_zip.read_bytes()
    monkeypatch.setattr(tiny_imagenet, "TINY_IMAGENET", server.remote)
    config = settings("tiny-imagenet", tmp_path / "new/tiny-imagenet-200", download=True)
    for _ in range(2):
        assert decode(list_splits(config, 0)["val"], 64).images.shape == (9, 64, 64, 3)
    assert files_below(tmp_path / "new") == ["tiny-imagenet-200.zip"]
    assert len(server.ranges) == 1


# ---- Start-up


def test_asking_what_a_source_says_of_itself_imports_nothing_slow(repository):
    command = (
        "import sys; from perturbflow.data.sources import SOURCES; "
        "[source.class_sizes({'path': 'nowhere'}) for source in SOURCES.values()]; "
        "slow = {'torch', 'timm', 'PIL', 'h5py', 'pyarrow', 'scipy', 'sklearn', 'tqdm'}; "
        "sys.exit(', '.join(slow & set(sys.modules)) or 0)"
    )
    subprocess.run([sys.executable, "-c", command], check=True, cwd=repository)
