import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.workflow import cpu_seconds


def run(repository: Path, log: Path, body: str) -> subprocess.CompletedProcess[str]:
    """Run a script as Snakemake would, with `body` inside `log_to(log)`."""
    script = log.with_name("script.py")
    script.write_text(
        "import logging, os, subprocess, sys, warnings\n"
        "from perturbflow.logs import log_to\n"
        "print('before')\n"
        f"with log_to({str(log)!r}):\n    {body}\n"
        "print('after')\n"
    )
    return subprocess.run([sys.executable, script], env={"PYTHONPATH": str(repository)}, capture_output=True, text=True)


def test_everything_printed_goes_into_the_log(repository: Path, tmp_path: Path) -> None:
    body = (
        "print('a line'); print('an error', file=sys.stderr); warnings.warn('a warning'); logging.info('a message'); "
        "os.write(2, b'from C'); subprocess.run(['echo', 'from a child'])"
    )

    finished = run(repository, tmp_path / "job.log", body)

    text = (tmp_path / "job.log").read_text(encoding="utf-8")
    for part in ("a line", "an error", "a warning", "a message", "from C", "from a child"):
        assert part in text
    assert (finished.returncode, finished.stdout, finished.stderr) == (0, "before\nafter\n", "")


def test_a_traceback_goes_into_the_log_and_to_the_console(repository: Path, tmp_path: Path) -> None:
    finished = run(repository, tmp_path / "job.log", "print('a line'); raise ValueError('wrong step')")

    text = (tmp_path / "job.log").read_text()
    assert text.startswith("a line\nTraceback")
    assert text.endswith("ValueError: wrong step\n")
    assert finished.returncode == 1
    assert finished.stderr.endswith("ValueError: wrong step\n")


def test_a_log_starts_empty_and_its_folder_is_made(repository: Path, tmp_path: Path) -> None:
    from perturbflow.logs import log_to

    log = tmp_path / "logs" / "job.log"
    for _ in range(2):
        with log_to(log):
            subprocess.run(["echo", "once"], check=True)

    assert log.read_text(encoding="utf-8") == "once\n"  # without the CPU seconds: `logging` is pytest's here


def test_a_log_ends_with_the_seconds_that_the_job_took(repository: Path, tmp_path: Path) -> None:
    body = (
        "from perturbflow.cpu_time import building_networks; from time import process_time, sleep\n"
        "    def work(seconds):\n"
        "        end = process_time() + seconds\n"
        "        while process_time() < end: pass\n"
        "    nested = building_networks(lambda: work(0.2))\n"
        "    with building_networks: nested()\n"
        "    work(0.3)\n"
        "    subprocess.run([sys.executable, '-c', 'import time\\nwhile time.process_time() < 0.4: pass'])\n"
        "    sleep(0.1)"
    )

    assert run(repository, tmp_path / "job.log", body).stderr == ""

    in_all, of_imports, of_building = cpu_seconds(tmp_path / "job.log")
    assert of_building == pytest.approx(0.2, abs=0.1)
    assert 0 < of_imports < in_all - 0.85
    line = (tmp_path / "job.log").read_text(encoding="utf-8").splitlines()[-1]
    assert float(line.split()[-6]) >= 1.0


def test_garbage_is_collected_once_the_log_is_open(repository: Path, tmp_path: Path) -> None:
    body = "import gc; print(gc.isenabled(), gc.get_freeze_count() > 0)"

    run(repository, tmp_path / "job.log", body)

    assert (tmp_path / "job.log").read_text(encoding="utf-8").startswith("True True\n")


def test_a_job_ends_with_its_script(repository: Path, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "from perturbflow.logs import run_job\n"
        "import atexit\n"
        "atexit.register(print, 'at exit')\n"
        "print('before', end='')\n"
        f"run_job(lambda: print('inside'), {str(tmp_path / 'job.log')!r})\n"
    )

    job = subprocess.run([sys.executable, script], env={"PYTHONPATH": str(repository)}, capture_output=True, text=True)

    assert (job.returncode, job.stdout, job.stderr) == (0, "before", "")
    assert (tmp_path / "job.log").read_text(encoding="utf-8").startswith("inside\n")


def test_a_job_that_fails_fails(repository: Path, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(f"from perturbflow.logs import run_job\nrun_job(lambda: 1 / 0, {str(tmp_path / 'job.log')!r})\n")

    job = subprocess.run([sys.executable, script], env={"PYTHONPATH": str(repository)}, capture_output=True, text=True)

    assert job.returncode == 1
    assert job.stderr.endswith("ZeroDivisionError: division by zero\n")
    assert (tmp_path / "job.log").read_text(encoding="utf-8").endswith("ZeroDivisionError: division by zero\n")
