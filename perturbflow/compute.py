"""The device and the number format that a job computes with."""

from __future__ import annotations

import ctypes
from contextlib import AbstractContextManager

import torch


def select_device(name: str) -> torch.device:
    """`auto` is the first CUDA device where there is one, else the CPU; other names are torch's.

    Raises ValueError where a CUDA device is asked for and none is available.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(f"compute.device: {name} was asked for, but no CUDA device is available; use auto.")
    return torch.device(name)


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
    """Give torch the threads of the job and select the device. From here on float32 means float32 on a GPU too."""
    torch.set_num_threads(threads)
    # cuDNN would round pixels to TensorFloat-32: in steps of up to a quarter of a perturbation of 0.255 pixel values.
    torch.backends.cudnn.allow_tf32 = False
    selected = select_device(device)
    if selected.type == "cpu":
        _keep_freed_memory()
    return selected


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
