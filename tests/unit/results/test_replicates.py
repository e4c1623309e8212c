import pytest

from perturbflow.results.replicates import coverage, folder_of_replicate, replicate_of, seed_of_replicate


@pytest.mark.parametrize("number", [0, 1, 12])
def test_a_path_tells_its_replicate(number: int) -> None:
    assert replicate_of(f"results/x/{folder_of_replicate(number)}distances/vgg19/fgsm.csv") == number
    assert replicate_of(f"/somewhere/{folder_of_replicate(number)}mse/fgsm.csv") == number


def test_the_first_replicate_lies_where_a_study_of_one_training_does() -> None:
    assert folder_of_replicate(0) == ""
    assert replicate_of("results/my_replicates/1/mse/fgsm.csv") == 0


def test_seeds() -> None:
    """Replicate 0 has the study's seed; the others differ from it, from each other, and from those of other studies."""
    assert seed_of_replicate(5, 0) == 5
    seeds = [seed_of_replicate(seed, number) for seed in range(20) for number in range(20)]
    assert len({*seeds}) == len(seeds)
    assert all(0 <= seed < 2**32 for seed in seeds)


def test_coverage() -> None:
    assert coverage(1) == "images of one training"
    assert coverage(3) == "3 trainings and images"
