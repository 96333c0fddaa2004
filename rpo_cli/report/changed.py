"""Where an edit changed its picture: the edited picture in grey with a line around what differs."""

from PIL import Image, ImageChops, ImageFilter
from PIL.Image import Image as Picture

SIDE = 512  # pictures are shown at most this large
SMALLEST = 192  # smaller pictures are enlarged, so that the line does not hide what it surrounds
LOUD = 32  # of 255: a difference in brightness or colour that one sees


def fitted(picture: Picture, side: int = SIDE) -> Picture:
    """The picture, shrunk to at most `side` pixels; never enlarged."""
    if max(picture.size) <= side:
        return picture
    scale = side / max(picture.size)
    return picture.resize(
        (max(1, round(picture.width * scale)), max(1, round(picture.height * scale))),
        Image.Resampling.LANCZOS,
    )


def changed(a: Picture, b: Picture) -> tuple[Picture, float]:
    """The second picture in pale grey with the region where |a - b| is large outlined in black and white.

    Black and white, because such a line is seen on every picture, by everyone, and in print.

    Returns:
        The drawing, and the share of pixels inside the line, in [0, 1].
    """
    a, b = fitted(a), fitted(b)
    if a.size != b.size:
        a = a.resize(b.size, Image.Resampling.BICUBIC)
    factor = max(1, -(-SMALLEST // max(b.size)))
    size = (b.width * factor, b.height * factor)
    region = _region(a, b)
    share = region.histogram()[255] / (b.width * b.height)
    region = region.resize(size, Image.Resampling.NEAREST)
    page = Image.blend(b.convert("L").convert("RGB"), Image.new("RGB", b.size, "white"), 0.35)
    page = page.resize(size, Image.Resampling.NEAREST)
    wide = _grown(region, 7)
    page.paste("white", mask=ImageChops.subtract(wide, region))
    page.paste("black", mask=ImageChops.subtract(_grown(region, 5), _grown(region, 3)))
    return page, share


def _region(a: Picture, b: Picture) -> Picture:
    """255 where any channel differs loudly, after a small blur that silences single pixels."""
    difference = ImageChops.difference(a.convert("RGB"), b.convert("RGB"))
    red, green, blue = difference.split()
    loudest = ImageChops.lighter(ImageChops.lighter(red, green), blue)
    radius = max(1, max(b.size) // 128)
    mask = loudest.filter(ImageFilter.BoxBlur(radius)).point(
        [255 * (value >= LOUD) for value in range(256)]
    )
    return _grown(mask, 3)


def _grown(mask: Picture, size: int) -> Picture:
    return mask.filter(ImageFilter.MaxFilter(size))
