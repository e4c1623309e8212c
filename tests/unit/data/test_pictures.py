"""Which files are pictures, and that one is opened as a person sees it and without harm."""

import io
import shutil
import subprocess
import sys
import zlib

import numpy as np
import pytest
from PIL import ExifTags, Image

from perturbflow.data.image_list import DataError
from perturbflow.data.pictures import FORMATS, is_picture, open_picture, why_no_picture

TRANSPOSITIONS = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
"""What a camera did to an upright picture where it writes this orientation."""


def quarters(mode="RGB"):
    """A picture of four colours that no rotation or reflection leaves as it is."""
    pixels = np.zeros((32, 48, 3), np.uint8)
    pixels[:16, :24], pixels[:16, 24:], pixels[16:, :24] = (250, 5, 5), (5, 250, 5), (5, 5, 250)
    return Image.fromarray(pixels).convert(mode)


def saved(image, form, **options):
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def assert_shows(picture, expected, lossy=False):
    """That a picture is the expected one; where much is lost, in the middle of its quarters."""
    assert picture.mode == "RGB" and picture.size == expected.size
    difference = np.abs(np.asarray(picture).astype(int) - np.asarray(expected.convert("RGB")))
    width, height = picture.size
    assert (
        difference[height // 4 :: height // 2, width // 4 :: width // 2].max() <= 30 if lossy else not difference.any()
    )


# ---- Names


@pytest.mark.parametrize(
    "name", ["a.jpg", "b/c.JPEG", "a.jfif", "a.jpe", "a.jp2", "a.tga", "a.avif", "a.WebP", "a.b.png"]
)
def test_suffixes_of_pictures(name):
    assert is_picture(name)


@pytest.mark.parametrize("name", ["a.eps", "a.pdf", "a.wmf", "a.mp4", "a.h5", "a.txt", "a.svg", "a", "jpg", "a.jpg/b"])
def test_suffixes_of_others(name):
    assert not is_picture(name)
    assert why_no_picture(name) == (
        "no suffix" if "." not in name.split("/")[-1] else f".{name.split('.')[1]} is no suffix of a picture"
    )


def test_pictures_of_phones_need_their_package():
    try:
        import pillow_heif  # noqa: F401
    except ImportError:
        assert not is_picture("a.HEIC")
        assert why_no_picture("a.HEIC") == ".heic needs the package pillow-heif"
    else:
        assert is_picture("a.HEIC")


# ---- Formats


@pytest.mark.parametrize("form", ["PNG", "BMP", "GIF", "TIFF", "TGA", "PPM", "QOI", "SGI", "PCX", "ICO", "WEBP", "DDS"])
def test_lossless_formats(form):
    options = {"lossless": True} if form == "WEBP" else {"sizes": [(48, 32)]} if form == "ICO" else {}
    assert_shows(open_picture(saved(quarters(), form, **options)), quarters())


@pytest.mark.parametrize("form", ["JPEG", "JPEG2000", "AVIF", "MPO"])
def test_lossy_formats(form):
    assert_shows(open_picture(saved(quarters(), form)), quarters(), lossy=True)


def test_what_starts_other_programs_or_opens_what_it_contains_is_not_read():
    assert not {"EPS", "WMF", "IPTC", "PDF", "BUFR", "GRIB", "HDF5", "FPX", "MIC", "MPEG"} & {*FORMATS}


@pytest.mark.parametrize("form", ["EPS", "PDF"])
def test_a_document_with_the_name_of_a_picture_starts_nothing(form, tmp_path, monkeypatch):
    content = saved(quarters(), form)
    started = tmp_path / "started"
    ghostscript = tmp_path / "gs"
    ghostscript.write_text(f"#!/bin/sh\ntouch {started}\nexit 1\n")
    ghostscript.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert shutil.which("gs") == str(ghostscript)
    with pytest.raises(DataError, match=r"^in no format of a picture$"):
        open_picture(content)
    assert not started.exists()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "an empty file"),
        (b"no picture", "in no format of a picture"),
        (saved(quarters(), "JPEG")[:-40], "truncated"),
        (saved(quarters(), "PNG")[:90], "."),
        (b"GIF89a" + bytes(20), "."),
    ],
)
def test_damage_has_a_reason(content, reason):
    with pytest.raises(DataError, match=reason) as error:
        open_picture(content)
    assert "BytesIO" not in str(error.value)


