"""Files of weights, read without running anything that is in them."""

from __future__ import annotations

import argparse
import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

_OTHER_FRAMEWORK = "load it in its own framework, and save the weights under PyTorch's names with torch.save"
_UNPACK = "unpack it and name the file of weights in it"

_OTHER_KINDS = (
    (rb"\Z", "an empty file", "fetch it again"),
    (rb"version https://git-lfs", "a Git LFS pointer and not the file that it stands for", "fetch that: git lfs pull"),
    (rb"(?i)\s*<(!doctype|html|\?xml)", "a web page", "download the file itself and not the page about it"),
    (rb"\s*\{.*\"weight_map\"", "the index of weights in several files", "write them into one: {merge}"),
    (rb"\s*[{\[][\s\"\]}\[0-9-]", "a text in JSON", "name the file of weights beside it"),
    (rb"\x89HDF\r\n", "an HDF5 file, as Keras and TensorFlow write them", _OTHER_FRAMEWORK),
    (rb"\x93NUMPY", "a NumPy array", _OTHER_FRAMEWORK),
    (rb"....TFL3", "a network of TensorFlow Lite", _OTHER_FRAMEWORK),
    (rb"\x08[\x01-\x20]([\x12\x1a\x22].[ -~]|\x3a)", "a network in ONNX", "take the weights that it was exported from"),
    (rb"GGUF", "a GGUF file", _OTHER_FRAMEWORK),
    (rb"\x1f\x8b|BZh|\xfd7zXZ|7z\xbc\xaf|\x28\xb5\x2f\xfd|.{257}ustar", "a packed archive", _UNPACK),
    (rb"\x89PNG|\xff\xd8\xff|GIF8|RIFF", "a picture", "name a file of weights"),
)
"""How files begin that are no weights for PyTorch: what they are, and what to do."""

_MERGE = (
    'torch.save({{name: tensor for file in Path("{folder}").glob("*-of-*") for name, tensor in '
    'read_weights(file).items()}}, "whole.pth"), read_weights from perturbflow.classifiers.weight_files'
)
_FOLDERS = {
    ".metadata": "is sharded over processes; write it into one file: "
    "python -m torch.distributed.checkpoint.format_utils dcp_to_torch {path} whole.pth",
    "zero_to_fp32.py": "is DeepSpeed's; write it into one file: python {path}/zero_to_fp32.py {path} whole",
    "saved_model.pb": f"is TensorFlow's; {_OTHER_FRAMEWORK}",
}
"""What a folder is, by a file in it."""

_LEGACY_MAGIC = b"\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19"
"""With it files of PyTorch before 1.6 begin, after two bytes."""

_IS_SHARDED = (
    "its tensors are sharded over processes; save them whole, as get_model_state_dict of "
    "torch.distributed.checkpoint.state_dict gives them with StateDictOptions(full_state_dict=True, cpu_offload=True)"
)
_SHARDED = re.compile(r"torch\.distributed|DTensor|ShardedTensor")
_NETWORK = re.compile(r"torch\.nn\.modules\.(?!loss\b)|torch\.fx\.|torchvision\.models\.|timm\.(models|layers)\.")


def read_weights(path: Path) -> dict[str, Tensor]:
    """All tensors of a file, by name: of torch.save in any wrapping, or of safetensors.

    The keys of the mappings around a tensor stand before its name, with dots between them: that of
    `{"model": {"fc.bias": ...}}` is `model.fc.bias`. What an optimizer keeps is left out. Tensors may lie in the file
    until they are used. Nothing in the file is run.
    Raises FileNotFoundError where there is no file, and ValueError for one without weights, or with anything beside
    them that takes code to be read; it says what the file is and what turns it into weights.
    """
    if not path.is_file():
        raise _no_file(path)
    with path.open("rb") as file:
        start = file.read(1024)
    try:
        if kind := _other_kind(path, start):
            raise ValueError(f"it is {kind}")
        return _named_tensors(load_file(path) if _is_safetensors(start) else _load(path))
    except pickle.UnpicklingError as error:
        raise ValueError(f"weights: {path} cannot be read as a file of weights: {_needs_code(path, error)}") from error
    except ValueError as error:
        raise ValueError(f"weights: {path} cannot be read as a file of weights: {error}") from error
    except Exception as error:  # of many kinds: whatever the formats' readers raise
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(
            f"weights: {path} cannot be read as a file of weights; it may be cut off, fetch it again: {reason}"
        ) from error


def _no_file(path: Path) -> Exception:
    """What to raise where a path is not that of a file."""
    if not path.is_dir():
        return FileNotFoundError(f"weights: {path} does not exist; give a file, `imagenet` or `none`.")
    names = sorted(entry.name for entry in path.iterdir())
    known = next((_FOLDERS[name].format(path=path) for name in names if name in _FOLDERS), None)
    files = [name for name in names if name.endswith((".pth", ".pt", ".safetensors", ".bin", ".ckpt"))]
    hint = known or f"is a folder; name a file in it{': ' + ', '.join(files[:5]) if files else ''}"
    return FileNotFoundError(f"weights: {path} does not exist as a file: it {hint}.")


def _is_safetensors(start: bytes) -> bool:
    """A length in eight bytes, then JSON."""
    return start[8:9] == b"{" and not start.lstrip().startswith(b"{")


