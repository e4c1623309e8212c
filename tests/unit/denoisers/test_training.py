import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from perturbflow.denoisers.denoised_set import denoise
from perturbflow.denoisers.networks import build_denoiser
from perturbflow.denoisers.training import DENOISER_HISTORY, assign_sets, train_denoiser
from perturbflow.files.images import image_writer, open_images
from perturbflow.training import Resumable
from tests.unit.toy_training import Centred, Killed, assert_same, generator, kill_after

CPU = torch.device("cpu")
every_device = pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])


# ------------------------------------------------------------------------------------------------ the mix


MIX = {"fgsm_v1": 0.05, "fgsm_v2": 0.30, "ifgsm_v1": 0.05, "ifgsm_v2": 0.30, "mifgsm": 0.30}


@pytest.mark.parametrize("n_images", [1, 3, 7, 32, 40])
def test_each_batch_keeps_the_mix_within_one_image(n_images):
    draws, shares = generator(), torch.tensor(list(MIX.values()))
    counts = torch.stack([assign_sets(n_images, MIX, draws).bincount(minlength=5) for _ in range(300)])
    assert (counts.sum(1) == n_images).all()
    assert ((counts - n_images * shares).abs() < 1).all()


def test_the_mix_is_exact_in_the_mean():
    draws = generator()
    counts = torch.stack([assign_sets(32, MIX, draws).bincount(minlength=5) for _ in range(4000)]).double()
    expected = 32 * torch.tensor(list(MIX.values()))
    torch.testing.assert_close(counts.mean(0), expected.double(), atol=0.03, rtol=0)


def test_every_place_in_the_batch_gets_every_set():
    draws = generator()
    places = torch.stack([assign_sets(20, MIX, draws) for _ in range(4000)])
    for number, share in enumerate(MIX.values()):
        torch.testing.assert_close(
            (places == number).double().mean(0), torch.full((20,), share).double(), atol=0.04, rtol=0
        )


@pytest.mark.parametrize("mix", [{"a": 1.0}, {"a": 2.0, "b": 6.0}, {"a": 0.1, "b": 0.2, "c": 0.7}])
def test_shares_are_relative(mix):
    numbers = assign_sets(40, mix, generator())
    assert numbers.bincount(minlength=len(mix)).tolist() == [
        round(40 * share / sum(mix.values())) for share in mix.values()
    ]


# ------------------------------------------------------------------------------------------------ training


def scenes(n_images=20, size=16):
    """uint8 (N, H, W, 3) smooth images away from the ends of the range."""
    coarse = torch.rand(n_images, 3, 4, 4, generator=generator(2)) * 160 + 45
    smooth = F.interpolate(coarse, (size, size), mode="bilinear", align_corners=False)
    return smooth.permute(0, 2, 3, 1).round().to(torch.uint8).numpy()


def shifted(clean, *levels):
    """Adversarial sets, float32, each brighter than `clean` by its level."""
    return {f"set{number}": clean.astype(np.float32) + level for number, level in enumerate(levels)}


def stage(epochs, learning_rate=1e-3, schedule="constant"):
    return {"epochs": epochs, "learning_rate": learning_rate, "weight_decay": 1e-5, "schedule": schedule}


STAGES = (stage(3, 1e-2, "one_cycle"), stage(2, 1e-3))


def small_denoiser(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(
        Centred(), nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Dropout(0.2), nn.Conv2d(4, 3, 3, padding=1)
    )


def train_small(path, clean, adversarial, network=None, after_epoch=lambda history: None, **others):
    chosen = {
        "mix": {name: 1 / len(adversarial) for name in adversarial},
        "batch_size": 8,
        "precision": "float32",
        "stages": STAGES,
        **others,
    }
    network = network or small_denoiser()
    history = train_denoiser(network, clean, adversarial, chosen, 5, CPU, Resumable(path, "same"), after_epoch)
    return network, history


def test_stages_follow_each_other(tmp_path):
    clean = scenes()
    _, history = train_small(tmp_path / "resume.pt", clean, shifted(clean, 5))
    assert [row["stage"] for row in history] == [1, 1, 1, 2, 2]
    assert [row["epoch"] for row in history] == [1, 2, 3, 4, 5]
    assert list(history[0]) == list(DENOISER_HISTORY)
    rates = [row["learning_rate"] for row in history]
    assert rates[0] == pytest.approx(1e-2 / 25)
    assert max(rates[:3]) > 5e-3
    assert rates[3:] == [1e-3, 1e-3]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_killed_denoiser_goes_on_inside_and_between_stages(tmp_path, precision):
    clean = scenes()
    adversarial = shifted(clean, 3, -5)
    undisturbed = train_small(tmp_path / "undisturbed.pt", clean, adversarial, precision=precision)
    for epoch in range(1, 6):  # the first stage ends after the third
        path = tmp_path / f"{epoch}.pt"
        with pytest.raises(Killed):
            train_small(path, clean, adversarial, precision=precision, after_epoch=kill_after(epoch))
        resumed = train_small(path, clean, adversarial, small_denoiser(seed=1), precision=precision)
        assert_same(resumed, undisturbed)


def test_a_killed_denoiser_of_the_registry_drops_what_it_would_have_dropped(tmp_path):
    def network(seed=0):
        torch.manual_seed(seed)
        return build_denoiser("fusionnet_original", 2, residual=False)

    clean = scenes()
    adversarial = shifted(clean, 3, -5)
    undisturbed = train_small(tmp_path / "undisturbed.pt", clean, adversarial, network())
    with pytest.raises(Killed):
        train_small(tmp_path / "killed.pt", clean, adversarial, network(), kill_after(2))
    assert_same(train_small(tmp_path / "killed.pt", clean, adversarial, network(seed=1)), undisturbed)


def test_the_mean_squared_error_is_measured_under_another_loss(tmp_path):
    clean = scenes(24)
    settings = {"mix": {"set0": 1.0}, "batch_size": 8, "precision": "float32", "stages": [stage(1)]}
    adversarial = shifted(clean, 3)
    resumable = Resumable(tmp_path / "resume.pt", "")
    (row,) = train_denoiser(Nothing(), clean, adversarial, settings, 5, CPU, resumable, loss_of=F.l1_loss)
    assert row["train_loss"] == pytest.approx(3, rel=1e-5)
    assert row["train_mse_px2"] == pytest.approx(9, rel=1e-5)


def test_without_stages_nothing_is_trained(tmp_path):
    clean = scenes()
    _, history = train_small(tmp_path / "resume.pt", clean, {}, nn.Identity(), stages=[])
    assert history == []
    assert not (tmp_path / "resume.pt").exists()


def test_each_stage_has_an_optimizer_of_its_own(tmp_path):
    """The second stage starts without the moments of the first: its first step is as long as Adam's first step."""
    clean = scenes()
    weights = []
    network = small_denoiser()
    others = {"stages": [stage(1, 1e-2), stage(1, 1e-3)], "batch_size": 20}
    train_small(
        tmp_path / "resume.pt",
        clean,
        shifted(clean, 20),
        network,
        after_epoch=lambda _: weights.append(network[1].weight.detach().clone()),
        **others,
    )
    step = (weights[1] - weights[0]).abs()
    torch.testing.assert_close(step, torch.full_like(step, 1e-3), rtol=0.02, atol=0)


class Nothing(nn.Module):
    """Gives back its input; what it is given can be looked at."""

    def __init__(self):
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(()))
        self.seen = []

    def forward(self, pixels):
        self.seen.append(pixels.detach().clone())
        return pixels + self.unused * 0


