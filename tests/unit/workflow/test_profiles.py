import glob
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from snakemake.profiles import ProfileConfigFileParser

ROOT = Path(__file__).parents[3]
DEFAULT, SLURM = (ROOT / "profiles" / name / "config.yaml" for name in ("default", "slurm"))
RULES = "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "workflow/rules").glob("*.smk")))
# Each rule's text, also of those that stand in a condition; the one without a name is that of the tables.
BY_NAME = {match[1]: match[0] for match in re.finditer(r"^ *rule ?(\w*):\n(?:(?! *rule).*\n?)*", RULES, re.MULTILINE)}


def settings(profile: Path) -> dict[str, Any]:
    """What Snakemake makes of a profile."""
    with profile.open(encoding="utf-8") as file:
        return dict(ProfileConfigFileParser().parse(file))


def resources(rules: list[str]) -> dict[str, dict[str, str]]:
    """Of a profile's set-resources, by rule."""
    found: dict[str, dict[str, str]] = {}
    for entry in rules:
        rule, resource = entry.split(":", 1)
        name, value = resource.split("=", 1)
        found.setdefault(rule, {})[name] = value
    return found


def test_the_rules_are_read_whole() -> None:
    assert len(BY_NAME) == len(re.findall(r"^ *rule\b", RULES, re.MULTILINE)) >= 18
    assert {"", "data", "measure", "adversarial", "adversarial_shard", "join_denoised", "figure"} <= BY_NAME.keys()


@pytest.mark.parametrize("rule", BY_NAME)
def test_every_rule_says_its_threads_memory_and_time(rule: str) -> None:
    # All tables, all figures and all that is pooled count as one work.
    work = "figure" if rule.endswith("figure") else "pool" if rule.startswith("pool_") else rule or "table"
    assert re.search(r"^ +threads: ", BY_NAME[rule], re.MULTILINE)
    assert re.findall(r"^ +mem_mb=(.*)$", BY_NAME[rule], re.MULTILINE) == [f'memory("{work}"),']
    assert re.findall(r"^ +runtime=(.*)$", BY_NAME[rule], re.MULTILINE) == [f'minutes("{work}"),']


def test_the_rules_that_take_a_gpu_and_no_others_get_the_partition_of_gpus() -> None:
    with_gpu = {name for name, text in BY_NAME.items() if "gpu=GPU," in text}
    assert {"classifier", "measure", "adversarial_shard", "denoised_shard"} <= with_gpu
    found = resources(settings(SLURM)["set-resources"])
    assert found.keys() == with_gpu
    assert all(of_rule == {"slurm_partition": "gpu"} for of_rule in found.values())


@pytest.mark.parametrize(
    ("old", "new", "partitions"),
    [
        ("slurm_partition: cpu\n", "slurm_partition: mine\n", {"gpu"}),
        ("{slurm_partition: gpu}\n", "{slurm_partition: mine}\n", {"mine"}),
    ],
)
def test_each_partition_stands_in_one_place(old: str, new: str, partitions: set[str], tmp_path: Path) -> None:
    text = SLURM.read_text(encoding="utf-8")
    assert text.count(old) == 1
    profile = tmp_path / "config.yaml"
    profile.write_text(text.replace(old, new), encoding="utf-8")
    edited = settings(profile)
    assert {of["slurm_partition"] for of in resources(edited["set-resources"]).values()} == partitions
    assert f"slurm_partition={'mine' if partitions == {'gpu'} else 'cpu'}" in edited["default-resources"]


def test_the_account_stands_in_one_place(tmp_path: Path) -> None:
    text = SLURM.read_text(encoding="utf-8")
    assert text.count("slurm_account") == 1
    profile = tmp_path / "config.yaml"
    profile.write_text(text.replace("# slurm_account: myaccount", "slurm_account: ours"), encoding="utf-8")
    assert settings(profile)["default-resources"] == ["slurm_account=ours", "slurm_partition=cpu", "nodes=1"]


def test_a_rule_may_be_given_more_as_the_comments_say(tmp_path: Path) -> None:
    (example,) = re.findall(r"^#   (classifier: \{.*?\})", SLURM.read_text(encoding="utf-8"), re.MULTILINE)
    profile = tmp_path / "config.yaml"
    profile.write_text(SLURM.read_text(encoding="utf-8").replace("classifier: *gpu", example, 1), encoding="utf-8")
    assert resources(settings(profile)["set-resources"])["classifier"] == {
        "slurm_partition": "gpu",
        "gpu": "4",
        "mem_mb": "40000 * attempt",
    }


def test_both_profiles_find_the_same_jobs_stale() -> None:
    triggers = [yaml.safe_load(profile.read_text(encoding="utf-8"))["rerun-triggers"] for profile in (DEFAULT, SLURM)]
    # `code` sees scripts alone, and with `input` a set would be stale because it was cut otherwise.
    assert triggers == [["mtime", "params"]] * 2


@pytest.mark.parametrize(
    ("visible", "devices", "n_gpus"),
    [
        (None, [], 1),
        (None, ["/dev/nvidia0", "/dev/nvidia1"], 2),
        ("", ["/dev/nvidia0", "/dev/nvidia1"], 1),
        ("-1", ["/dev/nvidia0"], 1),
        ("1", ["/dev/nvidia0", "/dev/nvidia1"], 1),
        ("0,2,3", ["/dev/nvidia0"], 3),
        ("MIG-1b2c, MIG-3d4e", ["/dev/nvidia0"], 2),
    ],
)
def test_as_many_jobs_take_a_gpu_as_there_are(
    visible: str | None, devices: list[str], n_gpus: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setattr(glob, "glob", lambda pattern: devices)
    assert settings(DEFAULT)["resources"] == [f"gpu={n_gpus}"]