# ---- Orientation


@pytest.mark.parametrize("orientation", TRANSPOSITIONS)
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_a_picture_stands_as_its_tag_wants_it(form, orientation):
    method = TRANSPOSITIONS[orientation]
    taken = quarters() if method is None else quarters().transpose(method)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    assert_shows(open_picture(saved(taken, form, exif=exif)), quarters(), lossy=True)


def test_the_tag_may_be_of_xmp():
    taken = quarters().transpose(Image.Transpose.ROTATE_90)
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf tiff:Orientation="6"/></x:xmpmeta>'
    assert_shows(open_picture(saved(taken, "JPEG", xmp=xmp)), quarters(), lossy=True)


@pytest.mark.parametrize("orientation", [0, 9])
def test_an_orientation_that_there_is_not_changes_nothing(orientation):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    assert_shows(open_picture(saved(quarters(), "PNG", exif=exif)), quarters())


@pytest.mark.filterwarnings("ignore:Tag data larger than file")
def test_damaged_tags_hide_neither_picture_nor_orientation():
    taken = quarters().transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    exif[ExifTags.Base.Make] = "camera"
    whole = saved(taken, "JPEG", exif=exif)
    # Counts and offsets far beyond the end of the tags.
    start = whole.index(b"Exif\0\0") + 6
    make = whole.index(
        (ExifTags.Base.Make).to_bytes(2, "big" if whole[start : start + 2] == b"MM" else "little"), start
    )
    damaged = whole[: make + 4] + b"\xff" * 8 + whole[make + 12 :]
    assert_shows(open_picture(damaged), quarters(), lossy=True)
    unreadable = whole[:start] + b"\xff" * 8 + whole[start + 8 :]
    assert_shows(open_picture(unreadable), taken, lossy=True)


# ---- Modes


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK"])
def test_modes_of_8_bits_become_rgb(mode):
    image = quarters(mode)
    assert_shows(open_picture(saved(image, "TIFF")), image.convert("RGB"))


def test_transparency_is_dropped():
    image = Image.new("P", (16, 16), 1)
    image.putpalette([0, 0, 0, 10, 20, 30])
    for transparent in (saved(image, "PNG", transparency=1), saved(image, "GIF", transparency=1)):
        assert (np.asarray(open_picture(transparent)) == (10, 20, 30)).all()
    clear = Image.new("RGBA", (16, 16), (10, 20, 30, 0))
    assert (np.asarray(open_picture(saved(clear, "PNG"))) == (10, 20, 30)).all()


def test_the_first_frame_of_an_animation_counts():
    frames = [Image.new("RGB", (16, 16), color) for color in ((255, 0, 0), (0, 255, 0))]
    for form in ("GIF", "PNG", "WEBP", "TIFF"):
        options = {"lossless": True} if form == "WEBP" else {}
        content = saved(frames[0], form, save_all=True, append_images=frames[1:], **options)
        assert_shows(open_picture(content), frames[0])


def test_grayscale_of_more_than_8_bits_is_refused():
    deep = Image.fromarray(np.full((16, 16), 40_000, np.uint16))
    for image, form in ((deep, "PNG"), (deep, "TIFF"), (deep.convert("F"), "TIFF")):
        with pytest.raises(DataError, match=r"over 8 bits a channel \((I|F)"):
            open_picture(saved(image, form))


# ---- Size


def bomb(width, height):
    """A PNG that says to be of this size."""

    def chunk(kind, content):
        return len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")

    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([1, 0, 0, 0, 0])
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize(
    ("size", "reason"), [((10_000, 10_000), "10000x10000, over"), ((60_000, 60_000), "exceeds limit")]
)
def test_a_picture_of_too_many_pixels_is_refused_before_it_is_decoded(size, reason):
    with pytest.raises(DataError, match=reason):
        open_picture(bomb(*size))


# ---- Start-up


def test_names_of_modules_are_imported_late(repository):
    command = "import sys; import perturbflow.data.tree; sys.exit('PIL' in sys.modules)"
    subprocess.run([sys.executable, "-c", command], check=True, cwd=repository)
