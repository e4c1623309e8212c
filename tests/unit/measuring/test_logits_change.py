"""How the logits move, mean taken off: against naive sums, image by image."""

import math

import pytest
import torch

from perturbflow.measuring.decision_planes import LOGITS_METRICS, centred_change


def naive_change(clean: list[float], other: list[float]) -> dict[str, float]:
    """Of one image's logits, in the words of docs/method.md, by Python's own numbers."""
    c = [logit - math.fsum(clean) / len(clean) for logit in clean]
    o = [logit - math.fsum(other) / len(other) for logit in other]
    d = [after - before for before, after in zip(c, o, strict=True)]

    def product(left: list[float], right: list[float]) -> float:
        return math.fsum(x * y for x, y in zip(left, right, strict=True))

    cosine = product(c, o) / math.sqrt(product(c, c) * product(o, o))
    return {
        "logits_along_share": product(d, c) ** 2 / product(c, c) / product(d, d),
        "logits_norm_change": math.sqrt(product(o, o) / product(c, c)) - 1,
        "logits_angle": math.degrees(math.acos(cosine)),
    }


@pytest.fixture
def logits() -> torch.Tensor:
    """Clean images and two conditions of five images, of four classes, away from a mean of zero."""
    generator = torch.Generator().manual_seed(0)
    return 3 * torch.randn(3, 5, 4, generator=generator) + 7


def test_the_change_of_the_centred_logits_against_naive_sums(logits: torch.Tensor) -> None:
    found = centred_change(logits)
    assert list(found) == list(LOGITS_METRICS) == ["logits_along_share", "logits_norm_change", "logits_angle"]
    for name, values in found.items():
        assert values.shape == (2, 5) and values.dtype == torch.float64
        for condition in range(2):
            for image in range(5):
                expected = naive_change(logits[0, image].tolist(), logits[1 + condition, image].tolist())
                assert float(values[condition, image]) == pytest.approx(expected[name], rel=1e-10), name


def test_what_softmax_does_not_see_changes_nothing(logits: torch.Tensor) -> None:
    """Another number is added to all logits of every image, of the clean one another than of the others."""
    added = torch.linspace(-50, 80, 15, dtype=torch.float64).reshape(3, 5, 1)
    torch.testing.assert_close(torch.softmax(logits + added, -1), torch.softmax(logits.double(), -1))
    for name, values in centred_change(logits + added).items():
        torch.testing.assert_close(values, centred_change(logits)[name], rtol=1e-9, atol=0)


def test_longer_turned_and_opposite_logits() -> None:
    clean = torch.tensor([[1.0, 0, -1]])
    others = [2 * clean, torch.tensor([[1.0, -2, 1]]) + clean, -clean, clean.flip(1) + 5]
    found = centred_change(torch.stack([clean, *others]))
    assert found["logits_along_share"].flatten().tolist() == pytest.approx([1, 0, 1, 1], abs=1e-15)
    assert found["logits_norm_change"].flatten().tolist() == pytest.approx([1, 1, 0, 0])
    assert found["logits_angle"].flatten().tolist() == pytest.approx([0, 60, 180, 180])


def test_what_is_undefined_is_nan() -> None:
    """Of three images: unchanged logits, clean logits that are all equal, changed logits that are."""
    clean = torch.tensor([[0.1, 0.7, -3], [0.1, 0.1, 0.1], [0.1, 0.7, -3]])
    other = torch.tensor([[0.1, 0.7, -3], [0.1, 0.7, -3], [0.1, 0.1, 0.1]])
    nan = math.nan
    expected = {
        "logits_along_share": [nan, nan, 1],
        "logits_norm_change": [0, nan, -1],
        "logits_angle": [0, nan, nan],
    }
    for name, values in centred_change(torch.stack([clean, other])).items():
        assert values[0].tolist() == pytest.approx(expected[name], nan_ok=True), name


def test_a_random_direction_lies_along_by_one_in_the_classes_but_one() -> None:
    """What docs/method.md calls chance: rotation-invariant changes among centred logits have one dimension less."""
    generator = torch.Generator().manual_seed(0)
    for n_classes in (2, 3, 10):
        clean = torch.randn(1, 20_000, n_classes, generator=generator)
        noise = torch.randn(1, 20_000, n_classes, generator=generator)
        share = centred_change(torch.cat([clean, clean + noise]))["logits_along_share"]
        assert float(share.mean()) == pytest.approx(1 / (n_classes - 1), abs=0.01)
