"""A job's log: everything it prints, and the traceback if it fails."""

from __future__ import annotations

import logging
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def log_to(path: str | Path) -> Iterator[None]:
    """While open, stdout and stderr go into the file at `path`, which starts empty.

    The streams are redirected at the level of the operating system, so that libraries in C and child processes
    are caught as well; `logging` writes from INFO on. An exception's traceback is written to the file, and the
    exception goes on to the console.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    streams = (sys.stdout, sys.stderr)
    consoles = [os.dup(descriptor) for descriptor in (1, 2)]
    with path.open("wb", buffering=0) as file:
        _flush(streams)
        for descriptor in (1, 2):
            os.dup2(file.fileno(), descriptor)
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
        try:
            yield
        except BaseException:
            _flush(streams)
            traceback.print_exc()
            raise
        finally:
            _flush(streams)
            for descriptor, console in zip((1, 2), consoles, strict=True):
                os.dup2(console, descriptor)
                os.close(console)


def _flush(streams: tuple[object, ...]) -> None:
    for stream in streams:
        stream.flush()  # type: ignore[attr-defined]
