"""The cache holds what the encoders give, is built once, and is never trusted when it should not be."""

import hashlib
import io
import math

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from rpo_cli.errors import CorruptImage, RpoError
from rpo_cli.pictures import decode, read
from rpo_cli.protocols import Silent
from rpo_cli.train.data import latents as latents_module
from rpo_cli.train.data.latents import Builder, pictures_at_once
from rpo_cli.train.data.pairs import read_pairs
from rpo_cli.train.families.family import Encoders, to_pixels
from rpo_cli.train.families.unet import StableDiffusion1
from rpo_cli.train.storage import Shelf
from tests.closeness import FORWARD, assert_close
from tests.profiles import display_p3


@pytest.fixture
def build(model, tmp_path):
    def call(dataset, *, identity="m", flip=False, drop_captions=False, folder="cache", observer=None):
        family = StableDiffusion1(str(model))
        builder = Builder(tmp_path / folder, family, identity, "cpu", observer or Silent())
        return builder.build(dataset, read_pairs(dataset, "train"), flip=flip, drop_captions=drop_captions)

    return call


@pytest.fixture
def no_encoders(monkeypatch):
    def forbid():
        monkeypatch.setattr(
            StableDiffusion1, "load_encoders", lambda *args: pytest.fail("encoders were loaded")
        )

    return forbid


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_cached_latents_are_the_scaled_posterior(build, dataset, tiny, model):
    data = tiny.bright_beats_dark(1, 0)[0]["jpg_0"]
    mean, std = build(dataset).latent(sha(data), flip=False)
    encoders = StableDiffusion1(str(model)).load_encoders("cpu")
    pixels = to_pixels(decode(data), tiny.side)[None].expand(8, -1, -1, -1)
    with torch.no_grad():
        posterior = encoders.vae.encode(pixels).latent_dist
    assert_close(mean, posterior.mean[0] * encoders.vae.config.scaling_factor, FORWARD)
    assert_close(std, posterior.std[0] * encoders.vae.config.scaling_factor, FORWARD)


def test_cached_prompts_are_what_the_pipeline_encodes(build, dataset, model):
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(model, safety_checker=None)
    expected, _ = pipeline.encode_prompt("a red thing", "cpu", 1, False)
    found = build(dataset).prompt("a red thing")["hidden"]
    assert_close(found, expected[0].detach(), FORWARD)


def test_a_mirrored_picture_has_its_own_entry(build, dataset, tiny, model):
    data = tiny.bright_beats_dark(1, 0)[0]["jpg_0"]
    cache = build(dataset, flip=True)
    encoders = StableDiffusion1(str(model)).load_encoders("cpu")
    mean, _ = encoders.encode_images([ImageOps.mirror(decode(data))] * 8)
    assert_close(cache.latent(sha(data), flip=True)[0], mean[0], FORWARD)
    plain = cache.latent(sha(data), flip=False)[0]
    assert (plain - mean[0]).abs().max() > 1e-2 * mean[0].abs().max()


def test_a_second_build_loads_no_encoder_and_gives_the_same(build, dataset, no_encoders):
    pair = read_pairs(dataset, "train")[3]
    first = build(dataset).latent(pair.winner, flip=False)
    no_encoders()
    again = build(dataset).latent(pair.winner, flip=False)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


def test_pictures_of_another_colour_profile_are_encoded_as_srgb_and_counted(build, dataset, tiny, tmp_path):
    rows, told = tiny.bright_beats_dark(4, 0), []
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16), (128, 64, 32)).save(buffer, format="PNG", icc_profile=display_p3())
    rows[0]["jpg_0"] = buffer.getvalue()
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16), (138, 59, 21)).save(buffer, format="PNG")  # by hand: tests/test_colours.py
    rows[1]["jpg_0"] = buffer.getvalue()
    tiny.write_split(tmp_path / "theirs", "train", rows)
    cache = build(tmp_path / "theirs", observer=Noting(told))
    assert told == ["1 picture in another colour profile (Display P3) was read as sRGB"]
    found, wanted = (cache.latent(sha(row["jpg_0"]), flip=False)[0] for row in rows[:2])
    assert (found - wanted).abs().max() < 0.05 * wanted.abs().max()


class Noting(Silent):
    def __init__(self, told):
        self.told = told

    def note(self, text):
        self.told.append(text)


def test_only_what_is_missing_is_encoded(build, dataset, tiny, tmp_path, monkeypatch):
    build(dataset)
    new = tiny.bright_beats_dark(1, 300)
    tiny.write_split(tmp_path / "more", "train", [*tiny.bright_beats_dark(10, 0), *new])
    decoded = []
    monkeypatch.setattr(
        "rpo_cli.train.data.latents.read", lambda data, where: decoded.append(data) or read(data)
    )
    build(tmp_path / "more")
    assert decoded == [new[0]["jpg_0"], new[0]["jpg_1"]]


