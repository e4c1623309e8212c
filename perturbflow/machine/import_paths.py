"""Objects that the config names by import path, `package.module:name`.

The one module that may import dynamically: what it imports cannot be found by reading the source, so that the file
of a user's own module is digested on its own (`source_file`).
"""

from __future__ import annotations

import difflib
import functools
import importlib
import importlib.util
import inspect
import pkgutil
import re
import sys
import sysconfig
from collections.abc import Callable, Iterable, Mapping
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]


def is_import_path(name: str) -> bool:
    """Whether a name has the form `package.module:name`; timm's `hf-hub:` and `local-dir:` names do not have it."""
    return bool(re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*", name))


def load_object(path: str) -> Any:
    """What stands at an import path `package.module:name`, for example `torchvision.models:resnet18`.

    Modules are also looked for in the current working directory and in the repository, after the installed ones.
    Raises ValueError for a path of another form, a module that is not found or fails, and a name that it lacks.
    """
    module_name, name = _parts(path)
    _look_at_home()
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and f"{module_name}.".startswith(f"{error.name}."):
            raise ValueError(
                f"{path}: there is no module {error.name}, neither installed nor in {Path.cwd()}"
            ) from error
        raise ValueError(f"{path}: {module_name} needs the module {error.name}, which is not installed") from error
    except Exception as error:  # of any kind: importing runs the module
        raise ValueError(f"{path}: importing {module_name} failed: {type(error).__name__}: {error}") from error
    if not hasattr(module, name):
        near = difflib.get_close_matches(name, [known for known in dir(module) if not known.startswith("_")], n=5)
        hint = f"did you mean {' or '.join(near)}?" if near else "and nothing of a similar name"
        raise ValueError(f"{path}: {module_name} has no {name}; {hint}")
    return getattr(module, name)


def make(name: str, build: Callable[..., Any], options: Mapping[str, Any]) -> Any:
    """`build(**options)`, for anybody's builder that the config names.

    Raises ValueError, which begins with `options`, where it fails; for an unknown argument with the nearest that is
    taken, and for one that `build` is a `partial` of. An OSError is handed on: a download failed, or a file of the
    builder's is missing.
    """
    if taken := [option for option in options if option in _given(build)]:
        raise ValueError(f"options.{taken[0]}: is not free, it is {_given(build)[taken[0]]} here; remove it")
    try:
        return build(**options)
    except OSError:
        raise
    except Exception as error:  # of any kind: the builder runs
        unknown = re.search(r"unexpected keyword argument '(\w+)'", str(error))
        if isinstance(error, TypeError) and unknown and unknown[1] in options:
            taken = _arguments(build)
            near = difflib.get_close_matches(unknown[1], taken, n=3) or taken
            hint = f"; it takes {', '.join(near)}" if near else ""
            raise ValueError(f"options.{unknown[1]}: {name} has no such argument{hint}") from error
        given = f" with {dict(options)}" if options else ""
        raise ValueError(f"options: {name} cannot be made{given}: {type(error).__name__}: {error}") from error


def _arguments(build: Callable[..., Any]) -> list[str]:
    """Names of the arguments that a builder takes, or, where it hands on any, the class of what it makes without."""
    try:
        parameters = inspect.signature(build).parameters
        if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
            parameters = inspect.signature(type(build())).parameters
    except Exception:  # a hint only, and it may fail in any way
        return []
    return [
        name for name, kind in parameters.items() if name not in _given(build) and not kind.kind.name.startswith("VAR")
    ]


def _given(build: Callable[..., Any]) -> Mapping[str, Any]:
    """The arguments that a builder has already."""
    return build.keywords if isinstance(build, functools.partial) else {}


def source_file(path: str) -> Path | None:
    """The Python file of the module of an import path, found without running any of its code.

    None where the module comes with Python, is installed, or is no Python file, and where there is none.
    Raises ValueError for a path of another form than `package.module:name`.
    """
    module_name, _ = _parts(path)
    _look_at_home()
    top, *rest = module_name.split(".")
    spec = importlib.util.find_spec(top)
    for part in rest:
        spec = _spec_in(part, spec.submodule_search_locations or ()) if spec else None
    if spec is None or not spec.has_location or spec.origin is None:
        return None
    file = Path(spec.origin).resolve()
    return file if file.suffix == ".py" and not _is_installed(file) else None


def _parts(path: str) -> tuple[str, str]:
    """Module and name of an import path."""
    if not is_import_path(path):
        raise ValueError(f"{path!r} is no import path; write package.module:name")
    module_name, _, name = path.partition(":")
    return module_name, name


def _look_at_home() -> None:
    """Let modules be found in the working directory and the repository; last, so that they hide no installed one."""
    present = {str(Path(entry).resolve()) for entry in sys.path}  # "" is the working directory
    sys.path.extend(entry for entry in dict.fromkeys((str(Path.cwd()), str(REPOSITORY))) if entry not in present)
    importlib.invalidate_caches()


def _spec_in(name: str, folders: Iterable[str]) -> ModuleSpec | None:
    """Where the module or package `name` lies in the folders of its parent package.

    Asked of the folders, not by the full name: for that, Python imports the parents.
    """
    namespace = None
    for folder in folders:
        finder = pkgutil.get_importer(folder)
        spec = finder.find_spec(name) if finder else None
        if spec and spec.loader:
            return spec
        namespace = namespace or spec
    return namespace


def _is_installed(file: Path) -> bool:
    library = (Path(sysconfig.get_path(kind)).resolve() for kind in ("stdlib", "platstdlib"))
    return bool({"site-packages", "dist-packages"} & set(file.parts)) or any(
        file.is_relative_to(folder) for folder in library
    )
