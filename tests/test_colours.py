"""Colours of other profiles come out as a person sees them; sRGB in any spelling comes out untouched."""

import io
import struct
import threading
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

from rpo_cli import colours, pictures
from rpo_cli.errors import MissingDependency
from tests import profiles as made

GREYS = [level / 1023 for level in range(1024)]
SRGB_TABLE = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in GREYS]


def encoded(picture, **options):
    buffer = io.BytesIO()
    picture.save(buffer, **options)
    return buffer.getvalue()


def flat(colour, mode="RGB", format="PNG", **options):
    return encoded(Image.new(mode, (4, 4), colour), format=format, **options)


def noise(mode="RGB"):
    pixels = np.random.default_rng(3).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


def with_chunks(png, *chunks):
    """A PNG with chunks behind its header."""
    told = b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )
    return png[:33] + told + png[33:]


def seen(data):
    found = pictures.read(data)
    return found.picture.getpixel((1, 1)), found.profile


def near(colour, expected, by=2):
    return all(abs(a - b) <= by for a, b in zip(colour, expected, strict=True))


# of Display P3, by hand: to linear light, the matrix of D65 primaries to those of sRGB, clip, sRGB's curve
P3_TO_SRGB = [
    ((255, 0, 0), (255, 0, 0)),
    ((128, 64, 32), (138, 59, 21)),
    ((32, 128, 64), (0, 130, 58)),
    ((200, 200, 200), (200, 200, 200)),
]
ADOBE_TO_SRGB = [
    ((0, 255, 0), (0, 255, 0)),
    ((128, 64, 32), (146, 62, 24)),
    ((128, 128, 128), (127, 127, 127)),
]


@pytest.mark.parametrize(("given", "expected"), P3_TO_SRGB)
def test_display_p3_is_read_as_the_srgb_that_looks_the_same(given, expected):
    colour, name = seen(flat(given, icc_profile=made.display_p3()))
    assert near(colour, expected)
    assert name == "Display P3"


@pytest.mark.parametrize(("given", "expected"), ADOBE_TO_SRGB)
def test_adobe_rgb_is_read_as_the_srgb_that_looks_the_same(given, expected):
    colour, name = seen(flat(given, icc_profile=made.adobe_rgb()))
    assert near(colour, expected)
    assert name == "Adobe RGB (1998)"


@pytest.mark.parametrize("format", ["PNG", "JPEG", "TIFF", "WEBP", "AVIF"])
def test_profiles_count_in_every_format_that_holds_them(format):
    colour, name = seen(flat((128, 64, 32), format=format, icc_profile=made.display_p3(), quality=95))
    assert near(colour, (138, 59, 21), by=4)  # of lossy files
    assert name == "Display P3"


SPELLINGS = {
    "of LittleCMS": ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(),
    "parametric": made.profile("sRGB built-in"),
    "a table": made.profile("IEC 61966-2-1", curve=SRGB_TABLE, version=2),
    "under a false name": made.profile("Display P3"),
    "without a name": made.profile(""),
    "primaries rounded": made.profile("c2", ((0.6400, 0.3300), (0.2998, 0.6003), (0.1500, 0.0600))),
}


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "1"])
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_srgb_in_any_spelling_leaves_every_pixel_as_it_is(spelling, mode):
    picture = noise(mode)
    found = pictures.read(encoded(picture, format="PNG", icc_profile=SPELLINGS[spelling]))
    bare = pictures.read(encoded(picture, format="PNG", icc_profile=None))
    assert found.profile is None
    assert np.array_equal(found.picture, bare.picture)


@pytest.mark.parametrize(
    ("name", "profile"),
    [
        ("sRGB IEC61966-2.1", made.profile("sRGB IEC61966-2.1", made.P3)),
        ("sRGB", made.profile("sRGB", curve=1.8)),
        ("gamma 2.2", made.profile("gamma 2.2", curve=2.2)),
        ("linear", made.profile("linear", curve=1.0)),
    ],
)
def test_a_profile_is_known_by_what_it_does_and_not_by_its_name(name, profile):
    data = encoded(noise(), format="PNG", icc_profile=profile)
    found = pictures.read(data)
    assert found.profile == name
    assert not np.array_equal(found.picture, noise())


def test_grey_profiles_fit_grey_pictures():
    """Half of linear light is 188 of sRGB; gamma 1.8 of 128 is .2890 of light, which is 146."""
    assert seen(flat(128, "L", icc_profile=made.profile("G", space=b"GRAY", curve=1.0))) == (
        (188,) * 3,
        "G",
    )
    colour, _ = seen(flat(128, "L", icc_profile=made.profile("G", space=b"GRAY", curve=1.8)))
    assert near(colour, (146, 146, 146), by=1)
    assert seen(flat(128, "L", icc_profile=made.profile("s", space=b"GRAY"))) == ((128,) * 3, None)


