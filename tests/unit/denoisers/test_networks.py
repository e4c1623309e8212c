import functools
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from perturbflow.denoisers.denoised_set import denoise
from perturbflow.denoisers.networks import (
    DENOISERS,
    Denoiser,
    FusionNet,
    UNet,
    build_denoiser,
    load_denoiser,
    save_denoiser,
)

CPU = torch.device("cpu")
every_denoiser = pytest.mark.parametrize("name", DENOISERS)
every_device = pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])


def build(name, width=4, residual=True, seed=0):
    torch.manual_seed(seed)
    return build_denoiser(name, width, residual)


def random_pixels(n_images=2, height=32, width=32):
    return torch.rand(n_images, 3, height, width, generator=torch.Generator().manual_seed(0)) * 255


@functools.cache
def without_memory(name, width=64):
    with torch.device("meta"):
        return build_denoiser(name, width, residual=True).eval()


# ------------------------------------------------------------------------------------------------ the networks


@pytest.mark.parametrize(
    ("name", "width", "millions"),
    [
        ("unet", 64, 11.0),
        ("fusionnet", 64, 78.5),
        ("fusionnet", 32, 19.6),
        ("fusionnet", 16, 4.9),
        ("fusionnet_original", 64, 62.8),
    ],
)
def test_numbers_of_parameters(name, width, millions):
    count = sum(parameter.numel() for parameter in without_memory(name, width).parameters())
    assert round(count / 1e6, 1) == millions


def maps_of(network, kind):
    """Shapes (channels, height) of the outputs of all modules of a kind, in order, at 64 px."""
    shapes = []
    handles = [
        module.register_forward_hook(lambda module, inputs, output: shapes.append(tuple(output.shape[1:3])))
        for module in network.modules()
        if isinstance(module, kind)
    ]
    with torch.device("meta"):
        network(torch.empty(1, 3, 64, 64))
    for handle in handles:
        handle.remove()
    return shapes


def test_unet_has_the_levels_of_dunet():
    """Liao et al. 2018: 2, 3, 3, 3, 3 convolutions of 64, 128, 256, 256, 256 channels down, mirrored up, then 1x1."""
    down = 2 * [(64, 64)] + 3 * [(128, 32)] + 3 * [(256, 16)] + 3 * [(256, 8)] + 3 * [(256, 4)]
    up = 3 * [(256, 8)] + 3 * [(256, 16)] + 3 * [(128, 32)] + 2 * [(64, 64)]
    network = without_memory("unet").network
    assert maps_of(network, nn.Conv2d) == [*down, *up, (3, 64)]
    assert network.last.kernel_size == (1, 1)
    kernels = {module.kernel_size for module in network.modules() if isinstance(module, nn.Conv2d)}
    assert kernels == {(3, 3), (1, 1)}


def test_fusionnet_has_five_convolutions_a_level():
    """Quan et al. 2016: convolution, three in the residual block, convolution, on each level of the way down and up."""
    levels = [(64, 64), (128, 32), (256, 16), (512, 8), (1024, 4), (512, 8), (256, 16), (128, 32), (64, 64)]
    network = without_memory("fusionnet").network
    assert maps_of(network, nn.Conv2d) == [level for level in levels for _ in range(5)] + [(3, 64)]
    assert maps_of(network, nn.ConvTranspose2d) == levels[5:]
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            assert module.kernel_size == (3, 3)


