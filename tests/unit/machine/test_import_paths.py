import json
import sys
from functools import partial
from pathlib import Path

import pytest

from perturbflow.machine.import_paths import is_import_path, load_object, make, source_file


@pytest.fixture
def home(tmp_path, monkeypatch):
    """The working directory; what is imported from it, and the paths for that, are forgotten at the end."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if (getattr(sys.modules[name], "__file__", None) or str(tmp_path)).startswith(str(tmp_path)):
            del sys.modules[name]


def write(folder, files):
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


# ------------------------------------------------------------------------------------------------ objects


def test_an_installed_object_is_loaded():
    assert load_object("json:dumps") is json.dumps
    assert load_object("json.decoder:JSONDecoder") is json.JSONDecoder


def test_a_module_of_the_working_directory_is_loaded(home):
    write(home, {"own_networks.py": "class Net:\n    width = 3\n"})
    assert load_object("own_networks:Net").width == 3


def test_a_module_of_a_folder_of_the_working_directory_is_loaded(home):
    write(home, {"own_nets/deep/net.py": "def build():\n    return 4\n"})
    assert load_object("own_nets.deep.net:build")() == 4


def test_a_module_of_the_repository_is_loaded_from_elsewhere(home, monkeypatch, repository):
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if Path(entry).resolve() != repository])
    assert load_object("tests.conftest:pytest_collection_modifyitems")


def test_own_modules_hide_no_installed_ones(home):
    write(home, {"colorsys.py": "mine = True", "yaml.py": "mine = True"})
    sys.modules.pop("colorsys", None)
    assert load_object("colorsys:rgb_to_hsv")
    with pytest.raises(ValueError, match="yaml has no mine"):
        load_object("yaml:mine")


def test_the_search_path_does_not_grow(home):
    write(home, {"own_networks.py": "a = 1"})
    load_object("own_networks:a")
    length = len(sys.path)
    load_object("own_networks:a")
    source_file("own_networks:a")
    assert len(sys.path) == length


@pytest.mark.parametrize(
    "path", ["json", "json.dumps", ":dumps", "json:", "json:a:b", "json.:a", ".json:a", "json:a.b", "my-net:a", "a b:c"]
)
@pytest.mark.parametrize("function", [load_object, source_file])
def test_another_form_is_refused(path, function):
    with pytest.raises(ValueError, match=r"is no import path; write package\.module:name"):
        function(path)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("torchvision.models:resnet18", True), ("resnet18", False), ("hf-hub:a/b", False), ("local-dir:b", False)],
)
def test_import_paths_are_told_from_timms_names(name, expected):
    assert is_import_path(name) == expected


def test_a_missing_module_is_named(home):
    write(home, {"own_package/__init__.py": ""})
    with pytest.raises(ValueError, match=rf"there is no module own_networks, neither installed nor in {home}"):
        load_object("own_networks:Net")
    with pytest.raises(ValueError, match=r"there is no module own_package\.nets"):
        load_object("own_package.nets:Net")
    with pytest.raises(ValueError, match=r"there is no module elsewhere,"):
        load_object("elsewhere.nets.deep:Net")


def test_a_module_that_an_own_module_needs_is_named(home):
    write(home, {"own_networks.py": "import not_installed.deep\n"})
    with pytest.raises(ValueError, match="own_networks needs the module not_installed, which is not installed"):
        load_object("own_networks:Net")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def f(:\n", "SyntaxError: invalid syntax"),
        ("1 / 0", "ZeroDivisionError: division"),
        ("import json.x", "module json.x"),
    ],
)
def test_a_module_that_fails_is_named_with_its_error(home, text, message):
    write(home, {"own_networks.py": text})
    with pytest.raises(ValueError, match=rf"own_networks:Net: .*own_networks .*{message}"):
        load_object("own_networks:Net")


def test_the_nearest_names_are_told(home):
    write(home, {"own_networks.py": "def my_network(): pass\ndef my_networks(): pass\n_my_netwerk = 1\n"})
    with pytest.raises(ValueError, match=r"own_networks has no my_netwerk; did you mean my_network or my_networks\?"):
        load_object("own_networks:my_netwerk")
    with pytest.raises(ValueError, match="own_networks has no x; and nothing of a similar name"):
        load_object("own_networks:x")


# ------------------------------------------------------------------------------------------------ making


class Made:
    def __init__(self, width=1, depth=1):
        if not width:
            raise ZeroDivisionError("no width")
        self.width, self.depth = width, depth


def hand_on(**options):
    return Made(**options)


def fails(**options):
    raise TypeError("unexpected keyword argument 'widht'")


def test_what_a_builder_gives():
    made = make("it", partial(Made, depth=3), {"width": 2})
    assert (made.width, made.depth) == (2, 3)


@pytest.mark.parametrize(
    ("build", "options", "message"),
    [
        (Made, {"widht": 2}, "options.widht: it has no such argument; it takes width"),
        (Made, {"x": 2}, "options.x: it has no such argument; it takes width, depth"),
        (hand_on, {"x": 2}, "options.x: it has no such argument; it takes width, depth"),
        (partial(Made, depth=3), {"x": 2}, "options.x: it has no such argument; it takes width"),
        (partial(hand_on, depth=3), {"depth": 2}, "options.depth: is not free, it is 3 here; remove it"),
        (fails, {"widht": 2}, "options.widht: it has no such argument"),
        (Made, {"width": 0}, "options: it cannot be made with {'width': 0}: ZeroDivisionError: no width"),
        (partial(Made, width=0), {}, "options: it cannot be made: ZeroDivisionError: no width"),
        (partial(Made, x=0), {}, "options: it cannot be made: TypeError: .*unexpected keyword argument 'x'"),
    ],
)
def test_what_a_builder_refuses(build, options, message):
    with pytest.raises(ValueError, match=rf"^{message}$"):
        make("it", build, options)


def test_a_missing_file_of_a_builder_is_told_as_such(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing"):
        make("it", open, {"file": tmp_path / "nothing"})


# ------------------------------------------------------------------------------------------------ files


FILES = {
    "own_networks": "own_networks.py",
    "own_package": "own_package/__init__.py",
    "own_package.net": "own_package/net.py",
    "own_package.deep": "own_package/deep/__init__.py",
    "own_package.deep.net": "own_package/deep/net.py",
    "own_folder.net": "own_folder/net.py",
    "own_folder.deep.net": "own_folder/deep/net.py",
}


@pytest.mark.parametrize(("module", "file"), FILES.items())
def test_the_file_of_a_module_is_found_without_running_it(home, module, file):
    write(home, dict.fromkeys(FILES.values(), "raise SystemExit"))
    assert source_file(f"{module}:Net") == (home / file).resolve()
    assert module.partition(".")[0] not in sys.modules


def test_a_module_written_later_is_found(home):
    assert source_file("own_networks:Net") is None
    assert source_file("own_folder.net:Net") is None
    write(home, {"own_networks.py": "a = 1", "own_folder/net.py": "a = 1"})
    assert source_file("own_networks:Net")
    assert source_file("own_folder.net:Net")
    assert load_object("own_networks:a") == 1


def test_installed_modules_have_no_file_of_the_user():
    for path in ("torchvision.models:resnet18", "json:dumps", "json.decoder:JSONDecoder", "sys:path", "os:sep"):
        assert source_file(path) is None, path


@pytest.mark.parametrize("module", ["nowhere", "nowhere.net", "own_networks.deep", "own_folder", "own_binary"])
def test_what_is_no_python_file_has_none(home, module):
    write(home, {"own_networks.py": "", "own_folder/net.py": ""})
    (home / "own_binary.so").write_bytes(b"")
    assert source_file(f"{module}:Net") is None


def test_the_repository_counts_as_the_users(repository):
    assert source_file("perturbflow.attacks.gradient_sign:FGSM") == repository / "perturbflow/attacks/gradient_sign.py"
