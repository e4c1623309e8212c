import sys
from pathlib import Path

import pytest

from perturbflow.classifiers.weight_paths import resolve_weights


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Two packages beside the installed ones, one whose name for pip is another than for an import; none can be run."""
    for package, name in [("nets", "nets"), ("imported", "known-to-pip")]:
        (tmp_path / package / "models").mkdir(parents=True)
        (tmp_path / package / "__init__.py").write_text("raise AssertionError('imported')")
        (tmp_path / package / "models" / "lite0.pth").touch()
        information = tmp_path / f"{name.replace('-', '_')}-1.0.dist-info"
        information.mkdir()
        (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        files = [f"{package}/__init__.py", f"{package}/models/lite0.pth", f"{information.name}/METADATA"]
        (information / "RECORD").write_text("".join(f"{file},,\n" for file in files))
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_no_file_is_needed_for_none_and_imagenet():
    assert resolve_weights("none") is None
    assert resolve_weights("imagenet") is None


def test_a_path_stays_one_and_is_expanded(monkeypatch, tmp_path):
    assert resolve_weights("results/mine.pth") == Path("results/mine.pth")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("MODELS", "/models")
    assert resolve_weights("~/mine.pth") == tmp_path / "mine.pth"
    assert resolve_weights("$MODELS/${MODELS}x.pth") == Path("/models//modelsx.pth")


@pytest.mark.parametrize(("name", "folder"), [("nets", "nets"), ("imported", "imported"), ("known-to-pip", "imported")])
def test_a_file_of_a_package_is_found_without_importing_it(installed, name, folder):
    assert resolve_weights(f"package:{name}/models/lite0.pth") == installed / folder / "models/lite0.pth"
    assert not {"nets", "imported"} & sys.modules.keys()


def test_a_package_that_is_not_installed_is_told_with_how_to_install_it(installed):
    with pytest.raises(FileNotFoundError, match=r"package:no-nets/x\.pth: there is no .* no-nets.*pip install no-nets"):
        resolve_weights("package:no-nets/x.pth")
    with pytest.raises(FileNotFoundError, match=r"form is package:name/path/in/package"):
        resolve_weights("package:")


@pytest.mark.parametrize("path", ["/models/lite1.pth", "/lite0.pth", "/anything", "/", ""])
@pytest.mark.parametrize("name", ["nets", "known-to-pip"])
def test_a_path_that_is_not_in_the_package_is_told_with_the_nearest(installed, name, path):
    with pytest.raises(FileNotFoundError, match=f"the package {name} has no such file.*nearest are models/lite0.pth$"):
        resolve_weights(f"package:{name}{path}")