def test_the_authors_fusionnet_has_the_layers_of_their_code():
    """Model.py of github.com/tmquan/FusionNet, layer by layer; there, a ReLU is a part of its convolution."""
    residual = ["normalise", "3x3", "relu", "normalise", "3x3", "relu"]
    expected = []
    for channels, height in [(64, 64), (128, 32), (256, 16), (512, 8)]:
        expected += [(one, channels, height) for one in ["3x3", "relu", *residual, "3x3", "relu", "drop"]]
    expected += [(one, 1024, 4) for one in ["3x3", "relu", *residual, "drop", "3x3", "relu"]]
    for channels, height in [(512, 8), (256, 16), (128, 32), (64, 64)]:
        expected += [("3x3", channels, height // 2), ("relu", channels, height // 2)]
        expected += [(one, channels, height) for one in ["double", "relu", "drop", *residual, "3x3", "relu"]]
    expected += [("1x1", 3, 64)]

    def kind(module):
        match module:
            case nn.Conv2d():
                return "x".join(map(str, module.kernel_size))
            case nn.ConvTranspose2d(kernel_size=(3, 3), stride=(2, 2)):
                return "double"
            case nn.Dropout(p=0.25):
                return "drop"
            case nn.BatchNorm2d():
                return "normalise"
            case nn.ReLU():
                return "relu"
        return str(module)

    network, found = without_memory("fusionnet_original").network, []
    handles = [
        module.register_forward_hook(lambda module, _, output: found.append((kind(module), *output.shape[1:3])))
        for module in network.modules()
        if not [*module.children()]
    ]
    with torch.device("meta"):
        network(torch.empty(1, 3, 64, 64))
    for handle in handles:
        handle.remove()
    assert found == expected


def test_the_parameters_of_the_authors_fusionnet_by_hand():
    """A 3x3 convolution from a to b channels has 9ab + b, the normalisation of c channels 2c."""

    def conv(channels_in, channels_out):
        return 9 * channels_in * channels_out + channels_out

    def residual(count):
        return 2 * (2 * count + conv(count, count))

    levels = [64, 128, 256, 512]
    down = sum(conv(a, b) + residual(b) + conv(b, b) for a, b in zip([3, *levels], [*levels, 1024], strict=True))
    up = sum(conv(2 * count, count) + conv(count, count) + residual(count) + conv(count, count) for count in levels)
    parameters = without_memory("fusionnet_original").parameters()
    assert sum(parameter.numel() for parameter in parameters) == down + up + 3 * 64 + 3 == 62_805_827


def test_the_authors_fusionnet_adds_what_passed_the_first_dropout():
    """Encoder's maps reach the decoder behind their dropout, and their sum is what the second one draws from."""
    network = build("fusionnet_original", residual=False).network.train()
    seen = {}
    network.down[0].register_forward_hook(lambda module, inputs, output: seen.update(skip=output))
    network.grow[3].register_forward_hook(lambda module, inputs, output: seen.update(grown=output))
    network.up[3].register_forward_pre_hook(lambda module, inputs: seen.update(into=inputs[0]))
    network(random_pixels())
    assert torch.equal(seen["into"], seen["skip"] + seen["grown"])
    without = nn.Sequential(*network.down[0][:-1])(random_pixels())
    dropped = (seen["skip"] == 0) & (without != 0)
    assert dropped.sum() / (without != 0).sum() == pytest.approx(0.25, abs=0.02)


def test_dropout_is_of_training_alone():
    denoiser, pixels = build("fusionnet_original", residual=False), random_pixels()
    with torch.no_grad():
        assert not torch.equal(denoiser.train()(pixels), denoiser(pixels))
        assert torch.equal(denoiser.eval()(pixels), denoiser(pixels))


def test_fusionnet_sums_what_unet_concatenates():
    """The decoder's level sees as many channels as the encoder's map has, in U-Net those of both."""
    assert FusionNet(4).up[0].first[0].in_channels == 32
    assert UNet(4).up[0][0][0].in_channels == 16 + 16


@every_denoiser
def test_every_pixel_reaches_the_way_down_and_the_skips(name):
    """Without the deepest level, details still pass through the skips."""
    denoiser = build(name, residual=False).eval()
    pixels = random_pixels(1).requires_grad_()
    (gradient,) = torch.autograd.grad(denoiser(pixels)[0, :, 16, 16].sum(), pixels)
    assert (gradient[0, :, 12:21, 12:21] != 0).all()
    assert (gradient != 0).float().mean() > 0.9


# ------------------------------------------------------------------------------------------------ pixels in, pixels out


@every_denoiser
@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize(("height", "width"), [(16, 16), (32, 32), (64, 64), (16, 48)])
def test_output_is_as_large_as_the_input(name, residual, height, width):
    pixels = random_pixels(2, height, width)
    with torch.no_grad():
        result = build(name, residual=residual).eval()(pixels)
    assert result.shape == pixels.shape
    assert result.dtype == torch.float32
    assert result.isfinite().all()


@every_denoiser
@pytest.mark.parametrize(("height", "width"), [(20, 16), (64, 63), (8, 8), (17, 17)])
def test_a_size_that_cannot_be_halved_four_times_is_refused(name, height, width):
    with pytest.raises(
        ValueError, match=rf"{height} x {width} pixels do not fit; set data.image_size to a multiple of 16"
    ):
        build(name)(random_pixels(1, height, width))


@every_denoiser
def test_a_residual_denoiser_starts_from_doing_nothing(name):
    pixels = random_pixels()
    for denoiser in (build(name).eval(), build(name).train()):
        assert torch.equal(denoiser(pixels), pixels)


@every_denoiser
def test_a_residual_denoiser_can_leave_its_start(name):
    denoiser = build(name)
    optimizer = torch.optim.Adam(denoiser.parameters(), 1e-2)
    pixels = random_pixels()
    for _ in range(2):  # the first step moves the last convolution only, the second all others
        before = {key: value.detach().clone() for key, value in denoiser.named_parameters()}
        optimizer.zero_grad()
        (denoiser(pixels) - pixels - 3).square().mean().backward()
        optimizer.step()
    for key, value in denoiser.named_parameters():
        assert not torch.equal(value, before[key]), key


@every_denoiser
def test_a_plain_denoiser_speaks_of_minus_one_to_one(name):
    """-1, 0 and 1 of the network are black, grey and white; untrained, it is around grey."""
    denoiser = build(name, residual=False)
    with torch.no_grad():
        assert 60 < denoiser(random_pixels()).mean() < 195
        denoiser.network.last.weight.zero_()
        for value, expected in ((-1, 0.0), (0, 127.5), (1, 255.0)):
            denoiser.network.last.bias.fill_(value)
            torch.testing.assert_close(denoiser(random_pixels()), torch.full((2, 3, 32, 32), expected))


def test_the_network_sees_minus_one_to_one():
    pixels = random_pixels()
    torch.testing.assert_close(Denoiser(nn.Identity(), residual=False)(pixels), pixels, atol=1e-3, rtol=0)


def test_a_correction_is_in_the_units_of_the_networks_input():
    denoiser = build("unet")
    with torch.no_grad():
        denoiser.network.last.bias.fill_(0.02)
        torch.testing.assert_close(denoiser(random_pixels()), random_pixels() + 0.02 * 127.5)


def test_an_unknown_denoiser_is_refused_by_name():
    with pytest.raises(ValueError, match="unknown denoiser median; known: unet, fusionnet, fusionnet_original"):
        build_denoiser("median", 4, True)


@every_denoiser
def test_weights_come_from_the_seed(name):
    first, again, other = (build(name, seed=seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[key], again[key]) for key in first)
    drawn = "network.down.0.first.0.weight" if name == "fusionnet" else "network.down.0.0.0.weight"
    assert not torch.equal(first[drawn], other[drawn])


# ------------------------------------------------------------------------------------------------ checkpoints


def trained(name, residual):
    """A denoiser whose weights and statistics are not those of a new one."""
    denoiser = build(name, residual=residual).train()
    with torch.no_grad():
        denoiser(random_pixels(4))
        for parameter in denoiser.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return denoiser


@every_denoiser
@pytest.mark.parametrize("residual", [True, False])
def test_a_saved_denoiser_is_loaded_with_equal_output(tmp_path, name, residual):
    denoiser = trained(name, residual)
    description = {"architecture": name, "width": 4, "residual": residual, "git_commit": "x"}
    save_denoiser(tmp_path / "checkpoint.pt", denoiser, description)
    loaded = load_denoiser(tmp_path / "checkpoint.pt", CPU)
    assert not any(module.training for module in loaded.modules())
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    assert loaded.residual == residual
    pixels = random_pixels().contiguous(memory_format=torch.channels_last)
    expected = denoiser.eval().to(memory_format=torch.channels_last)(pixels)
    assert torch.equal(loaded(pixels), expected)
    assert not torch.allclose(loaded(pixels), pixels, atol=1e-3)
    content = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert {key: content[key] for key in description} == description


def own_module(folder, monkeypatch):
    """A user's module `own_denoisers` in the working directory."""
    (folder / "own_denoisers.py").write_text(
        "import torch\n"
        "class Blur(torch.nn.Module):\n"
        "    def __init__(self, size=3):\n"
        "        super().__init__()\n"
        "        self.pool = torch.nn.AvgPool2d(size, 1, size // 2, count_include_pad=False)\n"
        "        self.scale = torch.nn.Parameter(torch.ones(()))\n"
        "    def forward(self, pixels):\n"
        "        return self.scale * self.pool(pixels)\n"
        "class Halves(torch.nn.Module):\n"
        "    def forward(self, pixels):\n"
        "        return pixels[..., ::2, ::2]\n"
        "def number():\n"
        "    return 3\n"
    )
    monkeypatch.chdir(folder)
    monkeypatch.delitem(sys.modules, "own_denoisers", raising=False)


def test_a_network_of_ones_own_takes_and_gives_pixels(tmp_path, monkeypatch):
    own_module(tmp_path, monkeypatch)
    denoiser = build_denoiser("own_denoisers:Blur", options={"size": 5})
    expected = nn.functional.avg_pool2d(random_pixels(), 5, 1, 2, count_include_pad=False)
    torch.testing.assert_close(denoiser(random_pixels()), expected)
    with torch.no_grad():
        denoiser.network.scale.fill_(0.5)
    description = {"architecture": "own_denoisers:Blur", "width": 64, "residual": True, "options": {"size": 5}}
    save_denoiser(tmp_path / "checkpoint.pt", denoiser, description)
    torch.testing.assert_close(load_denoiser(tmp_path / "checkpoint.pt", CPU)(random_pixels()), expected / 2)


def test_a_network_of_ones_own_must_keep_the_shape(tmp_path, monkeypatch):
    own_module(tmp_path, monkeypatch)
    with pytest.raises(ValueError, match=r"own_denoisers:Halves turns images of shape .* it must keep the shape"):
        build_denoiser("own_denoisers:Halves")(random_pixels())


def test_what_is_imported_must_be_a_module(tmp_path, monkeypatch):
    own_module(tmp_path, monkeypatch)
    with pytest.raises(ValueError, match=r"own_denoisers:number gives int, not a torch\.nn\.Module"):
        build_denoiser("own_denoisers:number")


class Intruder:
    """Unpickling it creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_loading_runs_no_code_of_the_file(tmp_path):
    content = {"architecture": "unet", "width": 4, "residual": True, "network": Intruder(tmp_path / "trace")}
    torch.save(content, tmp_path / "checkpoint.pt")
    with pytest.raises(pickle.UnpicklingError):
        load_denoiser(tmp_path / "checkpoint.pt", CPU)
    assert not (tmp_path / "trace").exists()


# ------------------------------------------------------------------------------------------------ many images


@every_device
@every_denoiser
def test_images_are_denoised_in_batches(name, device):
    """The batches cover all images once, in order, clipped, and an image's result does not depend on its batch."""
    device = torch.device(device)
    denoiser = trained(name, residual=True).eval().to(device, memory_format=torch.channels_last)
    with torch.no_grad():
        denoiser.network.last.bias += 100
    images = random_pixels(7).permute(0, 2, 3, 1).contiguous().numpy()
    before = images.copy()
    results = {}
    for batch_size in (3, 7):
        parts = list(denoise(denoiser, images, batch_size, device))
        assert [rows.start for rows, _ in parts] == list(range(0, 7, batch_size))
        results[batch_size] = np.concatenate([batch.cpu().numpy() for _, batch in parts])
    assert results[3].shape == images.shape
    assert results[3].dtype == np.float32
    assert results[3].min() >= 0
    assert results[3].max() == 255
    np.testing.assert_allclose(results[3], results[7], atol=1e-2)
    assert np.array_equal(images, before)
