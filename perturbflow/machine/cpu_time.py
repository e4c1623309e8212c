"""CPU time of what a job does beside computing; its log tells it at the end."""

from __future__ import annotations

import time
from contextlib import ContextDecorator


class CPUTime(ContextDecorator):
    """Adds up the CPU seconds, of all threads, that this process takes while open; a decorator too.

    Opened once more while it is open, it counts once.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self._depth = 0
        self._opened_at = 0.0

    def __enter__(self) -> None:
        if not self._depth:
            self._opened_at = time.process_time()
        self._depth += 1

    def __exit__(self, *exception: object) -> None:
        self._depth -= 1
        if not self._depth:
            self.seconds += time.process_time() - self._opened_at


building_networks = CPUTime()
