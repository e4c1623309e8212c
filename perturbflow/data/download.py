"""Files from the network, which appear when they are whole and right."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from urllib.request import Request, urlopen

from perturbflow.data.image_list import DataError


@dataclass(frozen=True)
class RemoteFile:
    """A file to download, and how to tell that it arrived whole."""

    url: str
    size: int
    md5: str


def download(remote: RemoteFile, path: Path) -> None:
    """Download a file to `path`, going on where an earlier attempt broke off (`<path>.part`).

    The file appears at `path` once its size and MD5 are right.
    Raises DataError, naming URL and file and saying what to do, otherwise.
    """
    part = path.with_name(f"{path.name}.part")
    what = f"Download of {remote.url} to {path}"
    advice = f"or put the file at {path} yourself, or the data where data.path points."
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _fetch(remote, part)
    except (OSError, HTTPException, DataError) as error:
        raise DataError(f"{what} failed: {error}. Run again to continue, {advice}") from error
    if part.stat().st_size < remote.size:
        raise DataError(
            f"{what} broke off after {part.stat().st_size:,} of {remote.size:,} bytes. Run again to continue, {advice}"
        )
    with open(part, "rb") as file:
        md5 = hashlib.file_digest(file, "md5").hexdigest()
    if md5 != remote.md5:
        part.unlink()
        raise DataError(f"{what} gave a damaged file (MD5 {md5}, not {remote.md5}). Run again to start over, {advice}")
    os.replace(part, path)


def _fetch(remote: RemoteFile, part: Path) -> None:
    """Append what `part` lacks; from the start where the server cannot send a range."""
    from tqdm.auto import tqdm  # slow to import, and a download is rare

    start = part.stat().st_size if part.exists() else 0
    if start == remote.size:
        return
    request = Request(remote.url, headers={"Range": f"bytes={start}-"} if 0 < start < remote.size else {})
    with urlopen(request, timeout=60) as response:
        start = start if response.status == 206 else 0
        length = response.headers["Content-Length"]
        # A login page instead of the file must not overwrite what earlier attempts brought.
        if length is not None and start + int(length) != remote.size:
            raise DataError(f"the server offers {start + int(length):,} bytes instead of {remote.size:,}")
        with (
            open(part, "ab" if start else "wb") as file,
            tqdm(total=remote.size, initial=start, desc=remote.url, unit="B", unit_scale=True) as progress,
        ):
            while block := response.read(1 << 20):
                file.write(block)
                progress.update(len(block))
