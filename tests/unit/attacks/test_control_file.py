"""From the files of a set to that of its control."""

import json

import h5py
import numpy as np

from perturbflow.attacks.noise import control_to_file
from perturbflow.files.images import DataSplit
from perturbflow.files.sets import ATTACK_COLUMNS, set_writer
from perturbflow.files.whole import sha256
from tests.inputs import write_split

N_IMAGES = 20


def test_a_control_is_a_set_that_nobody_attacked(tmp_path):
    data, adversarial, output = (str(tmp_path / f"{name}.h5") for name in ("data", "set", "control"))
    generator = np.random.default_rng(0)
    clean = generator.integers(20, 230, (N_IMAGES, 6, 6, 3), np.uint8)
    label = np.arange(N_IMAGES) % 2
    write_split(data, DataSplit(clean, label, [str(row) for row in range(N_IMAGES)], ["ant", "bee"]))
    attacked = (clean + generator.normal(0, 2, clean.shape)).astype(np.float32)
    known = {"index": np.arange(N_IMAGES), "label": label}
    steps = {"steps": np.ones(N_IMAGES, np.int64), "succeeded": np.ones(N_IMAGES, bool)}
    with set_writer(adversarial, clean.shape[1:], {**known, **steps}, {}) as images:
        images[:] = attacked

    control_to_file(data, adversarial, output, {"attack": "sign_noise", "norm_of": "set"}, 3, "train")

    with h5py.File(output) as file:
        noise = file["images"][:].astype(np.float64) - clean
        norms = np.linalg.norm((attacked - clean).reshape(N_IMAGES, -1), axis=1)
        np.testing.assert_allclose(np.linalg.norm(noise.reshape(N_IMAGES, -1), axis=1), norms, rtol=1e-5)
        assert np.ptp(np.abs(noise), axis=(1, 2, 3)).max() < 1e-4
        assert {name: file[name][:].tolist() for name in known} == {name: known[name].tolist() for name in known}
        assert not any(file[name][:].any() for name in ATTACK_COLUMNS)
        assert json.loads(file.attrs["config"]) == {"attack": "sign_noise", "norm_of": "set", "seed": 3}
        assert json.loads(file.attrs["class_names"]) == ["ant", "bee"]
        assert file.attrs["data_sha256"] == sha256(data)
        assert file.attrs["adversarial_sha256"] == sha256(adversarial)
