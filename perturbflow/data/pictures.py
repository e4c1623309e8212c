"""Pictures as files: which are taken for pictures, and how one is opened without harm.

Whoever lists images asks here: Pillow is imported where that happens.
"""

from __future__ import annotations

import io
from functools import cache
from typing import TYPE_CHECKING

from perturbflow.data.image_list import DataError

if TYPE_CHECKING:
    from PIL import Image

# Pillow's raster formats, the frequent ones first; HEIF is that of pillow-heif. Not among them is what Pillow hands to
# another program (EPS, WMF) or to a handler of somebody's (BUFR, GRIB, HDF5), what opens whatever it contains (IPTC),
# documents and videos (FPX, MIC, MPEG), and what has no suffix of its own.
FORMATS = (
    *("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "HEIF", "JPEG2000", "MPO", "TGA", "ICO", "PSD"),
    *("BLP", "CUR", "DCX", "DDS", "DIB", "FITS", "FLI", "FTEX", "GBR", "ICNS", "IM", "MSP", "PCD", "PCX", "PIXAR"),
    *("QOI", "SGI", "SUN", "XBM", "XPM"),
)
HEIF_SUFFIXES = (".heic", ".heics", ".heif", ".heifs", ".hif")


def is_picture(file: str) -> bool:
    """Whether a file's name has the suffix of one of FORMATS, in capitals or not."""
    return _suffix(file) in _suffixes()


def why_no_picture(file: str) -> str:
    """Why a file is left out whose name is not a picture's."""
    suffix = _suffix(file)
    if suffix in HEIF_SUFFIXES:
        return f"{suffix} needs the package pillow-heif"
    return f"{suffix} is no suffix of a picture" if suffix else "no suffix"


def open_picture(content: bytes) -> Image.Image:
    """A picture, RGB of 8 bits a channel, from what its file holds; its name says nothing.

    Of an animation it is the first frame. It stands as its orientation tag wants it (EXIF or XMP). Grayscale is
    repeated in the three channels, transparency dropped, a colour profile passed over.
    Raises DataError with the reason where it cannot be decoded, is grayscale of more than 8 bits, or has more pixels
    than Pillow takes for harmless.
    """
    from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

    try:
        image = Image.open(io.BytesIO(content), formats=_openable_formats())
        # Up to twice its limit Pillow itself only warns.
        if Image.MAX_IMAGE_PIXELS is not None and image.width * image.height > Image.MAX_IMAGE_PIXELS:
            raise DataError(f"{image.width}x{image.height}, over {Image.MAX_IMAGE_PIXELS:,} pixels; make it smaller")
        image.load()
        if image.mode.startswith(("I", "F")):
            raise DataError(f"over 8 bits a channel ({image.mode}); convert it to 8 bits")
        upright = image.convert("RGB")
    except DataError:
        raise
    except UnidentifiedImageError as error:
        raise DataError("in no format of a picture" if content else "an empty file") from error
    # Pillow's decoders raise nearly anything on a damaged file: OSError, SyntaxError, struct.error...
    except Exception as error:
        raise DataError(f"{error}" or type(error).__name__) from error
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # a damaged tag of a picture that is whole
        return upright
    # `exif_transpose` writes all tags anew and fails where one is damaged; it gets this one alone.
    upright.info = {}
    upright.getexif()[ExifTags.Base.Orientation] = orientation
    ImageOps.exif_transpose(upright, in_place=True)
    return upright


def _suffix(file: str) -> str:
    """`.jpg` of `train/cat/1.JPG`, and nothing where there is none."""
    stem, dot, end = file.rpartition("/")[2].rpartition(".")
    return f"{dot}{end.lower()}" if stem else ""


@cache
def _suffixes() -> frozenset[str]:
    """Those of the formats that this installation of Pillow reads."""
    from PIL import Image

    _load_formats()
    return frozenset(suffix for suffix, name in Image.registered_extensions().items() if name in FORMATS)


@cache
def _openable_formats() -> list[str]:
    from PIL import Image

    _load_formats()
    return [name for name in FORMATS if name in Image.OPEN]


def _load_formats() -> None:
    """Make Pillow know all of its formats, and HEIF where pillow-heif is installed."""
    from PIL import Image

    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        pass
    else:
        register_heif_opener()
    Image.init()
