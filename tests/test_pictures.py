import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from rpo_cli import pictures
from rpo_cli.errors import CorruptImage


def noise(height=24, width=16, seed=0):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def encoded(picture, **options):
    buffer = io.BytesIO()
    picture.save(buffer, **options)
    return buffer.getvalue()


def png_chunks(data):
    names, at = [], 8
    while at < len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        names.append(data[at + 4 : at + 8])
        at += 12 + length
    return names


def test_a_png_comes_back_pixel_for_pixel():
    picture = noise()
    assert np.array_equal(
        pictures.to_array(pictures.decode(pictures.encode_png(picture))), np.asarray(picture)
    )


def test_equal_pixels_give_equal_bytes_whatever_metadata_came_with_them():
    picture, dressed = noise(), noise()
    dressed.info.update(icc_profile=b"profile", dpi=(300, 300), transparency=(1, 2, 3))
    text = PngImagePlugin.PngInfo()
    text.add_text("prompt", "a secret")
    reread = pictures.decode(encoded(picture, format="PNG", pnginfo=text, icc_profile=b"profile"))
    assert pictures.encode_png(picture) == pictures.encode_png(dressed) == pictures.encode_png(reread)
    assert set(png_chunks(pictures.encode_png(dressed))) == {b"IHDR", b"IDAT", b"IEND"}


@pytest.mark.parametrize("name", ["JPEG", "WEBP"])
def test_jpeg_and_webp_are_read(name):
    assert pictures.decode(encoded(noise(), format=name)).size == (16, 24)


def test_a_phone_picture_is_turned_upright():
    exif = Image.Exif()
    exif[0x0112] = 6
    assert pictures.decode(encoded(noise(), format="JPEG", exif=exif)).size == (24, 16)


def test_transparency_lies_over_white():
    clear = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    assert pictures.decode(encoded(clear, format="PNG")).getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not a picture",
        encoded(noise(), format="GIF"),
        encoded(noise(), format="PNG")[:200],
        encoded(noise(), format="JPEG")[:200],
        encoded(noise(), format="WEBP")[:100],
        encoded(Image.fromarray(np.zeros((4, 4), dtype=np.uint16)), format="PNG"),
    ],
    ids=["empty", "text", "gif", "cut png", "cut jpeg", "cut webp", "16-bit grey"],
)
def test_bytes_that_are_no_picture_say_where(data):
    with pytest.raises(CorruptImage, match=r"^row 7: ") as caught:
        pictures.decode(data, "row 7")
    assert "0x" not in caught.value.message, "a memory address is not the same in the next run"
    assert caught.value.hint


def test_every_cut_of_a_png_is_refused_or_read_whole():
    data = pictures.encode_png(noise())
    for length in range(len(data)):
        try:
            assert pictures.decode(data[:length]).size == (16, 24)
        except CorruptImage:
            continue


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [6_500, 10_000, 60_000])
def test_a_bomb_is_refused_before_its_pixels_are_decoded(side, monkeypatch):
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("decoded"))
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    body = b"IHDR" + header
    data = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))
    data += struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))
    with pytest.raises(CorruptImage, match="pixels"):
        pictures.decode(data)
