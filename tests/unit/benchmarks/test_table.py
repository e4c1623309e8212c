"""The benchmarks' clock, memory and table."""

import time

import numpy as np
import pytest
import torch

from benchmarks.results import Result, load, record, save, table
from benchmarks.timing import fastest, peak_memory

MEBIBYTE = 2**20


def hold(mebibytes):
    assert np.ones(mebibytes * MEBIBYTE, np.uint8).all()


@pytest.mark.slow
def test_peak_memory_is_that_of_the_process_alone():
    ours = np.ones(900 * MEBIBYTE, np.uint8)
    little, much = peak_memory(hold, 1), peak_memory(hold, 301)
    assert ours.all()
    assert little < 900
    assert much - little == pytest.approx(300, abs=40)


def fail():
    raise ZeroDivisionError


@pytest.mark.slow
def test_a_process_that_fails_has_no_peak():
    with pytest.raises(RuntimeError, match="fail failed in its process"):
        peak_memory(fail)


def test_the_fastest_call_counts_and_the_first_does_not():
    calls = []

    def function():
        calls.append(0)
        time.sleep({1: 0.0, 2: 0.05, 3: 0.02}[len(calls)])

    seconds = fastest({"function": function}, 2, torch.device("cpu"))
    assert len(calls) == 3
    assert 0.02 <= seconds["function"] < 0.05


@pytest.mark.parametrize(
    ("ratio", "bound", "expected"),
    [
        (1.05, "<= 1.1", "yes"),
        (1.15, "<= 1.1", "no"),
        (1.5, ">= 1.4", "yes"),
        (1.3, ">= 1.4", "no"),
        (1.3, "", ""),
        (None, "", ""),
    ],
)
def test_bounds(ratio, bound, expected):
    assert Result("attack", "FGSM", 1.0, "s", ratio=ratio, bound=bound).holds == expected


def test_what_was_not_measured_says_so_and_results_survive(tmp_path):
    results = [
        Result("attack", "FGSM", 12.345678, "s", "foolbox", 24.7, 2.0007, ">= 2"),
        Result("gpu", "hours", None, "h"),
    ]
    save(results, tmp_path / "results.json")
    assert load(tmp_path / "results.json") == results
    first, second = table(results).splitlines()[2:]
    cells = [cell.strip() for cell in first.strip("|").split("|")]
    assert cells == ["attack", "FGSM", "12.35", "s", "foolbox", "24.7", "2.001", ">= 2", "yes"]
    assert "not measured" in second


def test_a_page_keeps_the_results_of_each_device(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- measured: cpu -->\nold\n<!-- end -->\n<!-- measured: cuda -->\n<!-- end -->\nafter\n")
    for text in ("other", "new"):
        record(page, "cpu", text)
    record(page, "cuda", "fast")
    lines = [line for line in page.read_text().splitlines() if line]
    cpu, cuda = ["<!-- measured: cpu -->", "new", "<!-- end -->"], ["<!-- measured: cuda -->", "fast", "<!-- end -->"]
    assert lines == ["before", *cpu, *cuda, "after"]
    with pytest.raises(ValueError, match="no place for results of mps"):
        record(page, "mps", "none")
