import h5py
import numpy as np
import pytest

from perturbflow.files.sets import ATTACK_COLUMNS, set_writer, unattacked

KNOWN = {"label": np.array([3, 0]), "index": np.array([7, 9])}


def order_in(path):
    """The datasets in the order in which they were written."""
    with h5py.File(path) as file:
        return sorted(file, key=lambda name: file[name].id.get_offset())


def test_columns_lie_behind_the_images_in_one_order(tmp_path):
    """What they are when the images are written: an attack fills them meanwhile."""
    columns = {**dict(reversed(unattacked(2).items())), **KNOWN}
    with set_writer(tmp_path / "set.h5", (4, 5, 3), columns, {"seed": "0"}) as images:
        images[1:] = np.full((1, 4, 5, 3), 0.25)
        columns["steps"][1] = 6
    assert order_in(tmp_path / "set.h5") == ["images", "index", "label", *ATTACK_COLUMNS]
    with h5py.File(tmp_path / "set.h5") as file:
        assert dict(file.attrs) == {"seed": "0"}
        assert (file["images"].shape, file["images"].dtype) == ((2, 4, 5, 3), np.float32)
        assert file["images"][:].reshape(2, -1).mean(1).tolist() == [0, 0.25]
        assert file["label"][:].tolist() == [3, 0] and file["index"][:].tolist() == [7, 9]
        assert file["steps"][:].tolist() == [0, 6]
        assert {name: str(file[name].dtype) for name in ATTACK_COLUMNS} == ATTACK_COLUMNS


def test_a_denoised_set_has_no_columns_of_an_attack(tmp_path):
    with set_writer(tmp_path / "set.h5", (4, 5, 3), KNOWN, {}) as images:
        images[:] = 1
    assert order_in(tmp_path / "set.h5") == ["images", "index", "label"]


def test_an_error_leaves_no_file(tmp_path):
    with pytest.raises(KeyError), set_writer(tmp_path / "set.h5", (4, 5, 3), KNOWN, {}):
        raise KeyError
    assert list(tmp_path.iterdir()) == []
