"""Where the file of weights lies that a config names."""

from __future__ import annotations

import difflib
import importlib.metadata
import importlib.util
import os
from pathlib import Path

PACKAGE = "package:"


def resolve_weights(weights: str) -> Path | None:
    """The file that `weights` of a config names; None for `none` and `imagenet`, which are no files.

    weights: besides these, a path, in which `~` and `$NAME` are replaced, or `package:name/path/in/package`: a file
    that comes with an installed Python package, by the name under which it is installed or imported. The package is
    not imported. A path is given back whether there is a file or not.
    Raises FileNotFoundError where the package is not installed, or has no such file, with the nearest that it has.
    """
    if weights in ("none", "imagenet"):
        return None
    if not weights.startswith(PACKAGE):
        return Path(os.path.expandvars(weights)).expanduser()
    name, _, path = weights.removeprefix(PACKAGE).partition("/")
    folders = _folders_of_package(name)
    if not folders:
        raise FileNotFoundError(
            f"weights: {weights}: there is no Python package {name}; install it: pip install {name}; "
            "the form is package:name/path/in/package"
        )
    file = next((file for folder in folders if path and (file := folder / path).is_file()), None)
    if file is None:
        found = sorted(f.relative_to(folder).as_posix() for folder in folders for f in folder.rglob("[!.]*.*"))
        files = [one for one in found if not one.endswith((".py", ".pyc", ".pyi"))]
        near = [*difflib.get_close_matches(path, files, n=5, cutoff=0.4), *filter(_is_likely, files), *files]
        raise FileNotFoundError(
            f"weights: {weights}: the package {name} has no such file; the form is package:name/path/in/package; "
            f"the nearest are {', '.join([*dict.fromkeys(near)][:5]) or 'none'}"
        )
    return file


def _folders_of_package(name: str) -> list[Path]:
    """Folders of an installed package, of the name that is imported or that pip knows; [] where there is none."""
    module = name.replace("-", "_")
    # A name without dots: for others Python imports what stands before them.
    spec = importlib.util.find_spec(module) if module.isidentifier() else None
    if spec:
        return [Path(folder) for folder in spec.submodule_search_locations or ()]
    try:
        files = importlib.metadata.files(name) or []
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return []
    tops = {Path(str(file.locate())).parents[len(file.parts) - 2] for file in files if len(file.parts) > 1}
    return sorted(folder for folder in tops if folder.suffix not in (".dist-info", ".egg-info"))


def _is_likely(file: str) -> bool:
    return file.endswith((".pth", ".pt", ".safetensors", ".bin", ".ckpt"))
