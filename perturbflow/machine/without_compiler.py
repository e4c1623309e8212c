"""Imports of timm and torchvision that leave out torch's compiler."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import torch

UTILITIES = "torch._dynamo.utils"


@contextmanager
def without_compiler() -> Iterator[None]:
    """While open, imports that ask torch's compiler for no more than timm and torchvision do leave it out.

    The compiler, with sympy, is 1.2 of the 1.7 CPU seconds that `import timm` takes after `import torch`, in every job
    that has a classifier. torchvision 0.29 imports it for `is_compile_supported`, timm 1.0 by decorating with
    `torch.compiler.disable`. Here both get what imports the compiler only when it is called, and then does as ever.
    Whatever else is asked of the compiler imports it at once.
    """
    disable = torch.compiler.disable
    if "torch._dynamo" in sys.modules or not hasattr(torch, "_disable_dynamo"):
        yield
        return
    sys.modules[UTILITIES] = _Utilities(UTILITIES)
    torch.compiler.disable = _disable
    try:
        yield
    finally:
        torch.compiler.disable = disable
        _make_way()


def _make_way() -> None:
    """Let the next import of the compiler's utilities find the real ones."""
    if isinstance(sys.modules.get(UTILITIES), _Utilities):
        del sys.modules[UTILITIES]


def _disable(function: Callable[..., Any] | None = None, recursive: bool = True, *, reason: str | None = None) -> Any:
    """In place of `torch.compiler.disable`: torch's own variant of it that imports the compiler in the first call."""
    return torch._disable_dynamo(function, recursive)  # type: ignore[attr-defined]


def _is_compile_supported(device_type: Any) -> bool:
    _make_way()
    from torch._dynamo.utils import is_compile_supported

    return is_compile_supported(device_type)


class _Utilities(ModuleType):
    """In place of `torch._dynamo.utils`: has `is_compile_supported`, and hands on all else."""

    is_compile_supported = staticmethod(_is_compile_supported)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # the import system looks for such names, and does without
            raise AttributeError(f"module {UTILITIES!r} has no attribute {name!r}")
        _make_way()
        from torch._dynamo import utils

        return getattr(utils, name)
