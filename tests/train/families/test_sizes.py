"""Pictures of several shapes: buckets in the cache, sizes in SDXL's condition, mixed batches."""

import io
import json
import math
from itertools import groupby
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from diffusers.pipelines.flux.pipeline_flux import calculate_shift
from PIL import Image

from rpo_cli.config import TrainSettings
from rpo_cli.errors import UsageError
from rpo_cli.protocols import Silent
from rpo_cli.train.data.latents import Builder, Framing
from rpo_cli.train.data.pairs import read_pairs
from rpo_cli.train.families.family import open_family, to_pixels
from rpo_cli.train.job import schedule_of
from rpo_cli.train.noise import DrawSettings, drawn_pair
from rpo_cli.train.step import by_shape
from tests.closeness import FORWARD, assert_close

SHAPES = [(16, 16), (40, 20), (20, 40), (24, 16)]


def png(size: tuple[int, int], value: int, seed: int) -> bytes:
    noise = np.random.default_rng(seed).integers(-20, 21, (size[1], size[0], 3))
    buffer = io.BytesIO()
    Image.fromarray(np.clip(value + noise, 0, 255).astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def pair(winner: tuple[int, int], loser: tuple[int, int], seed: int) -> dict:
    return {
        "jpg_0": png(winner, 220, seed),
        "jpg_1": png(loser, 30, seed + 1000),
        "label_0": 1.0,
        "label_1": 0.0,
        "caption": "a red thing",
    }


@pytest.fixture
def shapes(tiny, tmp_path):
    """Eight pairs of four shapes, and one whose loser is smaller and of another shape."""
    rows = [pair(SHAPES[i % 4], SHAPES[i % 4], i) for i in range(8)] + [pair((40, 20), (30, 30), 9)]
    tiny.write_split(tmp_path / "pairs", "train", rows)
    tiny.write_split(tmp_path / "pairs", "validation", rows[:4])
    return tmp_path / "pairs"


class Notes(Silent):
    def __init__(self):
        self.texts = []

    def note(self, text: str) -> None:
        self.texts.append(text)


@pytest.fixture
def build(model_of, shapes, tmp_path):
    def call(name, framing, observer=None, flip=False):
        family = open_family(str(model_of(name)))
        builder = Builder(tmp_path / "cache", family, "m", "cpu", observer or Silent(), framing)
        return builder.build(shapes, read_pairs(shapes, "train"), flip=flip, drop_captions=False)

    return call


def test_a_bucketed_picture_keeps_its_shape_and_both_sides_share_it(build, shapes):
    cache = build("sd1", Framing(buckets=True))
    found = []
    for each in read_pairs(shapes, "train"):
        winner, loser = cache.latent(each.winner, False)[0], cache.latent(each.loser, False)[0]
        assert winner.shape == loser.shape
        found.append((winner.shape[2] * 2, winner.shape[1] * 2))
    assert found[:4] == [(16, 16), (20, 12), (12, 20), (20, 12)]
    assert found[8] == (20, 12)  # framed by 30 x 20
    assert cache.shape == (4, 8, 8)
    assert cache.envelope == (4, 10, 10)


def test_bucketed_latents_are_those_of_the_covered_and_cropped_picture(build, shapes, model_of):
    cache = build("sd1", Framing(buckets=True))
    wide = read_pairs(shapes, "train")[1].winner
    pixels = to_pixels(Image.open(io.BytesIO(png((40, 20), 220, 1))), 20, 12)
    assert pixels.shape == (3, 12, 20)
    vae = open_family(str(model_of("sd1"))).load_encoders("cpu").vae
    with torch.no_grad():
        expected = vae.encode(pixels[None].expand(8, -1, -1, -1)).latent_dist.mean[0]
    assert_close(cache.latent(wide, False)[0], expected * vae.config.scaling_factor, FORWARD)


def test_squares_and_buckets_share_one_cache_and_no_wrong_entry(build, shapes):
    square = build("sd1", Framing())
    wide = read_pairs(shapes, "train")[1].winner
    before = square.latent(wide, False)[0]
    bucketed = build("sd1", Framing(buckets=True), flip=True)
    assert bucketed.latent(wide, False)[0].shape == bucketed.latent(wide, True)[0].shape == (4, 6, 10)
    assert torch.equal(build("sd1", Framing()).latent(wide, False)[0], before)


def test_another_resolution_shares_no_latent(build, shapes):
    first = read_pairs(shapes, "train")[0].winner
    assert build("sd1", Framing()).latent(first, False)[0].shape == (4, 8, 8)
    assert build("sd1", Framing(resolution=32)).latent(first, False)[0].shape == (4, 16, 16)


def test_sdxl_is_told_the_real_sizes_of_a_pair(build, shapes):
    cache = build("sdxl", Framing())
    wide = read_pairs(shapes, "train")[1]
    told = cache.prompt("a red thing", wide.winner)["time_ids"]
    assert told.tolist() == [20, 40, 0, 8, 16, 16]
    assert torch.equal(told, cache.prompt("a red thing", wide.loser)["time_ids"])
    mixed = read_pairs(shapes, "train")[8]
    assert cache.prompt("a red thing", mixed.winner)["time_ids"].tolist() == [20, 30, 0, 4, 16, 16]


def test_sdxl_can_be_told_only_of_its_target(build, shapes):
    cache = build("sdxl", Framing(size_condition="target"))
    wide = read_pairs(shapes, "train")[1]
    assert cache.prompt("a red thing", wide.winner)["time_ids"].tolist() == [16, 16, 0, 0, 16, 16]


def test_a_family_that_is_not_told_sizes_has_none_in_its_condition(build, shapes):
    cache = build("sd1", Framing(buckets=True))
    assert set(cache.prompt("a red thing", read_pairs(shapes, "train")[0].winner)) == {"hidden"}


def test_pairs_of_two_sizes_are_told_once(build):
    notes = Notes()
    build("sdxl", Framing(), notes)
    assert [text for text in notes.texts if "two sizes" in text] == [
        "1 of 9 pairs hold pictures of two sizes: both are framed by the smaller width and height"
    ]


def test_sdxls_empty_caption_is_the_zeros_that_guidance_starts_from(model_of):
    condition = open_family(str(model_of("sdxl"))).load_encoders("cpu").encode_prompts(["", "blue"])
    assert not condition["hidden"][0].any()
    assert not condition["pooled"][0].any()
    assert condition["hidden"][1].any()


def test_a_resolution_off_the_grain_is_refused_with_one_that_fits(build):
    with pytest.raises(UsageError, match="18 pixels is no multiple of 4") as caught:
        build("sd1", Framing(resolution=18))
    assert "16" in caught.value.hint


@pytest.mark.parametrize("name", ["sd1", "sdxl", "sd3", "flux"])
def test_a_batch_of_several_shapes_trains_from_exactly_zero(name, model_of, run_train, shapes, tmp_path):
    report = run_train(
        model=str(model_of(name)),
        dataset=shapes,
        cache=tmp_path / "cache",
        resolution=16,
        buckets=True,
        global_batch=8,
        batch_size=8,
        learning_rate=1e-2,
        steps=2,
    )
    lines = (report.adapter.parent / "metrics.jsonl").read_text().splitlines()
    first, second = (row for row in map(json.loads, lines) if row["split"] == "train")
    assert first["loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert first["logit_std"] == 0.0
    assert second["logit_std"] > 0


def test_how_a_mixed_batch_is_split_changes_nothing(model_of, run_train, shapes, tmp_path):
    def first(out, batch_size):
        report = run_train(
            out,
            model=str(model_of("sdxl")),
            dataset=shapes,
            cache=tmp_path / "cache",
            buckets=True,
            global_batch=8,
            batch_size=batch_size,
            steps=1,
        )
        return [report.train_first[name] for name in ("winner_error", "loser_error", "grad_norm")]

    assert first("whole", 8) == pytest.approx(first("ones", 1), rel=1e-5)


def test_positions_of_one_shape_stand_together_in_their_old_order(build, shapes):
    cache, pairs = build("sd1", Framing(buckets=True)), read_pairs(shapes, "train")
    draws = DrawSettings(0, len(pairs), 1000, cache.envelope, False, 0.0)
    job = SimpleNamespace(settings=SimpleNamespace(global_batch=18), cache=cache, pairs=pairs, draws=draws)
    places = by_shape(job, step=3)
    assert sorted(places) == list(range(18))
    sizes = [cache.size(pairs[drawn_pair(draws, 3, place, 18)].winner) for place in places]
    assert len([size for size, _ in groupby(sizes)]) == len(set(sizes)) == 3
    for _, run in groupby(zip(sizes, places, strict=True), key=lambda item: item[0]):
        taken = [place for _, place in run]
        assert taken == sorted(taken)


def test_without_buckets_positions_stay_in_order(build, shapes):
    cache, pairs = build("sd1", Framing()), read_pairs(shapes, "train")
    draws = DrawSettings(0, len(pairs), 1000, cache.envelope, False, 0.0)
    job = SimpleNamespace(settings=SimpleNamespace(global_batch=9), cache=cache, pairs=pairs, draws=draws)
    assert by_shape(job, step=0) == list(range(9))


@pytest.mark.parametrize("side", [16, 48])
def test_flux_can_be_trained_at_the_noise_levels_of_its_pipeline(opened, side):
    """The scheduler is set up as the pipeline does it, and its own levels are looked for in ours."""
    family = opened("flux").family
    schedule = schedule_of(
        family, TrainSettings(timestep_shift="size", timestep_density="uniform", resolution=side)
    )
    scheduler = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, shift=3.0)
    mu = calculate_shift((side // family.grain()) ** 2)
    scheduler.set_timesteps(sigmas=family.schedule.sigma.tolist(), mu=mu)
    assert_close(schedule.sigma, scheduler.sigmas[:-1])
    assert_close(schedule.model_times, scheduler.timesteps)
    assert_close(schedule.alpha, 1 - schedule.sigma)


@pytest.mark.parametrize("name", ["sd1", "sd3"])
def test_a_shift_by_size_is_refused_where_sampling_has_none(opened, name):
    with pytest.raises(UsageError, match="sampled alike at every size"):
        schedule_of(opened(name).family, TrainSettings(timestep_shift="size"))
