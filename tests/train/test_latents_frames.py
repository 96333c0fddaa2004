"""Pictures that are compared share a bucket and what the model is told of their size."""

import pytest

from rpo_cli.train.data.latents import Frame, aspect_buckets, frames, nearest_bucket

SQUARE = [(1024, 1024)]


def test_the_buckets_of_1024_pixels_hold_the_largest_that_sdxl_was_trained_on_at_each_width():
    """SDXL report, arXiv:2307.01952, appendix I, between 1:2 and 1:1."""
    published = {(704, 1408), (768, 1344), (832, 1216), (896, 1152), (960, 1088), (1024, 1024)}
    assert published <= set(aspect_buckets(1024, 64))


@pytest.mark.parametrize(("side", "grain"), [(512, 64), (768, 64), (1024, 16), (16, 4), (64, 8)])
def test_every_bucket_fits_the_area_and_the_grain_and_has_a_turned_twin(side, grain):
    buckets = aspect_buckets(side, grain)
    assert (side, side) in buckets
    assert len(buckets) > 1
    for width, height in buckets:
        assert width * height <= side * side
        assert width % grain == height % grain == 0
        assert max(width, height) <= 2 * side
        assert (height, width) in buckets


@pytest.mark.parametrize(
    ("size", "bucket"),
    [
        ((1024, 1024), (1024, 1024)),
        ((300, 300), (1024, 1024)),
        ((1920, 1080), (1344, 768)),
        ((1080, 1920), (768, 1344)),
        ((10_000, 100), (2048, 512)),
    ],
)
def test_a_picture_goes_to_the_bucket_of_the_nearest_shape(size, bucket):
    assert nearest_bucket(size, aspect_buckets(1024, 64)) == bucket


def test_both_pictures_of_a_pair_get_the_frame_of_the_smaller_width_and_height():
    found = frames({"a": (640, 480), "b": (600, 500)}, [("a", "b")], SQUARE)
    assert found["a"] == found["b"] == Frame((1024, 1024), (600, 480))


def test_pairs_that_share_a_picture_share_a_frame():
    sizes = {"a": (9, 9), "b": (8, 9), "c": (9, 7), "d": (9, 9), "e": (5, 5)}
    found = frames(sizes, [("a", "b"), ("d", "c"), ("b", "c")], [(8, 8)])
    assert {found[name].original for name in "abcd"} == {(8, 7)}
    assert found["e"].original == (5, 5)


def test_the_order_of_pairs_and_sides_changes_no_frame():
    sizes = {"a": (640, 480), "b": (500, 500), "c": (480, 640)}
    buckets = aspect_buckets(512, 64)
    one = frames(sizes, [("a", "b"), ("b", "c")], buckets)
    two = frames(dict(reversed(sizes.items())), [("c", "b"), ("b", "a")], buckets)
    assert one == two


def test_sdxl_is_told_the_original_size_the_crop_and_the_bucket():
    """1600 x 900 covers 1024 x 1024 as 1820 x 1024, of which (1820 − 1024) / 2 pixels go on the left."""
    told = Frame((1024, 1024), (1600, 900)).time_ids("real")
    assert told.tolist() == [900, 1600, 0, 398, 1024, 1024]


def test_sdxl_can_be_told_that_nothing_was_resized_or_cropped():
    assert Frame((1344, 768), (1600, 900)).time_ids("target").tolist() == [768, 1344, 0, 0, 768, 1344]