def _load(path: Path) -> Any:
    """What torch.save wrote. Raises whatever torch raises."""
    with torch.serialization.safe_globals(_harmless()):
        # Tensors of files that are no zip archives, of PyTorch before 1.6, cannot stay in the file.
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))


def _harmless() -> list[Any]:
    """What may stand beside tensors: the arguments of a script, and numbers and arrays of NumPy, but not of objects.

    NumPy pickles them by two functions, which it has under one name and had under another.
    """
    scalar, array = np.float64(0).__reduce__()[0], np.zeros(1).__reduce__()[0]
    functions = [
        (function, f"numpy.{core}.multiarray.{name}")
        for core in ("core", "_core")
        for function, name in ((scalar, "scalar"), (array, "_reconstruct"))
    ]
    kinds = {type(np.dtype(code)) for code in np.typecodes["All"] if code not in "OV"}
    return [argparse.Namespace, *functions, np.ndarray, np.dtype, *kinds]


def _other_kind(path: Path, start: bytes) -> str | None:
    """What a file is that is neither torch.save's nor of safetensors, and what to do with it."""
    if _is_safetensors(start):
        return None
    if start.startswith(b"PK"):
        return _other_archive(path)
    for pattern, kind, way_out in _OTHER_KINDS:
        if re.match(pattern, start, re.DOTALL):
            return f"{kind}; {way_out.format(merge=_MERGE.format(folder=path.parent))}"
    if start[:1] != b"\x80":
        return "neither of torch.save nor of safetensors; name a file of weights"
    if _LEGACY_MAGIC not in start[:16]:
        lines = _two_lines(f'state = pickle.load(open("{path}", "rb"))', "state", path)
        return f"pickled without torch.save, and reading it may run code; where you trust it, write\n{lines}"
    return None


def _other_archive(path: Path) -> str | None:
    """What a zip archive is that does not hold weights."""
    if not zipfile.is_zipfile(path):
        return "cut off: its end is missing; fetch it again"
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    ends = {name.rpartition("/")[2] for name in names}
    if "constants.pkl" in ends:
        lines = _two_lines(f'net = torch.jit.load("{path}")', "net.state_dict()", path)
        return f"a TorchScript archive, which holds code; where you trust it, write\n{lines}"
    if "archive_format" in ends or "serialized_exported_program.json" in ends:
        lines = _two_lines(f'net = torch.export.load("{path}")', "net.state_dict", path)
        return f"an exported program, which holds code; where you trust it, write\n{lines}"
    if "data.pkl" in ends:
        return None
    if names and all(name.endswith(".npy") for name in names):
        return f"an archive of NumPy arrays; {_OTHER_FRAMEWORK}"
    if "model.weights.h5" in ends:
        return f"a network of Keras; {_OTHER_FRAMEWORK}"
    return f"a zip archive of {', '.join(names[:3]) or 'nothing'}; {_UNPACK}"


def _needs_code(path: Path, error: Exception) -> str:
    """What to say of a file whose reading would take classes or functions that are not tensors'."""
    try:
        with torch.serialization.safe_globals(_harmless()):
            needed = sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    except Exception:  # of any kind: only files of PyTorch 1.6 and later can be asked, and not every one
        needed = []
    needed = needed or [*re.findall(r"GLOBAL (\S+)", str(error)), *re.findall(r"got <class '(\S+)'>", str(error))]
    if any(map(_SHARDED.search, [*needed, str(error)])):
        return _IS_SHARDED
    names = ", ".join(needed[:3]) + (f" and {len(needed) - 3} more" if len(needed) > 3 else "")
    if any(map(_NETWORK.search, needed)):
        what = "it is a whole pickled network, or holds one"
        taken = "net.state_dict()"
        aside = '; where it stands under a key, write net["model"].state_dict()'
    else:
        what, taken, aside = "there is more than tensors in it", 'net["state_dict"]', ""
    lines = _two_lines(f'net = torch.load("{path}", weights_only=False)', taken, path)
    return (
        f"{what}, and reading {names or 'that'} may run code. "
        f"Where you trust the file, turn it into weights in the environment that it comes from{aside}:\n{lines}"
    )


def _two_lines(load: str, weights: str, path: Path) -> str:
    return f'    {load}\n    torch.save({weights}, "{path.stem}_weights.pth")'


def _named_tensors(content: Any) -> dict[str, Tensor]:
    """The tensors in mappings and lists of any depth, but for optimizers'. Raises ValueError where there are none."""
    named: dict[str, Tensor] = {}
    of_optimizers = False
    waiting = [("", content)]
    while waiting:
        name, value = waiting.pop()
        if isinstance(value, Tensor) and name:
            if type(value) not in (Tensor, torch.nn.Parameter):
                raise ValueError(_IS_SHARDED)
            named[name] = value.detach()
        elif isinstance(value, Mapping) and "param_groups" in value:
            of_optimizers = True
        elif isinstance(value, Mapping | list | tuple):
            items = value.items() if isinstance(value, Mapping) else enumerate(value)
            inner = [(f"{name}.{key}" if name else str(key), part) for key, part in items]
            waiting.extend(reversed(inner))
    if not named:
        held = ", ".join(map(str, content)) if isinstance(content, Mapping) and content else type(content).__name__
        raise ValueError(f"it holds no weights, only {'the state of an optimizer' if of_optimizers else held}")
    return named