@pytest.mark.parametrize("format", ["JPEG", "TIFF"])
def test_cmyk_is_read_as_its_profile_prints_it(format):
    """Black ink of 50 % goes to L* 50, which is 119 of sRGB; without a profile Pillow's guess stands."""
    half = {"mode": "CMYK", "format": format, "quality": 100}
    colour, name = seen(flat((0, 0, 0, 128), **half, icc_profile=made.cmyk()))
    assert near(colour, (119, 119, 119))
    assert name == "A press"
    paper, _ = seen(flat((0, 0, 0, 0), **half, icc_profile=made.cmyk()))
    assert near(paper, (255, 255, 255))
    colour, name = seen(flat((0, 0, 0, 128), **half))
    assert near(colour, (127, 127, 127))
    assert name == colours.BARE


def test_colours_are_converted_before_they_lie_over_white():
    clear = flat((255, 0, 0, 0), "RGBA", icc_profile=made.display_p3())
    assert seen(clear)[0] == (255, 255, 255)
    half, _ = seen(flat((128, 64, 32, 128), "RGBA", icc_profile=made.display_p3()))
    assert near(half, tuple(round(255 - (255 - level) * 128 / 255) for level in (138, 59, 21)))


def test_palettes_are_converted_too():
    picture = Image.new("RGB", (4, 4), (128, 64, 32)).convert("P", palette=Image.Palette.ADAPTIVE)
    colour, name = seen(encoded(picture, format="PNG", icc_profile=made.display_p3()))
    assert near(colour, (138, 59, 21))
    assert name == "Display P3"


BROKEN = {
    "no profile": b"something",
    "cut": made.display_p3()[:200],
    "a printer's in RGB": made.cmyk(),
    "a grey one in RGB": made.profile("G", space=b"GRAY"),
    "a link of devices": made.profile("L", kind=b"link"),
    "another colour space": made.profile("X").replace(b"RGB ", b"HSV ", 1),
    "no tags": made.display_p3()[:128] + b"\0\0\0\0",
}


@pytest.mark.parametrize("what", BROKEN)
def test_with_a_profile_that_cannot_be_read_pixels_stay_and_it_is_said(what):
    data = encoded(noise(), format="PNG", icc_profile=BROKEN[what])
    found = pictures.read(data)
    assert found.profile == colours.UNREADABLE
    assert np.array_equal(found.picture, noise())
    assert pictures.profile_of(data) == colours.UNREADABLE


def test_a_profile_whose_compression_is_broken_is_said():
    data = with_chunks(flat((1, 2, 3)), (b"iCCP", b"icc\0\0not deflated"))
    assert seen(data) == ((1, 2, 3), colours.UNREADABLE)


def test_a_profile_of_which_a_jpeg_lacks_a_piece_is_said():
    data = flat((8, 8, 8), format="JPEG", icc_profile=made.display_p3())
    at = data.index(b"ICC_PROFILE\0")
    data = data[: at + 13] + b"\x02" + data[at + 14 :]  # the first of two
    assert seen(data)[1] == colours.UNREADABLE


@pytest.mark.parametrize("format", ["JPEG", "TIFF"])
def test_inks_without_a_profile_are_a_guess_and_said_so(format):
    data = flat((0, 255, 255, 0), mode="CMYK", format=format)
    found = pictures.read(data)

    assert found.profile == pictures.profile_of(data) == colours.BARE
    assert colours.decoding_of(found.profile) is None
    (note,) = colours.profile_notes({colours.BARE: 2})
    assert note == "2 pictures of CMYK without a colour profile were read by a formula, a guess"


def cicp(*points):
    return with_chunks(flat((128, 64, 32)), (b"cICP", bytes(points)))


def test_the_code_points_of_a_png_count_before_its_profile():
    assert seen(cicp(1, 13, 0, 1)) == ((128, 64, 32), None)
    colour, name = seen(cicp(12, 13, 0, 1))
    assert near(colour, (138, 59, 21))
    assert name == "Display P3"
    both = with_chunks(flat((128, 64, 32), icc_profile=made.adobe_rgb()), (b"cICP", bytes((12, 13, 0, 1))))
    assert seen(both)[1] == "Display P3"
    sure = with_chunks(flat((128, 64, 32), icc_profile=made.adobe_rgb()), (b"cICP", bytes((1, 13, 0, 1))))
    assert seen(sure) == ((128, 64, 32), None)


