"""Each image draws numbers of its own."""

import numpy as np
import pytest
import torch

from perturbflow.attacks.random_numbers import NumbersOfImages, seed_others

CPU = torch.device("cpu")


def drawn(n_images: int, shape: tuple[int, ...], first_row: int = 0, seed: int = 0, stage: int = 0) -> torch.Tensor:
    """The second draw of such a shape for a batch of images of 3 x 2 x 2."""
    images = torch.zeros(n_images, 3, 2, 2)
    with NumbersOfImages(images, seed, range(first_row, first_row + n_images), stage):
        torch.rand(shape, device=CPU)
        return torch.rand(shape, device=CPU, dtype=torch.float64)


def test_a_batch_draws_what_its_parts_draw() -> None:
    for of_image in ((3, 2, 2), (1, 2, 2), (12,), (13,)):
        whole = drawn(5, (5, *of_image))
        assert torch.equal(whole[:3], drawn(3, (3, *of_image)))
        assert torch.equal(whole[3:], drawn(2, (2, *of_image), first_row=3))
        assert len(whole.unique()) == whole.numel()


def test_several_draws_at_once_are_drawn_for_each_image() -> None:
    whole = drawn(5, (4, 5, 3, 2, 2))
    assert torch.equal(whole[:, 3:], drawn(2, (4, 2, 3, 2, 2), first_row=3))
    assert len(whole.unique()) == whole.numel()
    assert drawn(5, (5, 5, 3, 2, 2)).shape == (5, 5, 3, 2, 2)
    assert torch.equal(drawn(5, (5, 5, 3, 2, 2))[:, 3:], drawn(2, (5, 2, 3, 2, 2), first_row=3))


@pytest.mark.parametrize("shape", [(12, 1), (7,), (4, 6, 3, 2, 2)])
def test_what_has_no_place_for_the_images_is_shared(shape: tuple[int, ...]) -> None:
    assert torch.equal(drawn(5, shape), drawn(12, shape, first_row=40))
    assert not torch.equal(drawn(5, shape), drawn(5, shape, stage=1))


def test_seeds_rows_and_stages_are_not_added_up() -> None:
    numbers = {float(drawn(1, (1, 1), row, seed, stage)) for row in range(3) for seed in range(3) for stage in range(3)}
    assert len(numbers) == 27


def test_normal_numbers_and_sizes_without_a_tuple() -> None:
    with NumbersOfImages(torch.zeros(5, 3, 40, 40), 0, range(5), 0):
        normal, uniform = torch.randn(5, 3, 40, 40, device=CPU), torch.rand(5, 2, device=CPU)
    assert abs(normal.mean()) < 0.05 and abs(normal.std() - 1) < 0.05
    assert uniform.shape == (5, 2)


def test_other_draws_are_let_alone() -> None:
    """Those with a generator of their own, and those on another device."""
    seed_others(0, 0)
    expected = torch.rand(5, 2), torch.rand(5, 2, generator=torch.Generator().manual_seed(3))
    seed_others(0, 0)
    with NumbersOfImages(torch.zeros(5, 3, 2, 2), 0, range(5), 0):
        assert torch.equal(torch.rand(5, 2), expected[0])  # on the default device, wherever that is
        assert torch.equal(torch.rand(5, 2, device=CPU, generator=torch.Generator().manual_seed(3)), expected[1])


def test_numpy_draws_the_same_for_each_batch_and_torch_does_not() -> None:
    found = []
    for row in (0, 5):
        seed_others(7, row)
        found.append((float(torch.rand(())), float(np.random.rand())))  # noqa: NPY002
    assert found[0][0] != found[1][0] and found[0][1] == found[1][1]


@pytest.mark.gpu
def test_draws_on_a_gpu() -> None:
    images = torch.zeros(5, 3, 2, 2, device="cuda")
    with NumbersOfImages(images, 0, range(5), 0):
        whole = torch.randn(images.shape, device=images.device)
    with NumbersOfImages(images[3:], 0, range(3, 5), 0):
        assert torch.equal(torch.randn(images[3:].shape, device=images.device), whole[3:])
