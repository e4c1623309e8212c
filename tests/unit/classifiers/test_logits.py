"""Which logits belong to the classes of the data."""

import json

import pytest
from timm.data import ImageNetInfo

from perturbflow.classifiers.logits import LABEL_SETS, count_logits, find_logits, is_file

CLASSES = ["tench, Tinca tinca", "goldfish, Carassius auratus", "crane", "kite", "crane", "Great_White  shark"]


@pytest.mark.parametrize("name", LABEL_SETS)
def test_every_label_set_of_timm_by_wordnet_id(name):
    """Whatever comes beside the id."""
    info = ImageNetInfo(name)
    indices = [0, 7, 500, info.num_classes() - 1]
    ids = [info.index_to_label_name(index) for index in indices]
    assert find_logits(name, ids, info.num_classes(), "data") == indices
    named = [f"{wordnet_id} {info.label_name_to_description(wordnet_id)}" for wordnet_id in ids]
    assert find_logits(name, named, info.num_classes(), "data") == indices
    assert count_logits(name) == info.num_classes()


@pytest.mark.parametrize("name", ["imagenet-1k", "imagenet-12k", "imagenet-21k-goog", "imagenet-21k-miil"])
def test_imagenet_is_the_label_set_of_that_many_logits(name):
    info = ImageNetInfo(name)
    assert find_logits("imagenet", [info.index_to_label_name(9)], info.num_classes(), "data") == [9]


def test_the_classes_of_tiny_imagenet_are_among_the_thousand():
    found = find_logits("imagenet", ["n01443537 goldfish", "n01629819 European fire salamander"], 1000, "data")
    assert found == [1, 25]


@pytest.mark.parametrize("name", ["goldfish", "Carassius auratus", "GOLDFISH", "goldfish, Carassius auratus"])
def test_a_class_is_found_by_any_of_its_names(name):
    assert find_logits(CLASSES, [name, "great white shark"], 6, "data") == [1, 5]


def test_whole_names_come_before_synonyms():
    assert find_logits(["ape, monkey", "monkey"], ["monkey"], 2, "data") == [1]


def test_the_other_classes_follow_where_all_are_predicted():
    assert find_logits(CLASSES, ["kite", "tench"], 6, "all") == [3, 0, 1, 2, 4, 5]


@pytest.mark.parametrize(
    ("name", "text", "numbers"),
    [
        ("classes.txt", "red\n\ngreen fish\nblue\n", {"blue": 2, "green_fish": 1}),
        ("classes.txt", "\ufeffn00000001 red\r\nn00000002 green\r\n", {"n00000002": 1, "n00000001 rouge": 0}),
        ("classes.csv", "index,name\n1,green\n0,red\n2,blue\n", {"green": 1, "red": 0}),
        ("classes.csv", "red\ngreen\n", {"green": 1}),
        ("classes.json", json.dumps(["red", "green"]), {"green": 1}),
        ("classes.json", json.dumps({"1": ["n00000002", "green"], "0": ["n00000001", "red"]}), {"n00000002": 1}),
        ("classes.json", json.dumps({"0": "red", "1": "green"}), {"red": 0}),
        ("classes.json", json.dumps({"red": 4, "green": 3}), {"green": 3, "red": 4}),
    ],
)
def test_files_of_classes(tmp_path, name, text, numbers):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8", newline="")
    n_logits = count_logits(str(path)) or 5
    assert find_logits(str(path), list(numbers), n_logits, "data") == list(numbers.values())


def test_a_mapping_names_the_classes_as_the_data_do_or_by_id_or_name():
    logits = {"n00000001": 7, "green fish": 2, "n00000003 blue": 5, "unused": 0}
    names = ["n00000001 red", "n00000002 Green_Fish", "n00000003 blue"]
    assert find_logits(logits, names, 8, "data") == [7, 2, 5]
    assert count_logits(logits) is None


@pytest.mark.parametrize(
    ("logits", "names", "message"),
    [
        (CLASSES, ["crane"], r"does not tell one logit for crane \(logits 2, 4 are called so\) of the data's classes"),
        (CLASSES, ["goldfsh"], r"goldfsh \(the nearest is goldfish\)"),
        (CLASSES, ["tench", "Tinca tinca"], "the classes tench and Tinca tinca of the data both belong to logit 0"),
        (CLASSES[:3], ["tench"], "the list has 3 classes, but the network gives 6 logits"),
        ({"tench": 6}, ["tench"], "tench is given logit 6, but the network's are 0 to 5"),
        ({"tench": 1}, ["tench", "kite"], "the mapping lacks kite of the data's classes; it has tench"),
        ("imagenet", ["tench"], "no label set of ImageNet that timm knows has 6 classes"),
        ("imagenet-1K", ["tench"], "imagenet-1K is no label set; did you mean imagenet-1k"),
        ("imagenet-1k", ["tench"], "imagenet-1k has 1000 classes, but the network gives 6 logits"),
        ("nowhere.txt", ["tench"], r"nowhere\.txt does not exist"),
    ],
)
def test_what_does_not_tell_one_logit_is_refused(logits, names, message):
    with pytest.raises(ValueError, match=f"^logits: .*{message}"):
        find_logits(logits, names, 6, "data")


@pytest.mark.parametrize(
    ("name", "text"),
    [("a.json", "{"), ("a.json", "3"), ("a.json", '{"0": "red", "2": "blue"}'), ("a.csv", "0,red\n2,blue\n")],
)
def test_a_file_that_is_no_list_is_refused_by_its_name(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=rf"^logits: .*{name} cannot be read as a list of classes"):
        find_logits(str(tmp_path / name), ["red"], 2, "data")


def test_a_file_is_told_by_its_suffix():
    assert is_file("classes.JSON") and not is_file("imagenet-1k") and not is_file(["a.txt"]) and not is_file(None)