@pytest.mark.parametrize(
    "points", [(9, 16, 0, 1), (9, 18, 0, 1), (1, 13, 1, 1), (12, 13, 0, 0), (77, 13, 0, 1)]
)
def test_code_points_that_are_no_picture_of_this_kind_are_said(points):
    assert seen(cicp(*points)) == ((128, 64, 32), colours.UNREADABLE)


def test_the_words_cicp_in_a_text_are_no_code_points():
    told = with_chunks(flat((128, 64, 32)), (b"tEXt", b"note\0a b\0\0\0\x04cICP\x0c\x0d\0\x01abcd"))
    assert seen(told) == ((128, 64, 32), None)


def gamma_and_primaries(gamma, points=(made.D65, *made.SRGB)):
    chunks = []
    if gamma is not None:
        chunks.append((b"gAMA", struct.pack(">I", round(gamma * 100_000))))
    if points is not None:
        whole = [round(value * 100_000) for point in points for value in point]
        chunks.append((b"cHRM", struct.pack(">8I", *whole)))
    return with_chunks(flat((128, 64, 32)), *chunks)


def test_gamma_counts_beside_primaries_and_never_alone():
    """Linear light of 128, 64, 32 of 255 is 188, 137, 99 of sRGB."""
    assert seen(gamma_and_primaries(1.0, None)) == ((128, 64, 32), None)
    assert seen(gamma_and_primaries(None)) == ((128, 64, 32), None)
    assert seen(gamma_and_primaries(0.45455)) == ((128, 64, 32), None)  # as software writes for sRGB
    colour, name = seen(gamma_and_primaries(1.0))
    assert near(colour, (188, 137, 99), by=1)
    assert name == "PNG gAMA and cHRM"
    assert near(seen(gamma_and_primaries(0.45455, (made.D65, *made.P3)))[0], (138, 59, 21))


def test_a_chunk_that_says_srgb_counts_before_gamma():
    data = with_chunks(gamma_and_primaries(1.0), (b"sRGB", b"\0"))
    assert seen(data) == ((128, 64, 32), None)


@pytest.mark.parametrize(
    ("gamma", "points"),
    [
        (0.0, (made.D65, *made.SRGB)),
        (1.0, ((0.3, 0.0), *made.SRGB)),
        (1.0, (made.D65, (0.3, 0.3), (0.3, 0.3), (0.3, 0.3))),
    ],
)
def test_primaries_that_span_no_colours_are_said(gamma, points):
    assert seen(gamma_and_primaries(gamma, points)) == ((128, 64, 32), colours.UNREADABLE)


def test_the_code_points_of_an_avif_count_where_it_has_no_profile():
    data = flat((128, 64, 32), format="AVIF", quality=100, subsampling="4:4:4")
    at = data.index(b"colrnclx") + 8
    assert seen(data)[1] is None
    p3 = data[:at] + struct.pack(">HH", 12, 13) + data[at + 4 :]
    colour, name = seen(p3)
    assert near(colour, (138, 59, 21), by=4)
    assert name == "Display P3"


def test_a_name_in_a_profile_is_one_short_line():
    data = flat((1, 2, 3), icc_profile=made.profile("a\x1b[2J\n" + "b" * 500, made.P3))
    assert seen(data)[1] == "a[2J " + "b" * 55


def test_many_threads_read_the_same_colours():
    data = [
        encoded(noise(), format="PNG", icc_profile=icc) for icc in (made.display_p3(), made.adobe_rgb())
    ]
    alone = [pictures.to_array(pictures.decode(one)).tobytes() for one in data]
    found: list[bool] = []

    def work():
        for turn in range(40):
            again = pictures.to_array(pictures.decode(data[turn % 2])).tobytes()
            found.append(again == alone[turn % 2])

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 320


def test_a_pillow_that_cannot_convert_ends_the_work_instead_of_guessing(monkeypatch):
    monkeypatch.setattr(colours.features, "check", lambda name: False)
    colours._icc.cache_clear()
    with pytest.raises(MissingDependency, match="LittleCMS"):
        pictures.decode(flat((1, 2, 3), icc_profile=made.display_p3()))
    assert seen(flat((1, 2, 3))) == ((1, 2, 3), None)


def test_pictures_without_a_profile_never_reach_the_converter(monkeypatch):
    monkeypatch.setattr(pictures, "_converted", lambda *_: pytest.fail("converted"))
    monkeypatch.setattr(colours, "_icc", lambda *_: pytest.fail("looked for a profile"))
    for format in ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "AVIF"):
        assert pictures.read(flat((8, 8, 8), format=format)).profile is None
