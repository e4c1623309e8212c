"""Sets as folders of PNG files: there and back without a loss."""

import csv
import json
import re

import h5py
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from perturbflow.classifiers.accuracy import top1_of_array
from perturbflow.data.sources import list_splits
from perturbflow.files import png
from perturbflow.files.images import DataSplit, image_writer, open_images, read_columns
from perturbflow.files.png import PngError, export_set, import_set, main
from perturbflow.files.whole import BadFileError
from tests.inputs import decode, write_split

N_IMAGES, SIZE = 13, 16
CLASS_NAMES = ["n01 goldfish, gold", "n02 'quoted' \"fish\"", "n03 NA"]


def attack_columns():
    generator = np.random.default_rng(1)
    return {
        "steps": generator.integers(-1, 20, N_IMAGES),
        "succeeded": generator.random(N_IMAGES) < 0.5,
        "already_misclassified": generator.random(N_IMAGES) < 0.5,
    }


def write_set(path, images, index, label, **columns):
    with image_writer(path, len(images), images.shape[1:], "float32", {}) as file:
        file["images"][:] = images
        for name, values in {"index": index, "label": label, **columns}.items():
            file[name] = values
    return path


@pytest.fixture
def data(tmp_path):
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (N_IMAGES, SIZE, SIZE, 3)).astype(np.uint8)
    labels = np.sort(np.arange(N_IMAGES) % len(CLASS_NAMES))
    split = DataSplit(pixels, labels, [f"{row}.png" for row in range(N_IMAGES)], CLASS_NAMES)
    write_split(tmp_path / "data.h5", split, {})
    return tmp_path / "data.h5"


@pytest.fixture
def images(data):
    change = np.random.default_rng(2).integers(-9, 10, (N_IMAGES, SIZE, SIZE, 3))
    return (open_images(data)[:] + change).clip(0, 255).astype(np.float32)


@pytest.fixture
def adversarial(tmp_path, data, images):
    (label,) = read_columns(data, "label")
    return write_set(tmp_path / "set.h5", images, np.arange(N_IMAGES), label, **attack_columns())


def columns_of(path):
    with h5py.File(path) as file:
        return {name: file[name][:] for name in file}


@pytest.mark.parametrize("block", [1, 4, 256])
def test_there_and_back(tmp_path, adversarial, data, block, monkeypatch):
    monkeypatch.setattr(png, "IMAGES_PER_BLOCK", block)
    export_set(adversarial, data, tmp_path / "folder")
    import_set(tmp_path / "folder", tmp_path / "back.h5")
    before, after = columns_of(adversarial), columns_of(tmp_path / "back.h5")
    assert before.keys() == after.keys()
    for name, values in before.items():
        assert values.dtype == after[name].dtype
        np.testing.assert_array_equal(values, after[name])
    with h5py.File(tmp_path / "back.h5") as file:
        assert json.loads(file.attrs["class_names"]) == CLASS_NAMES
        assert {"config", "versions", "git_commit", "table_sha256"} <= set(file.attrs)


def test_accuracy_is_the_same(tmp_path, adversarial, data):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIZE**2, len(CLASS_NAMES)))
    export_set(adversarial, data, tmp_path / "folder")
    import_set(tmp_path / "folder", tmp_path / "back.h5")
    accuracies = [
        top1_of_array(network, open_images(path), *read_columns(path, "label"), 5, torch.device("cpu"))
        for path in (adversarial, tmp_path / "back.h5")
    ]
    assert accuracies[0] == accuracies[1]
    assert 0 < accuracies[0] < 1


