import io
import random
import struct
import sys
import types
import zlib

import numpy as np
import PIL
import pytest
from PIL import Image, PngImagePlugin, TiffImagePlugin

from rpo_cli import pictures
from rpo_cli.errors import CorruptImage
from tests.profiles import display_p3


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


@pytest.mark.parametrize("name", ["PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "AVIF"])
def test_pictures_of_every_format_are_read(name):
    found = pictures.read(encoded(noise(), format=name))
    assert found.picture.size == (16, 24)
    assert (found.picture.mode, found.several) == ("RGB", False)


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_deflate", "packbits"])
@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"])
def test_a_tiff_is_read_as_a_png_of_the_same_pixels(mode, compression):
    picture = noise().convert(mode)
    found = pictures.to_array(pictures.decode(encoded(picture, format="TIFF", compression=compression)))
    plain = picture if mode != "CMYK" else picture.convert("RGB")
    assert np.array_equal(found, pictures.to_array(pictures.decode(encoded(plain, format="PNG"))))


def frames(count=3):
    return [noise(seed=seed) for seed in range(count)]


@pytest.mark.parametrize("name", ["GIF", "PNG", "WEBP", "AVIF", "TIFF"])
def test_of_several_frames_or_pages_the_first_is_read_and_it_is_said(name):
    first, *rest = frames()
    exact = {"lossless": True} if name == "WEBP" else {"quality": 100} if name == "AVIF" else {}
    data = encoded(first, format=name, save_all=True, append_images=rest, **exact)
    alone = encoded(first, format=name, **exact)
    found, one = pictures.read(data), pictures.read(alone)
    assert (found.several, one.several) == (True, False)
    apart = np.abs(pictures.to_array(found.picture).astype(int) - pictures.to_array(one.picture)).mean()
    assert apart < 20  # a sequence is coded otherwise; another frame of noise is 85 apart
    assert np.abs(pictures.to_array(found.picture).astype(int) - pictures.to_array(rest[0])).mean() > 60


def test_the_preview_beside_a_phones_picture_is_no_second_picture():
    data = encoded(noise(), format="MPO", save_all=True, append_images=[noise(6, 4)])
    found = pictures.read(data)
    assert (found.picture.size, found.several) == ((16, 24), False)


@pytest.mark.parametrize("name", ["TIFF", "AVIF", "WEBP"])
def test_every_format_that_tells_how_it_stands_is_turned_upright_once(name):
    exif = Image.Exif()
    exif[0x0112] = 6
    top = Image.new("RGB", (16, 24), "white")
    top.paste("black", (0, 0, 16, 12))  # its upper half is at the right once it is turned
    exact = {"lossless": True} if name == "WEBP" else {"quality": 100} if name == "AVIF" else {}
    found = pictures.decode(encoded(top, format=name, exif=exif, **exact))
    assert found.size == (24, 16)
    assert found.getpixel((22, 8))[0] < 30
    assert found.getpixel((2, 8))[0] > 225


def test_a_transparent_gif_lies_over_white():
    clear = Image.new("P", (4, 4), 0)
    clear.putpalette([9, 9, 9, 200, 0, 0])
    clear.putpixel((0, 0), 1)
    found = pictures.decode(encoded(clear, format="GIF", transparency=0))
    assert found.getpixel((0, 0)) == (200, 0, 0)
    assert found.getpixel((3, 3)) == (255, 255, 255)


JXL = b"\0\0\0\x0cJXL \r\n\x87\n"
OTHERS = [
    ("SVG", b'<svg xmlns="http://www.w3.org/2000/svg"/>'),
    ("SVG", b'\xef\xbb\xbf<?xml version="1.0"?>\n<!-- made -->\n<!DOCTYPE svg PUBLIC "x">\n<svg/>'),
    ("HTML", b"<!DOCTYPE html><html><body>404</body></html>"),
    ("HTML", b"\n  <HTML>not found"),
    ("XML", b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>"),
    ("Photoshop (PSD)", b"8BPS\0\1" + b"\0" * 30),
    ("JPEG XL", b"\xff\x0a\x00\x00"),
    ("JPEG XL", JXL),
    ("JPEG 2000", encoded(noise(), format="JPEG2000")),
    ("PDF", b"%PDF-1.7\n"),
    ("PostScript", b"%!PS-Adobe-3.0 EPSF-3.0"),
    ("an icon (ICO)", encoded(noise(), format="ICO")),
    ("DDS", encoded(noise(), format="DDS")),
    ("QOI", encoded(noise(), format="QOI")),
    ("PNM", encoded(noise(), format="PPM")),
    ("OpenEXR", b"\x76\x2f\x31\x01\2\0\0\0"),
    ("a video (MP4)", b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom"),
    ("a video (QuickTime)", b"\0\0\0\x14ftypqt  \0\0\2\0qt  "),
    ("a video (Matroska or WebM)", b"\x1a\x45\xdf\xa3\x01"),
    ("a video (AVI)", b"RIFF\0\0\0\0AVI LIST"),
    ("a camera's raw picture", b"\0\0\0\x18ftypcrx \0\0\0\1crx isom"),
    ("a camera's raw picture", b"II*\0\x10\0\0\0CR\2\0" + b"\0" * 8),
    ("a ZIP archive", b"PK\3\4"),
    ("a Git LFS pointer", b"version https://git-lfs.github.com/spec/v1\noid sha256:00"),
    ("an empty file", b""),
]


@pytest.mark.parametrize(("format", "data"), OTHERS)
def test_what_is_not_read_is_named_with_what_is(format, data):
    with pytest.raises(CorruptImage) as caught:
        pictures.decode(data, "logo.svg")
    assert caught.value.message.startswith(f"logo.svg: {format}")
    assert (
        "not a picture that is read (PNG, JPEG, WebP, TIFF, BMP, GIF, AVIF, or HEIF" in caught.value.message
    )
    assert caught.value.hint


def test_bytes_of_no_known_format_are_told_plainly():
    with pytest.raises(CorruptImage, match=r"^x: not a picture that is read \(PNG, "):
        pictures.decode(b"BMW is no bitmap, whatever it begins with", "x")


def test_a_format_is_told_by_bytes_whatever_a_file_is_called():
    assert pictures.decode(encoded(noise(), format="GIF"), "a.png").size == (16, 24)


HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\0" * 40


def test_without_its_plugin_heif_is_a_reject_that_names_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(CorruptImage, match=r"^a.heic: HEIF, which is read once pillow-heif") as caught:
        pictures.decode(HEIC, "a.heic")
    assert caught.value.hint == "pip install pillow-heif"


def test_with_its_plugin_heif_is_read_and_nothing_is_registered(monkeypatch):
    class HeifImageFile:  # the plugin's class, of which no more is used
        def __new__(cls, file):
            assert file.read() == HEIC
            picture = noise()
            picture.format = "HEIF"
            picture.info["nclx_profile"] = {"color_primaries": 12, "transfer_characteristics": 13}
            return picture

    plugin = types.ModuleType("pillow_heif")
    plugin.HeifImageFile = HeifImageFile
    monkeypatch.setitem(sys.modules, "pillow_heif", plugin)
    before = set(Image.OPEN)
    found = pictures.read(HEIC)
    assert (found.picture.size, found.profile) == ((16, 24), "Display P3")
    assert set(Image.OPEN) == before


@pytest.mark.parametrize("name", ["WEBP", "AVIF"])
def test_a_pillow_without_a_format_says_so(name, monkeypatch):
    monkeypatch.setattr(pictures.features, "check", lambda feature: False)
    with pytest.raises(CorruptImage, match="this Pillow was built without"):
        pictures.decode(encoded(noise(), format=name))


DEEP = {
    "16-bit grey PNG": (np.full((4, 4), 300, np.uint16), "PNG"),
    "16-bit grey TIFF": (np.full((4, 4), 300, np.uint16), "TIFF"),
    "32-bit TIFF": (np.full((4, 4), 300, np.int32), "TIFF"),
    "float TIFF": (np.full((4, 4), 0.5, np.float32), "TIFF"),
}


@pytest.mark.parametrize("what", DEEP)
def test_pixels_that_would_be_clipped_are_refused(what):
    pixels, name = DEEP[what]
    with pytest.raises(CorruptImage, match="not 8 bits a channel"):
        pictures.decode(encoded(Image.fromarray(pixels), format=name))


def tagged(**tags):
    """A TIFF with these tags, by their numbers, in its first directory."""
    directory = TiffImagePlugin.ImageFileDirectory_v2()
    for number, value in tags.items():
        directory[int(number[1:])] = value
    return encoded(noise(), format="TIFF", tiffinfo=directory)


def test_the_preview_in_a_raw_picture_is_not_taken_for_it():
    assert pictures.decode(tagged(t254=0)).size == (16, 24)
    for data in (tagged(t254=1), tagged(t50706=b"\1\4\0\0")):
        with pytest.raises(CorruptImage, match="raw picture"):
            pictures.decode(data)


def test_a_tiff_of_lab_is_refused_for_what_it_is():
    with pytest.raises(CorruptImage, match="mode LAB, which is not read"):
        pictures.decode(encoded(Image.new("LAB", (4, 4)), format="TIFF"))


def test_tiles_larger_than_any_picture_are_refused_before_memory_is_taken():
    tags = [(256, 4, 16), (257, 4, 16), (258, 3, 8), (259, 3, 5), (262, 3, 1), (277, 3, 1)]
    tags += [(322, 4, 60_000), (323, 4, 60_000), (324, 4, 8), (325, 4, 16)]
    body = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", n, k, 1, v) for n, k, v in tags)
    with pytest.raises(CorruptImage, match="tiles of 60000 x 60000"):
        pictures.decode(b"II*\0" + struct.pack("<I", 8) + body + b"\0\0\0\0" + b"x" * 16)


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
        encoded(noise(), format="PNG")[:200],
        encoded(noise(), format="JPEG")[:200],
        encoded(noise(), format="WEBP")[:100],
        encoded(noise(), format="TIFF")[:300],
        encoded(noise(), format="BMP")[:100],
        encoded(noise(), format="GIF")[:200],
        encoded(noise(), format="AVIF")[:300],
        encoded(Image.fromarray(np.zeros((4, 4), dtype=np.uint16)), format="PNG"),
    ],
    ids=[
        "empty",
        "text",
        "cut png",
        "cut jpeg",
        "cut webp",
        "cut tiff",
        "cut bmp",
        "cut gif",
        "cut avif",
        "16-bit grey",
    ],
)
def test_bytes_that_are_no_picture_say_where(data):
    with pytest.raises(CorruptImage, match=r"^row 7: ") as caught:
        pictures.decode(data, "row 7")
    assert "0x" not in caught.value.message, "a memory address is not the same in the next run"
    assert caught.value.hint


@pytest.mark.parametrize("name", ["PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "AVIF"])
@pytest.mark.filterwarnings("ignore")
def test_every_cut_of_a_picture_is_refused_or_read_whole(name):
    data = encoded(noise(), format=name)
    for length in range(len(data)):
        try:
            assert pictures.decode(data[:length]).size == (16, 24)
        except CorruptImage:
            continue


@pytest.mark.parametrize("name", ["PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "AVIF"])
@pytest.mark.filterwarnings("ignore")
def test_damaged_pictures_are_refused_or_read(name):
    """What is wrong with bytes ends in one class of error, whatever a decoder makes of it."""
    data, draw = encoded(noise(), format=name, icc_profile=display_p3()), random.Random(name)
    for _ in range(300):
        hurt = bytearray(data)
        for _ in range(draw.choice((1, 3, 30))):
            hurt[draw.randrange(len(hurt))] = draw.randrange(256)
        try:
            assert pictures.decode(bytes(hurt)).mode == "RGB"
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


def test_a_whole_png_of_ours_is_told_from_a_changed_one_without_decoding_it(monkeypatch):
    """Whichever byte is another one, is missing, or is too many."""
    data = pictures.encode_png(noise(5, 4))
    large = pictures.encode_png(noise(300, 200))
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("decoded"))

    assert pictures.is_whole_png(data)
    assert png_chunks(large).count(b"IDAT") > 1
    assert pictures.is_whole_png(large)
    for place in range(len(data)):
        assert not pictures.is_whole_png(data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :])
        assert not pictures.is_whole_png(data[:place])
        assert not pictures.is_whole_png(data[:place] + data[place + 1 :])
    assert not pictures.is_whole_png(data + b"\0")
    assert not pictures.is_whole_png(data + data)


def with_a_text():
    said = PngImagePlugin.PngInfo()
    said.add_text("Software", "a camera")
    return encoded(noise(), format="PNG", pnginfo=said)


@pytest.mark.parametrize(
    "data",
    [
        with_a_text(),
        encoded(noise(), format="PNG", icc_profile=display_p3()),
        encoded(noise().convert("L"), format="PNG"),
        encoded(noise().convert("RGBA"), format="PNG"),
        encoded(noise().convert("P"), format="PNG"),
        encoded(noise(), format="JPEG"),
        encoded(noise(), format="WEBP", lossless=True),
        b"",
        b"\x89PNG\r\n\x1a\n",
    ],
)
def test_other_pictures_are_no_png_of_ours(data):
    assert not pictures.is_whole_png(data)


def test_who_wrote_a_picture_is_told_by_the_pillow_of_its_row():
    assert pictures.has_encoded(f'{{"pillow":"{PIL.__version__}","python":"3"}}')
    for environment in ("{}", '{"pillow":"1.1.7"}', f'{{"numpy":"{PIL.__version__}"}}'):
        assert not pictures.has_encoded(environment)
