import numpy as np
import pytest
from PIL import Image, ImageDraw

from rpo_cli.visuals.contact_sheet import SIDE, changed, fitted


def scene(colour, size=(64, 64), box=(20, 20, 39, 39)):
    page = Image.new("RGB", size, "#808080")
    ImageDraw.Draw(page).rectangle(box, fill=colour)
    return page


def test_the_outline_stands_around_what_changed_and_nowhere_else():
    page, share = changed(scene("red"), scene("blue"))
    pixels = np.asarray(page.convert("L"))
    scale = page.width // 64
    rows, columns = np.nonzero(pixels == 0)

    assert rows.min() // scale >= 14
    assert columns.max() // scale <= 45
    assert (pixels[: 12 * scale] == pixels[0, 0]).all()
    assert pixels[30 * scale, 30 * scale] != 0  # inside the region the picture is seen
    assert 20 * 20 / 64**2 <= share <= 26 * 26 / 64**2


def test_equal_pictures_have_no_outline():
    page, share = changed(scene("red"), scene("red"))

    assert share == 0
    assert not (np.asarray(page) == 0).any()


def test_faint_noise_is_no_change():
    noisy = np.asarray(scene("red")).astype(int) + np.random.default_rng(0).integers(-8, 9, (64, 64, 3))

    assert changed(scene("red"), Image.fromarray(noisy.clip(0, 255).astype(np.uint8)))[1] == 0


@pytest.mark.parametrize("size", [(1, 1), (2000, 10), (700, 900)])
def test_pictures_of_any_shape_are_compared_at_the_size_they_are_shown(size):
    page, share = changed(scene("red"), Image.new("RGB", size, "white"))

    assert max(page.size) <= SIDE
    assert 0 <= share <= 1


def test_pictures_are_shrunk_never_enlarged():
    assert fitted(Image.new("RGB", (1024, 512))).size == (SIDE, SIDE // 2)
    assert fitted(Image.new("RGB", (64, 32))).size == (64, 32)
