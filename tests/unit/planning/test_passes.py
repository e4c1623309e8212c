"""What the classes of attacks say of their passes is what a run takes."""

from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from perturbflow.attacks.adversarial_set import common_settings
from perturbflow.attacks.gradient_sign import (
    ATTACKS,
    FGSM,
    GradientSignAttack,
    IterativeFGSM,
    input_gradient,
)
from perturbflow.planning.declarations import ATTACKS_FILE, AttackDeclaration, attacks
from perturbflow.planning.passes import attack_passes

N_IMAGES, MAX_STEPS = 5, 4
CASES = list(product(["attacker", "other", None], [False, True]))
"""Stopping classifier, and whether the set is rounded to 8 bits."""


class Steadfast(nn.Module):
    """Counts the images whose gradients it gives and those that it judges; nothing makes it err."""

    def __init__(self) -> None:
        super().__init__()
        self.forth = self.back = self.judged = 0

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        brightness = pixels.mean((1, 2, 3))
        logits = torch.stack([brightness + 1000, -brightness], 1)
        if not logits.requires_grad:
            self.judged += len(pixels)
            return logits
        self.forth += len(pixels)
        logits.register_hook(self._count_back)
        return logits

    def _count_back(self, gradient: torch.Tensor) -> None:
        self.back += len(gradient)


def settings_of(name: str, stopping: str | None, rounded: bool) -> dict[str, Any]:
    settings = {"attack": name, "attacker": "attacker", "stopping_classifier": stopping, "denoiser": None}
    return {**settings, "step": 1.0, "max_steps": MAX_STEPS, "decay": 1.0, "round_to_8_bits": rounded}


def passes_of_a_run(attack_class: type[GradientSignAttack], settings: dict[str, Any]) -> tuple[int, int]:
    """Gradients of the attacker, and images that the stopping classifier judges, counted."""
    networks = {name: Steadfast().eval() for name in ("attacker", "other")}
    attacker, stopping = networks["attacker"], networks[settings["stopping_classifier"] or "attacker"]
    own = {"step": settings["step"], "max_steps": settings["max_steps"]}
    attack = attack_class(**own, **common_settings(settings, batch_size=2))
    images, labels = torch.full((N_IMAGES, 3, 4, 4), 100.0), torch.zeros(N_IMAGES, dtype=torch.int64)
    finished = list(attack.stream(attacker, stopping, images, labels))
    assert torch.equal(torch.cat([part.steps for part in finished]), torch.full((N_IMAGES,), MAX_STEPS))
    assert attacker.forth == attacker.back
    assert networks["other"].forth == 0
    return attacker.forth, stopping.judged


@pytest.mark.parametrize(("stopping", "rounded"), CASES)
@pytest.mark.parametrize("name", ATTACKS)
def test_a_run_takes_the_passes_that_are_counted(name: str, stopping: str | None, rounded: bool) -> None:
    settings = settings_of(name, stopping, rounded)
    gradients, judged = attack_passes(settings, N_IMAGES)
    assert (gradients.way, gradients.name, judged.way) == ("gradient", "attacker", "forward")
    assert judged.name == (stopping or "attacker")
    assert (gradients.n_images, judged.n_images) == passes_of_a_run(ATTACKS[name], settings)


def test_the_attacks_are_those_of_the_registry() -> None:
    assert list(attacks()) == list(ATTACKS)
    for name, declared in attacks().items():
        assert declared.gradients_per_step == ATTACKS[name].gradients_per_step
        assert declared.one_gradient == ATTACKS[name].one_gradient


def test_an_attack_of_foolbox_is_not_counted() -> None:
    with pytest.raises(ValueError, match=r"an image of LinfPGD costs is not known; only fgsm, ifgsm, mifgsm"):
        attack_passes(settings_of("LinfPGD", None, False))


# ---- Gradients of an attack's own


def test_a_gradient_of_its_own_must_say_what_it_takes() -> None:
    message = r"Silent has a gradient of its own .* write beside it gradients_per_step = 1, or how often it passes"
    with pytest.raises(TypeError, match=message):

        class Silent(IterativeFGSM, name="silent"):
            def gradient(self, attacker: Any, images: Any, labels: Any) -> Any:
                return input_gradient(attacker, images, labels)

    class Mixin:
        def gradient(self, attacker: Any, images: Any, labels: Any) -> Any:
            return input_gradient(attacker, images, labels)

    with pytest.raises(TypeError, match="Mixed has a gradient of its own"):

        class Mixed(Mixin, FGSM):
            pass

    class Plain(FGSM):
        def accumulated(self, carried: Any, gradient: Any) -> Any:
            return -gradient

    assert list(ATTACKS) == ["fgsm", "ifgsm", "mifgsm"]


OWN_ATTACKS = """

class Twice(FGSM, name="twice"):
    gradients_per_step: ClassVar[int] = 2

    def gradient(self, attacker: Network, images: Tensor, labels: Tensor) -> Tensor:
        return input_gradient(attacker, images, labels) + input_gradient(attacker, images + 1, labels)


class TwiceAtEveryStep(Twice, name="twice_at_every_step"):
    one_gradient = False
"""


def test_what_a_class_says_is_inherited(tmp_path: Path) -> None:
    file = tmp_path / "attacks.py"
    file.write_text(ATTACKS_FILE.read_text(encoding="utf-8") + OWN_ATTACKS, encoding="utf-8")
    assert attacks(file) == attacks() | {
        "twice": AttackDeclaration(2, one_gradient=True, gradient_judges=False),
        "twice_at_every_step": AttackDeclaration(2, one_gradient=False, gradient_judges=False),
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "class Own(Elsewhere, FGSM, name='own'): ...",
            r"attacks\.py: Own extends Elsewhere, which is no class of this",
        ),
        (
            "class Own(FGSM, name='own'):\n    gradients_per_step = N_COPIES",
            "gradients_per_step of Own is N_COPIES; write it out as a value",
        ),
    ],
)
def test_what_cannot_be_read_is_refused(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "attacks.py"
    file.write_text(f"{ATTACKS_FILE.read_text(encoding='utf-8')}\n\n{text}\n", encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        attacks(file)
