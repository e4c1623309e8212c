import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from benchmarks.workflow import cpu_seconds


def run(repository: Path, log: Path, body: str) -> subprocess.CompletedProcess[str]:
    """Run a script as Snakemake would, with `body` inside `log_to(log)`."""
    script = log.with_name("script.py")
    script.write_text(
        "import logging, os, subprocess, sys, warnings\n"
        "from perturbflow.machine.job import log_to\n"
        "print('before')\n"
        f"with log_to({str(log)!r}):\n    {body}\n"
        "print('after')\n"
    )
    return run_script(repository, script)


def run_script(
    repository: Path, script: Path, variables: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, script],
        env={"PYTHONPATH": str(repository), **(variables or {})},
        capture_output=True,
        text=True,
        timeout=120,
    )


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
    from perturbflow.machine.job import log_to

    log = tmp_path / "logs" / "job.log"
    for _ in range(2):
        with log_to(log):
            subprocess.run(["echo", "once"], check=True)

    assert log.read_text(encoding="utf-8") == "once\n"  # without the CPU seconds: `logging` is pytest's here


def test_a_log_ends_with_the_seconds_that_the_job_took(repository: Path, tmp_path: Path) -> None:
    body = (
        "from time import process_time, sleep\n"
        "    end = process_time() + 0.5\n"
        "    while process_time() < end: pass\n"
        "    subprocess.run([sys.executable, '-c', 'import time\\nwhile time.process_time() < 0.4: pass'])\n"
        "    sleep(0.1)"
    )

    assert run(repository, tmp_path / "job.log", body).stderr == ""

    in_all, of_imports = cpu_seconds(tmp_path / "job.log")
    assert 0 < of_imports < in_all - 0.85
    line = (tmp_path / "job.log").read_text(encoding="utf-8").splitlines()[-1]
    assert float(line.split()[-6]) >= 1.0


def test_a_job_that_fails_fails(repository: Path, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        f"from perturbflow.machine.job import run_job\nrun_job(lambda: 1 / 0, {str(tmp_path / 'job.log')!r})\n"
    )

    job = run_script(repository, script)

    assert job.returncode == 1
    assert job.stderr.endswith("ZeroDivisionError: division by zero\n")
    assert (tmp_path / "job.log").read_text(encoding="utf-8").endswith("ZeroDivisionError: division by zero\n")


SLURM = {"SLURM_JOB_ID": "17", "CUDA_VISIBLE_DEVICES": "1"}


def test_a_log_starts_with_the_job_of_slurm_and_its_gpus(repository: Path, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        f"from perturbflow.machine.job import run_job\nrun_job(lambda: None, {str(tmp_path / 'job.log')!r})\n"
    )

    first_lines = []
    for variables in (SLURM, {"SLURM_JOB_ID": "18"}, {}):
        assert run_script(repository, script, variables).returncode == 0
        first_lines.append((tmp_path / "job.log").read_text(encoding="utf-8").splitlines()[0])

    assert re.search(r"SLURM job 17 on \S+, GPUs: 1$", first_lines[0])
    assert re.search(r"SLURM job 18 on \S+, GPUs: none$", first_lines[1])
    assert "CPU seconds" in first_lines[2]


class Jobs:
    """Jobs with one log, each of which lasts until its stdin ends; what they did when is in the file `events`."""

    def __init__(self, repository: Path, folder: Path) -> None:
        self.repository, self.log, self.events = repository, folder / "job.log", folder / "events"
        self.started: list[subprocess.Popen[str]] = []
        self.script = folder / "script.py"
        self.script.write_text(
            "from perturbflow.machine.job import run_job\n"
            "import os, sys\n"
            "def tell(event):\n"
            f"    with open({str(self.events)!r}, 'a') as events: events.write(f'{{event}} {{os.getpid()}}\\n')\n"
            "def main():\n"
            "    tell('begins'); print('inside', flush=True); sys.stdin.read(); tell('ends')\n"
            f"run_job(main, {str(self.log)!r})\n"
        )

    def start(self, variables: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        job = subprocess.Popen(
            [sys.executable, self.script],
            env={"PYTHONPATH": str(self.repository), **(variables or {})},
            stdin=subprocess.PIPE,
            text=True,
        )
        self.started.append(job)
        return job

    def wait_for(self, text: str) -> str:
        """The log, once it has this text."""

        def log_with_text() -> str | None:
            text_now = text_of(self.log)
            return text_now if text in text_now else None

        return soon(log_with_text)


def text_of(log: Path) -> str:
    """What is in a log; nothing while there is none, as in the moment in which a job replaces another's."""
    try:
        return log.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""


def soon(value: Callable[[], str | None]) -> str:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if found := value():
            return found
        time.sleep(0.01)
    raise TimeoutError


@pytest.fixture
def two_jobs(repository: Path, tmp_path: Path) -> Iterator[Jobs]:
    jobs = Jobs(repository, tmp_path)
    yield jobs
    for job in jobs.started:
        job.kill()
        job.communicate()


def test_a_second_job_with_the_same_log_waits_and_says_for_whom(two_jobs: Jobs) -> None:
    first = two_jobs.start()
    two_jobs.wait_for("inside")
    second = two_jobs.start()

    waiting = two_jobs.wait_for("waits")

    assert re.search(rf"process {first.pid} on \S+; to end it: kill {first.pid}\n", waiting)
    assert two_jobs.events.read_text(encoding="utf-8") == f"begins {first.pid}\n"
    for job in (first, second):
        job.communicate(timeout=60)
        assert job.returncode == 0
    begins_and_ends = [f"{event} {job.pid}\n" for job in (first, second) for event in ("begins", "ends")]
    assert two_jobs.events.read_text(encoding="utf-8") == "".join(begins_and_ends)
    log = two_jobs.log.read_text(encoding="utf-8")
    assert "That job has ended" in log
    assert log.count("inside") == log.count("CPU seconds") == 1  # none of the first job's lines


def test_a_job_goes_on_when_the_one_before_it_is_killed(two_jobs: Jobs) -> None:
    first = two_jobs.start(SLURM)
    two_jobs.wait_for("inside")
    second = two_jobs.start()
    waiting = two_jobs.wait_for("waits")

    first.kill()

    assert re.search(rf"SLURM job 17 \(process {first.pid} on \S+\); to end it: scancel 17\n", waiting)
    two_jobs.wait_for("inside")
    second.communicate(timeout=60)
    assert second.returncode == 0


def test_a_job_that_failed_keeps_nobody_waiting(repository: Path, tmp_path: Path) -> None:
    log = tmp_path / "job.log"
    for main in ("1 / 0", "None"):
        script = tmp_path / "script.py"
        script.write_text(f"from perturbflow.machine.job import run_job\nrun_job(lambda: {main}, {str(log)!r})\n")
        job = run_script(repository, script)

    assert job.returncode == 0
    assert "waits" not in log.read_text(encoding="utf-8")


def test_a_job_runs_where_the_file_system_cannot_lock(repository: Path, tmp_path: Path) -> None:
    log = tmp_path / "job.log"
    script = tmp_path / "script.py"
    script.write_text(
        "from perturbflow.machine.job import run_job\n"
        "import errno, fcntl, os\n"
        "def flock(file, how): raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))\n"
        "fcntl.flock = flock\n"
        f"run_job(lambda: print('inside'), {str(log)!r})\n"
    )

    job = run_script(repository, script)

    assert job.returncode == 0
    text = log.read_text(encoding="utf-8")
    assert "cannot lock" in text
    assert "No locks available" in text
    assert "inside" in text
