import pickle
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from perturbflow.classifiers.building import build_classifier, load_classifier, save_classifier
from tests.unit.classifiers.example_networks import (
    CPU,
    MODIFIED,
    SHRUNKEN,
    description,
    from_file,
    shared,
    shrunken,
    smallest,
)


def test_a_checkpoint_is_taken_as_it_is_for_the_same_classes(checkpoint):
    ours = from_file(checkpoint).network.state_dict()
    for key, value in smallest().network.state_dict().items():
        assert torch.equal(ours[key], value), key


def test_the_last_layer_is_replaced_for_other_classes(checkpoint):
    network = from_file(checkpoint, n_classes=7).network
    torch.manual_seed(99)
    fresh = build_classifier("resnet18", 7, options=SHRUNKEN["resnet18"] | {"width": 0.125}).network
    assert torch.equal(network.fc.weight, fresh.fc.weight)
    ours = network.state_dict()
    for key, value in smallest().network.state_dict().items():
        assert key.startswith("fc.") or torch.equal(ours[key], value), key


@pytest.fixture(scope="module")
def timm_files(tmp_path_factory):
    """A network of timm with random weights and 3 classes, and its files in the formats that timm writes."""
    folder = tmp_path_factory.mktemp("timm")
    torch.manual_seed(1)
    network = timm.create_model("resnet18", num_classes=3)
    torch.save(network.state_dict(), folder / "weights.pth")
    torch.save({"state_dict": {f"module.{k}": v for k, v in network.state_dict().items()}}, folder / "distributed.pt")
    save_file(network.state_dict(), folder / "weights.safetensors")
    return network, folder


@pytest.mark.parametrize("n_classes", [3, 4])
@pytest.mark.parametrize("file", ["weights.pth", "weights.safetensors", "distributed.pt"])
def test_files_of_timm_are_loaded(timm_files, file, n_classes):
    network, folder = timm_files
    ours = build_classifier("resnet18", n_classes, weights=str(folder / file)).network.state_dict()
    for key, value in network.state_dict().items():
        same = ours[key].shape == value.shape and torch.equal(ours[key], value)
        assert same == (n_classes == 3 or not key.startswith("fc.")), key


@pytest.mark.parametrize(
    ("architecture", "options", "their_name"),
    [
        (
            "densenet201",
            {"blocks": [1, 1, 1, 1], "width": 0.25},
            lambda name: (
                name.replace(".norm1", ".norm.1")
                .replace(".norm2", ".norm.2")
                .replace(".conv1", ".conv.1")
                .replace(".conv2", ".conv.2")
            ),
        ),
        ("vgg19", {"width": 0.125}, lambda name: name.replace("head.fc", "classifier.6")),
    ],
)
def test_names_of_torchvision_are_understood(tmp_path, architecture, options, their_name):
    torch.manual_seed(1)
    network = build_classifier(architecture, 3, options=options).network
    theirs = {their_name(name): value for name, value in network.state_dict().items()}
    assert theirs.keys() != network.state_dict().keys()
    torch.save(theirs, tmp_path / "weights.pth")
    ours = build_classifier(architecture, 3, weights=str(tmp_path / "weights.pth"), options=options)
    for key, value in network.state_dict().items():
        assert torch.equal(ours.network.state_dict()[key], value), key


@pytest.mark.parametrize("name", MODIFIED)
def test_weights_of_the_plain_densenet201_get_a_new_last_layer(tmp_path, name):
    plain = shared("densenet201").network.state_dict()
    torch.save(plain, tmp_path / "plain.pth")
    torch.manual_seed(99)
    fresh = build_classifier(name, 10, 32, options=SHRUNKEN.get(name, {})).network.state_dict()
    ours = from_file(tmp_path / "plain.pth", 10, name, **SHRUNKEN.get(name, {})).network.state_dict()
    for key, value in ours.items():
        assert torch.equal(value, fresh[key] if key.startswith("classifier.") else plain[key]), key


@pytest.mark.parametrize("name", MODIFIED)
def test_weights_of_a_modified_network_are_taken_with_their_last_layer(tmp_path, name):
    classifier = shrunken(name, 10, 32, seed=3)
    options = {"architecture": name, "n_classes": 10, "input_size": 32, "options": SHRUNKEN.get(name, {})}
    save_classifier(tmp_path / "own.pt", classifier, options)
    ours = from_file(tmp_path / "own.pt", 10, name, **SHRUNKEN.get(name, {})).network.state_dict()
    for key, value in classifier.network.state_dict().items():
        assert torch.equal(ours[key], value), key


