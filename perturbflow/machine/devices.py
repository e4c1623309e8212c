"""The device and the number format that a job computes with."""

from __future__ import annotations

import ctypes
import logging
import os
import tempfile
from collections.abc import Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path

import torch
from filelock import FileLock, Timeout

logger = logging.getLogger(__name__)

CLAIMED = "PERTURBFLOW_CLAIMED"
"""Environment variable with the names of the devices that a process has claimed, for the processes that it starts."""

LARGEST_HELD = 16_000_000_000
"""Bytes of images that a job asks a cluster for (`planning.requests.Job`); larger data are read as it goes."""

# Held to the end of the process, however that comes.
_locks: dict[str, FileLock] = {}


def select_device(name: str) -> torch.device:
    """`auto` is the CUDA device that torch computes with where there is one, else the CPU; other names are torch's.

    Raises ValueError where a CUDA device is asked for and none is available.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        if gpus := os.environ.get("SLURM_JOB_GPUS"):
            logger.warning(
                "SLURM gave this job GPU %s, which torch %s cannot use (is the driver too old?): computing on the CPU",
                gpus,
                torch.__version__,
            )
        return torch.device("cpu")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(f"compute.device: {name} was asked for, but no CUDA device is available; use auto.")
    return torch.device(name)


def select_devices(name: str, n_devices: int = 1) -> list[torch.device]:
    """The devices of a job's processes, one each; of CUDA devices those that no other job of this machine has claimed.

    name: as for `select_device`. `auto` and `cuda` wait until enough of the visible CUDA devices are free. `cuda:N` is
    the user's own choice: it is claimed for others to see, and taken even where another job has it.
    Raises ValueError where there are fewer devices than are asked for.
    """
    selected = select_device(name)
    if selected.type != "cuda":
        return [selected] * n_devices
    numbers, is_chosen = range(torch.cuda.device_count()), ":" in name
    if is_chosen:
        numbers = numbers[selected.index : selected.index + 1]
    if n_devices > len(numbers):
        raise ValueError(f"compute.device: {name} is {len(numbers)} GPUs here, and the job's resource gpu {n_devices}")
    names = [_name_of(number) for number in numbers]
    if is_chosen:
        with suppress(OSError):
            _claim_free(names, 1)
        return [selected]
    return [torch.device("cuda", numbers[position]) for position in claim(names, n_devices)]


def _name_of(number: int) -> str:
    """A name of a visible CUDA device that is the same in all processes."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    # A part of a GPU (MIG) has the same UUID as the others of that GPU, or its own: that depends on the driver.
    if visible.startswith("MIG-"):
        return visible.split(",")[number].strip()
    return str(torch.cuda.get_device_properties(number).uuid)


def claim(names: Sequence[str], n_wanted: int = 1) -> list[int]:
    """Claim the first `n_wanted` devices that no other process has claimed, and give their positions in `names`.

    Waits while too few are free, and holds none meanwhile, so that no two processes wait for each other's. A claim ends
    with its process, however that ends; the processes that it starts share its claims. Claims are locks on files in the
    folder for temporary files; where it cannot lock, a warning says so and the first devices are taken.
    """
    is_first_time = True
    while True:
        try:
            claimed, busy = _claim_free(names, n_wanted)
            if claimed:
                return claimed
            if is_first_time:
                logger.info("waiting until other jobs leave %d of these GPUs: %s", n_wanted, ", ".join(names))
            is_first_time = False
            # The system cannot wait for any of several locks: after a while for one of them all are tried again.
            with suppress(Timeout), busy.acquire(timeout=1.0, poll_interval=0.2):
                pass
        except OSError as error:
            logger.warning("Nothing keeps other jobs from the same GPU: cannot lock files (%s)", error)
            return list(range(n_wanted))


def _claim_free(names: Sequence[str], n_wanted: int) -> tuple[list[int], FileLock]:
    """Positions of `n_wanted` devices, or none where too few are free, and the lock of the last that was not."""
    inherited = os.environ.get(CLAIMED, "").split()
    taken: dict[str, FileLock] = {}
    found: list[int] = []
    for position, name in enumerate(names):
        # Every user's jobs lock the same file.
        lock = FileLock(_lock_file(name), mode=0o666, thread_local=False, fallback_to_soft=False)
        if name not in inherited:
            try:
                lock.acquire(timeout=0)
            except Timeout:
                busy = lock
                continue
            taken[name] = lock
        found.append(position)
        if len(found) == n_wanted:
            _locks.update(taken)
            os.environ[CLAIMED] = " ".join([*inherited, *taken])
            return found, lock
    for lock in taken.values():
        lock.release()
    return [], busy


def _lock_file(name: str) -> Path:
    return Path(tempfile.gettempdir()) / f"perturbflow-{name.replace('/', '_')}.lock"


def select_precision(name: str, device: torch.device) -> torch.dtype:
    """`float32`, `bfloat16`, or `auto`: bfloat16 where the device multiplies it in hardware."""
    if name != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16}[name]
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    return torch.bfloat16 if torch.cpu._is_avx512_bf16_supported() else torch.float32


def mixed_precision(precision: torch.dtype, device: torch.device) -> AbstractContextManager[None]:
    """Automatic mixed precision; does nothing for float32."""
    return torch.autocast(device.type, dtype=precision, enabled=precision != torch.float32)


def prepare(device: str, threads: int) -> torch.device:
    """Claim a device for this job, as `select_devices` does, and set it up for `threads` threads."""
    (selected,) = select_devices(device)
    set_up(selected, threads)
    return selected


def set_up(device: torch.device, threads: int) -> None:
    """Give torch its threads and its device. From here on float32 means float32 on a GPU too."""
    torch.set_num_threads(threads)
    # cuDNN would round pixels to TensorFloat-32: in steps of up to a quarter of a perturbation of 0.255 pixel values.
    torch.backends.cudnn.allow_tf32 = False
    if device.type == "cuda":
        torch.cuda.set_device(device)  # else pinned memory and questions to the hardware would go to the first one
    if device.type == "cpu":
        _keep_freed_memory()


def room_for_images(device: torch.device, job_mb: int | None = None, n_processes: int = 1) -> int:
    """Bytes that images may take on the device beside a network that is trained there.

    A quarter of a GPU's free memory. On a CPU half of what is free, shared by the processes, and no more than a job
    asks for. job_mb: the memory that it asked its cluster for. A CPU counts no more than that as free, since SLURM ends
    a job that takes more, whatever the machine has.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(free // 4)
    free = _available_memory() if job_mb is None else min(_available_memory(), job_mb * 1_000_000)
    return min(free // 2, LARGEST_HELD) // n_processes


def _available_memory() -> int:
    """Bytes of main memory that programs can still take; all there are where the system does not tell."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _keep_freed_memory() -> None:
    """Let the C library keep the memory of large tensors for the next ones, where it is glibc.

    It would hand each back to the system, and get it again page by page: up to a third of the time of a network's pass.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    n_mappings, trim_threshold = -4, -1  # M_MMAP_MAX, M_TRIM_THRESHOLD
    mallopt(n_mappings, 0)
    mallopt(trim_threshold, -1)