def test_errors_are_in_pixels_squared_over_the_mix(tmp_path):
    clean = scenes(40)
    mix = {"set0": 0.05, "set1": 0.30, "set2": 0.05, "set3": 0.60}
    network = Nothing()
    _, history = train_small(
        tmp_path / "resume.pt",
        clean,
        shifted(clean, 1, 2, -3, 4),
        network,
        mix=mix,
        batch_size=20,
        stages=[stage(3)],
    )
    expected = 0.05 * 1 + 0.30 * 4 + 0.05 * 9 + 0.60 * 16
    assert [row["train_mse_px2"] for row in history] == pytest.approx(3 * [expected], rel=1e-5)


def test_each_adversary_is_beside_its_own_clean_image(tmp_path):
    """Image i is full of i, its adversary in set k is i + k / 10: all pairs of one batch can be read off the input."""
    n_images = 24
    clean = np.broadcast_to(np.arange(n_images, dtype=np.uint8)[:, None, None, None], (n_images, 16, 16, 3)).copy()
    network = Nothing()
    _, history = train_small(tmp_path / "resume.pt", clean, shifted(clean, 0.1, 0.2, 0.3), network, stages=[stage(2)])
    assert [len(batch) for batch in network.seen] == 6 * [8]
    values = torch.stack(network.seen)[..., 0, 0, 0].flatten().reshape(2, n_images)
    for epoch in values:
        assert sorted(epoch.int().tolist()) == list(range(n_images))
        counts = (((epoch - epoch.floor()) * 10).round() - 1).long().bincount(minlength=3)
        assert counts.sum() == n_images
        assert counts.min() >= 6  # two or three of eight, in each of three batches
    assert not torch.equal(values[0], values[1])
    assert all(0.01 <= row["train_mse_px2"] <= 0.09 for row in history)


def test_images_read_from_files_train_the_same_network(tmp_path):
    clean = scenes()
    adversarial = shifted(clean, 3, -5)
    for name, images in {"clean": clean, **adversarial}.items():
        with image_writer(tmp_path / f"{name}.h5", len(images), images.shape[1:], str(images.dtype), {}) as file:
            file["images"][:] = images
    stored = {name: open_images(tmp_path / f"{name}.h5") for name in adversarial}
    result = train_small(tmp_path / "1.pt", open_images(tmp_path / "clean.h5"), stored)
    assert_same(result, train_small(tmp_path / "2.pt", clean, adversarial))


@every_device
def test_a_denoiser_learns_to_remove_a_fixed_pattern(tmp_path, device):
    clean = scenes(24)
    rows, columns = np.indices((16, 16))
    pattern = (6.0 * (-1) ** (rows + columns))[None, :, :, None].astype(np.float32)
    adversarial = {"weak": clean + pattern / 2, "strong": clean + pattern}
    torch.manual_seed(0)
    device = torch.device(device)
    denoiser = build_denoiser("unet", 8, residual=True).to(device, memory_format=torch.channels_last)
    chosen = {
        "mix": {"weak": 0.25, "strong": 0.75},
        "batch_size": 8,
        "precision": "float32",
        "stages": [stage(30, 2e-2, "one_cycle")],
    }
    history = train_denoiser(denoiser, clean, adversarial, chosen, 0, device, Resumable(tmp_path / "resume.pt", ""))
    assert history[-1]["train_mse_px2"] < 0.1 * history[0]["train_mse_px2"]
    for images in adversarial.values():
        denoised = np.concatenate([batch.cpu().numpy() for _, batch in denoise(denoiser.eval(), images, 8, device)])
        assert np.square(denoised - clean).mean() < 0.1 * np.square(images - clean).mean()


def test_a_denoiser_whose_loss_is_not_finite_ends(tmp_path):
    clean = scenes()
    adversarial = shifted(clean, np.nan)
    with pytest.raises(FloatingPointError, match="nan"):
        train_small(tmp_path / "resume.pt", clean, adversarial)