def test_the_folder_explains_itself(tmp_path, adversarial, data, images):
    export_set(adversarial, data, tmp_path / "folder")
    with open(tmp_path / "folder" / "set.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    expected = columns_of(adversarial)
    assert list(rows[0]) == ["file", "index", "label", "class_name", "steps", "succeeded", "already_misclassified"]
    assert len(rows) == N_IMAGES
    for position, row in enumerate(rows):
        name = CLASS_NAMES[expected["label"][position]]
        assert row["file"] == f"{name}/{position:02}.png"
        assert row["class_name"] == name
        for column in ("index", "label", "steps", "succeeded", "already_misclassified"):
            assert row[column] == str(expected[column][position])
        with Image.open(tmp_path / "folder" / row["file"]) as picture:
            assert picture.format == "PNG" and picture.mode == "RGB"
            np.testing.assert_array_equal(np.asarray(picture), images[position])
    assert sum(path.is_file() for path in (tmp_path / "folder").rglob("*")) == N_IMAGES + 1


def test_is_a_split_of_an_image_folder(tmp_path, adversarial, data, images):
    for split in ("train", "val"):
        export_set(adversarial, data, tmp_path / "pictures" / split)
    (tmp_path / "pictures" / "val" / "set.csv").unlink()
    everything = {"train": None, "val": None}
    config = {"source": "image-folder", "path": tmp_path / "pictures", "classes": None, "images_per_class": everything}
    for listed in list_splits(config, seed=0).values():
        split = decode(listed, SIZE)
        assert split.class_names == CLASS_NAMES
        np.testing.assert_array_equal(split.images, images)
        np.testing.assert_array_equal(split.labels, columns_of(adversarial)["label"])


def test_a_part_of_the_data_in_any_order(tmp_path, data, images):
    index = np.array([11, 2, 7])
    label = columns_of(data)["label"][index]
    some = write_set(tmp_path / "some.h5", images[index], index, label, steps=np.array([3, 1, 2]))
    export_set(some, data, tmp_path / "folder")
    import_set(tmp_path / "folder", tmp_path / "back.h5")
    after = columns_of(tmp_path / "back.h5")
    assert after.keys() == {"images", "index", "label", "steps"}
    assert after["index"].tolist() == [2, 7, 11]
    assert after["steps"].tolist() == [1, 2, 3]
    np.testing.assert_array_equal(after["images"], images[[2, 7, 11]])
    np.testing.assert_array_equal(after["label"], columns_of(data)["label"][[2, 7, 11]])


def test_a_class_without_images_keeps_the_numbers_of_the_others(tmp_path, data, images):
    index = np.array([N_IMAGES - 1])
    some = write_set(tmp_path / "some.h5", images[index], index, np.array([2]))
    export_set(some, data, tmp_path / "folder")
    import_set(tmp_path / "folder", tmp_path / "back.h5")
    assert columns_of(tmp_path / "back.h5")["label"].tolist() == [2]
    with h5py.File(tmp_path / "back.h5") as file:
        assert json.loads(file.attrs["class_names"]) == ["", "", CLASS_NAMES[2]]


def test_denoised_sets_have_no_columns_of_the_attack(tmp_path, data, images):
    (label,) = read_columns(data, "label")
    denoised = write_set(tmp_path / "denoised.h5", images - 0.25 * (images > 100), np.arange(N_IMAGES), label)
    with pytest.raises(PngError, match="not whole"):
        export_set(denoised, data, tmp_path / "folder")
    export_set(denoised, data, tmp_path / "folder", round_pixels=True)
    import_set(tmp_path / "folder", tmp_path / "back.h5")
    after = columns_of(tmp_path / "back.h5")
    assert after.keys() == {"images", "index", "label"}
    np.testing.assert_array_equal(after["images"], images)


# ---- Errors


def nothing_left(folder):
    return not folder.exists() and not list(folder.parent.glob(".*.part"))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            100.5,
            r"set\.h5 has pixel values that are not whole; set round_to_8_bits: true for this set, or pass --round",
        ),
        (np.nan, r"set\.h5 has pixel values outside of 0\.\.255"),
        (-1.0, r"outside of 0\.\.255"),
        (256.0, r"outside of 0\.\.255"),
    ],
)
def test_refuses_pixels_that_a_png_cannot_hold(tmp_path, adversarial, data, value, message, monkeypatch):
    monkeypatch.setattr(png, "IMAGES_PER_BLOCK", 4)
    with h5py.File(adversarial, "r+") as file:
        file["images"][N_IMAGES - 1, 3, 3, 1] = value
    with pytest.raises(PngError, match=message):
        export_set(adversarial, data, tmp_path / "folder")
    assert nothing_left(tmp_path / "folder")


def test_refuses_the_data_of_another_set(tmp_path, adversarial, data):
    with h5py.File(adversarial, "r+") as file:
        file["label"][0] = 2
    with pytest.raises(PngError, match=r"data\.h5 is not the data of .*set\.h5"):
        export_set(adversarial, data, tmp_path / "folder")
    with h5py.File(adversarial, "r+") as file:
        file["label"][0] = 0
        file["index"][-1] = N_IMAGES
    with pytest.raises(PngError, match=r"data\.h5 is not the data of .*set\.h5"):
        export_set(adversarial, data, tmp_path / "folder")
    with pytest.raises(BadFileError, match="no dataset class_name"):
        export_set(adversarial, adversarial, tmp_path / "folder")
    with pytest.raises(FileNotFoundError, match=r"none\.h5 does not exist"):
        export_set(tmp_path / "none.h5", data, tmp_path / "folder")
    assert nothing_left(tmp_path / "folder")


def test_refuses_a_folder_that_holds_something(tmp_path, adversarial, data):
    folder = tmp_path / "folder"
    folder.mkdir()
    export_set(adversarial, data, folder)
    before = sorted(folder.rglob("*"))
    with pytest.raises(FileExistsError, match="folder exists and is not an empty folder; remove it"):
        export_set(adversarial, data, folder)
    assert sorted(folder.rglob("*")) == before
    with pytest.raises(FileExistsError, match="is not an empty folder"):
        export_set(adversarial, data, data)