def test_another_model_identity_shares_nothing(build, dataset, monkeypatch):
    build(dataset)
    monkeypatch.setattr(StableDiffusion1, "load_encoders", lambda *args: pytest.fail("asked for encoders"))
    with pytest.raises(pytest.fail.Exception, match="asked for encoders"):
        build(dataset, identity="other")


def test_neither_latents_nor_prompts_of_another_model_are_taken_for_its_own(build, dataset, monkeypatch):
    asked = []
    for name in ("encode_images", "encode_prompts"):
        given = getattr(Encoders, name)
        spy = lambda *parts, name=name, given=given: asked.append(name) or given(*parts)  # noqa: E731
        monkeypatch.setattr(Encoders, name, spy)
    build(dataset)
    first = asked.copy()
    build(dataset)
    assert asked == first
    build(dataset, identity="other")
    assert asked == first * 2
    assert {*first} == {"encode_images", "encode_prompts"}


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_latents_that_are_no_numbers_are_refused_with_the_row_of_the_picture(
    build, dataset, monkeypatch, bad
):
    def overflow(encoders, batch, *size):
        return torch.full((len(batch), 4, 8, 8), bad), torch.ones(len(batch), 4, 8, 8)

    monkeypatch.setattr(Encoders, "encode_images", overflow)
    with pytest.raises(RpoError, match=r"train-00000\.parquet row 0, jpg_0: .* non-finite latents"):
        build(dataset)


def test_the_empty_caption_is_there_when_captions_are_dropped(build, dataset):
    assert build(dataset, drop_captions=True).prompt("")["hidden"].shape == (16, 16)


def test_a_corrupt_picture_is_an_error_that_names_its_row(build, tiny, tmp_path):
    rows = tiny.bright_beats_dark(3, 0)
    rows[1]["jpg_1"] = rows[1]["jpg_1"][:60]
    tiny.write_split(tmp_path / "d", "train", rows)
    with pytest.raises(CorruptImage, match=r"train-00000\.parquet row 1, jpg_1"):
        build(tmp_path / "d")


def test_a_damaged_block_is_made_again(build, dataset, tmp_path):
    pair = read_pairs(dataset, "train")[0]
    before = build(dataset).latent(pair.winner, flip=False)
    (block,) = (tmp_path / "cache" / "latents").rglob("*.safetensors")
    whole = block.read_bytes()
    block.unlink()  # never shorten a mapped file in place
    block.write_bytes(whole[: len(whole) // 2])
    after = build(dataset).latent(pair.winner, flip=False)
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert block.read_bytes() == whole


def test_neighbours_and_order_change_no_latent(build, tiny, tmp_path):
    rows = tiny.bright_beats_dark(9, 0)
    tiny.write_split(tmp_path / "all", "train", rows)
    tiny.write_split(tmp_path / "some", "train", rows[:2:-1])
    whole, part = build(tmp_path / "all", folder="a"), build(tmp_path / "some", folder="b")
    for pair in read_pairs(tmp_path / "some", "train"):
        assert_close(part.latent(pair.winner, False)[0], whole.latent(pair.winner, False)[0], FORWARD)


def test_a_shelf_keeps_values_bit_for_bit(tmp_path):
    values = {"a.mean": torch.randn(4, 3, 3), "b.mean": torch.randn(2)}
    Shelf(tmp_path).add(values)
    again = Shelf(tmp_path)
    assert all(torch.equal(again.get(name), value) for name, value in values.items())
    assert "c.mean" not in again


@pytest.mark.parametrize("size", [(16, 16), (20, 16), (16, 33), (64, 48)])
def test_pictures_are_resized_by_the_shorter_side_and_cropped_in_the_centre(size):
    array = np.zeros((size[1], size[0], 3), np.uint8)
    array[:, : size[0] // 2] = 255
    pixels = to_pixels(Image.fromarray(array), 16)
    assert pixels.shape == (3, 16, 16)
    assert pixels[:, :, 0].mean() == 1
    assert pixels[:, :, -1].mean() == -1


def test_pixels_cover_minus_one_to_one_exactly():
    buffer = io.BytesIO()
    Image.fromarray(np.array([[[0, 0, 0], [255, 255, 255]]] * 2, np.uint8)).save(buffer, "PNG")
    assert to_pixels(decode(buffer.getvalue()), 2).unique().tolist() == [-1.0, 1.0]


def test_large_pictures_are_encoded_alone_on_a_cpu_and_by_memory_elsewhere(monkeypatch):
    monkeypatch.setattr(latents_module, "free_memory", lambda device: 64 << 30)
    assert [pictures_at_once((side, side), "cpu") for side in (64, 96, 128, 256, 512)] == [8, 4, 4, 1, 1]
    assert [pictures_at_once((side, side), "cuda:0") for side in (64, 512, 1024)] == [8, 8, 8]
    monkeypatch.setattr(latents_module, "free_memory", lambda device: 8 << 30)
    assert [pictures_at_once((side, side), "cuda:0") for side in (512, 1024, 2048)] == [4, 1, 1]
    monkeypatch.setattr(latents_module, "free_memory", lambda device: None)
    assert pictures_at_once((1024, 1024), "mps") == 8
