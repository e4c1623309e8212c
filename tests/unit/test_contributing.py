"""The examples of CONTRIBUTING.md, each added to a copy of the module that it is for."""

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from perturbflow.classifiers import building
from perturbflow.data import sources
from perturbflow.data.sources import list_splits
from perturbflow.planning import passes
from perturbflow.planning.costs import CLASSIFIERS, classifier_costs
from perturbflow.planning.declarations import ArchitectureDeclaration, architectures, attacks
from perturbflow.planning.image_counts import source_images
from tests.unit.planning.test_passes import CASES, N_IMAGES, passes_of_a_run, settings_of

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


@pytest.fixture
def extended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> ModuleType:
    """The module that a section of the guide is about, with the example at its end."""
    section = GUIDE.split(f"\n## {request.param}\n")[1].split("\n## ")[0]
    path = re.findall(r"`(perturbflow/[a-z_/]+\.py)`", section)[0]
    example, *_ = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    file = tmp_path / Path(path).name
    file.write_text((ROOT / path).read_text(encoding="utf-8") + "\n\n" + example, encoding="utf-8")
    spec = importlib.util.spec_from_file_location("extended", file)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "extended", module)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("extended", ["A source of images"], indirect=True)
def test_the_source_is_counted_as_it_is_listed(
    extended: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sources.SOURCES, "flowers", extended.SOURCES["flowers"])
    for label in range(17):
        (tmp_path / f"flowers/{label:02}").mkdir(parents=True)
        for number in range(80):
            (tmp_path / f"flowers/{label:02}/{number:02}.png").touch()
    data = {"source": "flowers", "path": str(tmp_path / "flowers"), "classes": None}
    data["images_per_class"] = {"train": None, "val": None}
    listed = list_splits(data, 0)
    assert (
        source_images(data)
        == {split: len(images.ids) for split, images in listed.items()}
        == {"train": 1224, "val": 136}
    )
    assert len({*listed["train"].ids, *listed["val"].ids}) == 1360
    assert sources.SOURCES["flowers"].files(data) == {"": tmp_path / "flowers"}


@pytest.mark.parametrize("extended", ["An attack"], indirect=True)
def test_the_attack_is_counted_as_it_runs(extended: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passes, "attacks", lambda: attacks(Path(extended.__file__)))
    for stopping, rounded in CASES:
        settings = settings_of("scale_invariant_fgsm", stopping, rounded)
        gradients, judged = passes.attack_passes(settings, N_IMAGES)
        counted = passes_of_a_run(extended.ATTACKS["scale_invariant_fgsm"], settings)
        assert (gradients.n_images, judged.n_images) == counted
        assert counted[0] == 3 * 4 * N_IMAGES


@pytest.mark.parametrize("extended", ["A classifier"], indirect=True)
def test_the_classifier_is_built_and_its_options_are_known(
    extended: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    declared = architectures(Path(extended.__file__))["wide_resnet50_2"]
    assert declared == ArchitectureDeclaration(("blocks",), 4)
    monkeypatch.setattr(building, "ARCHITECTURES", extended.ARCHITECTURES)
    with torch.device("meta"):
        classifier = building.build_classifier("wide_resnet50_2", 10, 64, options={"blocks": [1, 1, 1, 2]}).eval()
        seen = []
        with classifier.observed(lambda position, feature_map: seen.append(tuple(feature_map.shape))):
            classifier(torch.empty(2, 3, 64, 64))
    assert [tap.layer for tap in classifier.taps] == ["1 conv", "2 bottlenecks", "1 avg pool", "1 FC"]
    assert seen == [(2, 64, 32, 32), (2, 2048, 2, 2), (2, 2048), (2, 10)]
    settings = {"architecture": "wide_resnet50_2", "options": {}, "input_size": 128, "taps": None}
    assert classifier_costs(settings).gflop == max(one.gflop for one in CLASSIFIERS.values())