def test_a_broken_export_leaves_nothing(tmp_path, adversarial, data, monkeypatch):
    folder = tmp_path / "folder"
    killed = tmp_path / ".folder.1.part"
    (killed / "class").mkdir(parents=True)

    def full(path, pixels):
        raise OSError("No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(png, "_write_picture", full)
        with pytest.raises(OSError, match="No space left"):
            export_set(adversarial, data, folder)
    assert nothing_left(folder)


@pytest.mark.parametrize(
    ("names", "folders"),
    [(["CD/DVD", "..", ".x", "a\\b"], ["CD_DVD", "_.", "_x", "a_b"]), (["plain name"], ["plain name"])],
)
def test_names_of_folders(names, folders):
    assert png._folder_names(names) == folders


def test_refuses_classes_that_would_share_a_folder():
    with pytest.raises(PngError, match="several classes would lie in the folder a_b"):
        png._folder_names(["a/b", "c", "a_b"])


@pytest.fixture
def folder(tmp_path, adversarial, data):
    export_set(adversarial, data, tmp_path / "folder")
    return tmp_path / "folder"


def edit(folder, old, new):
    table = folder / "set.csv"
    text = table.read_text()
    assert re.search(old, text)
    table.write_text(re.sub(old, new, text, count=1))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("file,index", "name,index", "set.csv has no column file"),
        (r"(?s)\n.*", "\n", "set.csv lists no pictures"),
        (r"(?s).*", "", r"set.csv cannot be read .No columns"),
        ('00.png",0,', '00.png",zero,', "set.csv cannot be read .*its columns are file, index, label"),
        ('00.png",0,', '00.png",,', "set.csv cannot be read"),
        ('00.png",0,', '00.png",1,', "no index stands there twice"),
        ('00.png",0,', '00.png",-1,', "must not be negative"),
        ("(True|False)", "perhaps", "set.csv cannot be read"),
    ],
)
def test_refuses_a_bad_table(tmp_path, folder, old, new, message):
    edit(folder, old, new)
    with pytest.raises(PngError, match=message):
        import_set(folder, tmp_path / "back.h5")
    assert nothing_left(tmp_path / "back.h5")


def test_refuses_bad_pictures(tmp_path, folder, monkeypatch):
    monkeypatch.setattr(png, "IMAGES_PER_BLOCK", 4)
    path = sorted(folder.rglob("*.png"))[-1]

    def refused(error, message):
        with pytest.raises(error, match=message):
            import_set(folder, tmp_path / "back.h5")
        assert nothing_left(tmp_path / "back.h5")

    Image.new("RGB", (SIZE, SIZE + 1)).save(path)
    refused(PngError, rf"{path.name} is {SIZE}x{SIZE + 1}, others are {SIZE}x{SIZE}")
    Image.new("L", (SIZE, SIZE)).save(path)
    refused(PngError, rf"{path.name} has mode L; save it as RGB")
    for content in (b"no picture", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"):
        path.write_bytes(content)
        refused(PngError, rf"{path.name} cannot be decoded")
    path.unlink()
    refused(FileNotFoundError, rf"{path.name} is missing; set.csv lists it")
    (folder / "set.csv").unlink()
    refused(FileNotFoundError, r"set\.csv does not exist; import needs")


def test_does_not_overwrite_a_set(tmp_path, folder, adversarial):
    before = adversarial.read_bytes()
    with pytest.raises(FileExistsError, match=r"set\.h5 exists; remove it"):
        import_set(folder, adversarial)
    assert adversarial.read_bytes() == before


# ---- Command line


def test_command_line(tmp_path, adversarial, data, images, capsys):
    main(["export", str(adversarial), str(data), str(tmp_path / "folder")])
    main(["import", str(tmp_path / "folder"), str(tmp_path / "back.h5")])
    np.testing.assert_array_equal(open_images(tmp_path / "back.h5")[:], images)
    assert "13/13" in capsys.readouterr().err

    with h5py.File(adversarial, "r+") as file:
        file["images"][:] += 0.25 * (images < 255)
    with pytest.raises(SystemExit) as stopped:
        main(["export", str(adversarial), str(data), str(tmp_path / "other")])
    assert stopped.value.code == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("python -m perturbflow.files.png: ") and last.endswith(
        "--round and lose small perturbations"
    )
    main(["export", "--round", str(adversarial), str(data), str(tmp_path / "other")])
    assert (tmp_path / "other" / "set.csv").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: command"),
        (["exprot"], "invalid choice: 'exprot'"),
        (["export", "set.h5", "data.h5"], "the following arguments are required: folder"),
        (["import", "folder", "set.h5", "--round"], "unrecognized arguments: --round"),
    ],
)
def test_mistakes_on_the_command_line(arguments, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_missing_files_on_the_command_line(tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["export", str(tmp_path / "none.h5"), str(tmp_path / "data.h5"), str(tmp_path / "folder")])
    assert stopped.value.code == 1
    error = capsys.readouterr().err
    assert "none.h5 does not exist" in error and "Traceback" not in error
