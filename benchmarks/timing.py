"""Time and memory of functions that are compared with each other."""

from __future__ import annotations

import multiprocessing
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch


def fastest(functions: Mapping[str, Callable[[], Any]], rounds: int, device: torch.device) -> dict[str, float]:
    """Seconds of the fastest of so many calls of each function, after one call that is not counted.

    The functions take turns, so that whatever else the machine does meets all of them; the fastest call is the one
    that it disturbed least.
    """
    seconds = {name: float("inf") for name in functions}
    for number in range(rounds + 1):
        for name, function in functions.items():
            wait_for(device)
            started = time.perf_counter()
            function()
            wait_for(device)
            if number:
                seconds[name] = min(seconds[name], time.perf_counter() - started)
    return seconds


def wait_for(device: torch.device) -> None:
    """Until the device has done all that it was asked for."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_memory(function: Callable[..., Any], *arguments: Any) -> float:
    """The largest resident memory, in MiB, of a new process that calls a function of a module."""
    context = multiprocessing.get_context("spawn")
    receiving, sending = context.Pipe(duplex=False)
    process = context.Process(target=_report_peak, args=(sending, function, arguments))
    process.start()
    sending.close()
    try:
        peak: float = receiving.recv()
    except EOFError:
        raise RuntimeError(f"{function.__name__} failed in its process; its traceback is above") from None
    finally:
        process.join()
    return peak


def _report_peak(sending: Any, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    function(*arguments)
    # Of Linux alone. ru_maxrss would not do: it counts what the parent had when it started this process.
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    sending.send(int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) / 1024)