@pytest.mark.parametrize(
    ("path", "head"),
    [
        ("test_resnet", "fc."),
        ("test_convnext", "head.fc."),
        ("torchvision.models:squeezenet1_1", "classifier.1."),
    ],
)
@pytest.mark.parametrize("n_classes", [3, 4])
def test_weights_of_other_networks_get_a_new_last_layer(tmp_path, caplog, path, head, n_classes):
    """The last layer is what the network calls its classifier, else the last with weights."""
    torch.manual_seed(1)
    theirs = build_classifier(path, 3, 32).network.state_dict()
    torch.save(theirs, tmp_path / "weights.pth")
    ours = build_classifier(path, n_classes, 32, weights=str(tmp_path / "weights.pth")).network.state_dict()
    for key, value in theirs.items():
        same = ours[key].shape == value.shape and torch.equal(ours[key], value)
        assert same == (n_classes == 3 or not key.startswith(head)), key
    assert ("its last layer does not fit" in caplog.text) == (n_classes != 3)


def test_weights_that_differ_elsewhere_than_in_the_last_layer_are_refused(own_networks):
    """The network's layer for the classes is not its last one with weights."""
    network = build_classifier("own_networks:Net", 3, 16).network
    torch.save(network.state_dict(), "weights.pth")
    ours = build_classifier("own_networks:Net", 3, 16, weights="weights.pth").network.state_dict()
    assert all(torch.equal(ours[key], value) for key, value in network.state_dict().items())
    with pytest.raises(ValueError, match=r"weights\.pth does not fit the network at head\.weight, head\.bias"):
        build_classifier("own_networks:Net", 4, 16, weights="weights.pth")


def test_old_files_without_counters_are_loaded(tmp_path):
    state = {key: value for key, value in smallest().network.state_dict().items() if "num_batches" not in key}
    torch.save(state, tmp_path / "old.pth")
    assert torch.equal(from_file(tmp_path / "old.pth").network.conv1.weight, smallest().network.conv1.weight)


def test_a_missing_file_of_weights_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"weights: .*absent.pt does not exist; give a file, `imagenet`"):
        from_file(tmp_path / "absent.pt")
    with pytest.raises(FileNotFoundError, match="does not exist"):
        from_file(tmp_path)


def test_weights_of_another_network_are_refused(checkpoint):
    with pytest.raises(ValueError, match=r"checkpoint.pt does not fit the network at features.0"):
        from_file(checkpoint, architecture="vgg19", **SHRUNKEN["vgg19"])
    with pytest.raises(ValueError, match=r"checkpoint.pt does not fit the network at layer1.0.conv1.weight"):
        from_file(checkpoint, **SHRUNKEN["resnet18"])


def test_weights_of_a_deeper_or_shallower_network_are_refused(checkpoint):
    with pytest.raises(ValueError, match=r"does not fit the network at layer2\.1\.conv1\.weight"):
        from_file(checkpoint, blocks=[1, 2, 1, 1], width=0.125)
    torch.manual_seed(0)
    options = {"blocks": [1, 2, 1, 1], "width": 0.125}
    deeper = build_classifier("resnet18", 5, 32, options=options)
    save_classifier(checkpoint, deeper, description(deeper, **options))
    with pytest.raises(ValueError, match=r"does not fit the network at layer2\.1\.conv1\.weight"):
        from_file(checkpoint)


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".safetensors"])
def test_a_file_that_holds_no_weights_is_refused(tmp_path, suffix):
    path = tmp_path / f"picture{suffix}"
    path.write_bytes(b"\x89PNG\r\n" + bytes(100))
    with pytest.raises(ValueError, match=r"weights: .*picture.* cannot be read as a file of weights"):
        from_file(path)


@pytest.mark.parametrize(
    "content", [[1, 2], torch.zeros(3), {}, {"epoch": 3}, {"classifier.0.weight": torch.zeros(2, 2)}]
)
def test_a_file_of_something_else_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "else.pt")
    with pytest.raises(ValueError, match=r"weights: .*else.pt (cannot be read|does not fit)"):
        from_file(tmp_path / "else.pt", architecture="vgg19", **SHRUNKEN["vgg19"])


class Intruder:
    """Unpickling it creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_loading_runs_no_code_of_the_file(tmp_path):
    trace, path = tmp_path / "trace", tmp_path / "checkpoint.pt"
    torch.save(description(smallest()) | {"network": Intruder(trace)}, path)
    with pytest.raises(pickle.UnpicklingError):
        load_classifier(path, CPU)
    with pytest.raises(ValueError, match="cannot be read"):
        from_file(path)
    assert not trace.exists()
    torch.load(path, weights_only=False)
    assert trace.exists()  # the intruder works
