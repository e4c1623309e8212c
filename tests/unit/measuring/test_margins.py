import torch

from perturbflow.measuring.margins import margins


def test_margins_are_those_to_the_best_other_class():
    logits = torch.tensor([[[3.0, 1.0, 2.0], [3.0, 1.0, 2.0]], [[-5.0, -7.0, -5.0], [0.0, 0.5, 0.0]]])
    assert margins(logits, torch.tensor([0, 2])).tolist() == [[1, -1], [0, -0.5]]
