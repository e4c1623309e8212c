"""A job from start to end, and its log: everything it prints, its CPU time, and the traceback if it fails.

Where the first Snakemake was killed and its job lives on, a second one starts that job again. The later job waits for
the earlier one, so that no file is written by two.
"""

from __future__ import annotations

import fcntl
import logging
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


def run_job(main: Callable[[], None], log: str | Path) -> None:
    """Run a script's `main` with its log, as the only job that has this log."""
    with log_to(log):
        if "SLURM_JOB_ID" in os.environ:
            logging.info("SLURM job %s on %s, GPUs: %s", os.environ["SLURM_JOB_ID"], os.uname().nodename, _slurm_gpus())
        _wait_for_others(Path(log))
        main()


@contextmanager
def log_to(path: str | Path) -> Iterator[None]:
    """While open, stdout and stderr go into the file at `path`, which starts empty.

    The streams are redirected at the level of the operating system, so that libraries in C and child processes
    are caught as well; `logging` writes from INFO on. An exception's traceback is written to the file, and the
    exception goes on to the console. Without one the log's last line tells the CPU seconds of the whole process and
    the children that it waited for, and how many of them went by before the log opened.
    """
    cpu_seconds_before, opened_at = _cpu_seconds(), time.perf_counter()
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)  # as Snakemake does: what still writes the old one must not write into this one
    streams = (sys.stdout, sys.stderr)
    consoles = [os.dup(descriptor) for descriptor in (1, 2)]
    with path.open("wb", buffering=0) as file:
        _flush(streams)
        for descriptor in (1, 2):
            os.dup2(file.fileno(), descriptor)
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
        try:
            yield
            _flush(streams)
            logging.info(
                "CPU seconds: %.2f in all, %.2f of start-up and imports; %.2f seconds passed after the imports",
                _cpu_seconds(),
                cpu_seconds_before,
                time.perf_counter() - opened_at,
            )
        except BaseException:
            _flush(streams)
            traceback.print_exc()
            raise
        finally:
            _flush(streams)
            for descriptor, console in zip((1, 2), consoles, strict=True):
                os.dup2(console, descriptor)
                os.close(console)


def _slurm_gpus() -> str:
    """The GPUs that SLURM gave to this job, by their numbers."""
    variables = ("CUDA_VISIBLE_DEVICES", "SLURM_STEP_GPUS", "SLURM_JOB_GPUS")
    return next((os.environ[name] for name in variables if os.environ.get(name)), "none")


def _wait_for_others(log: Path) -> None:
    """Wait until no other process runs a job with this log, and keep others waiting until this process ends.

    The lock is flock's, which ends with its process however that ends, and which waits without polling. It is on a
    hidden file beside the log, as Snakemake removes the log itself. That file stays: to remove it would let two jobs
    hold locks on two files of one name. It tells who holds it, in the words that a waiting job uses.
    Where the file system cannot lock, a warning says so and the job goes on.
    """
    lock = log.with_name(f".{log.name}.lock")
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)  # open until the process ends
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 1000, 0).decode(errors="replace") or "another process"
            logging.warning("This job waits for the end of one that makes the same files: %s", holder)
            since = time.monotonic()
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            logging.info("That job has ended after %.0f s of waiting", time.monotonic() - since)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, _name_of_this_process().encode(), 0)
    except OSError as error:
        logging.warning("Nothing keeps a second job from making the same files: cannot lock %s (%s)", lock, error)


def _name_of_this_process() -> str:
    host, slurm_job = os.uname().nodename, os.environ.get("SLURM_JOB_ID")
    if slurm_job:
        return f"SLURM job {slurm_job} (process {os.getpid()} on {host}); to end it: scancel {slurm_job}"
    return f"process {os.getpid()} on {host}; to end it: kill {os.getpid()}"


def _cpu_seconds() -> float:
    """Of this process and the children that it waited for, in user and system mode."""
    return sum(os.times()[:4])


def _flush(streams: tuple[object, ...]) -> None:
    for stream in streams:
        stream.flush()  # type: ignore[attr-defined]
