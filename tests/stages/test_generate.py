"""Which pictures are wanted of which noise, and the batches that they are made in."""

import threading
import time

import pytest
from PIL import Image

from rpo_cli.records import Reject
from rpo_cli.stages import generate

SAID = {"count": 1, "seed": 0, "settings": "{}"}


def one(prompt="a red ball", **changed):
    (task,) = generate.wanted(lambda: [("p", prompt)], **{**SAID, **changed})
    return task


def test_a_pictures_key_hangs_on_its_prompt_its_index_the_runs_seed_and_the_settings():
    two = list(generate.wanted(lambda: [("p", "a red ball")], **{**SAID, "count": 2}))
    others = [one("a blue ball"), one(seed=1), one(settings='{"steps":9}')]
    assert two[0].key == one().key
    assert len({task.key for task in [*two, *others]}) == 5


def test_each_picture_of_a_prompt_has_noise_of_its_own_and_every_model_begins_with_the_same():
    two = list(generate.wanted(lambda: [("p", "a red ball")], **{**SAID, "count": 2}))
    seeds = [task.payload.seed for task in two]
    assert len({*seeds, one("a blue ball").payload.seed, one(seed=1).payload.seed}) == 4
    assert one(settings='{"model":"other"}').payload.seed == seeds[0]


def test_a_last_batch_is_filled_up_to_its_size_and_gives_its_own_pictures_only():
    asked = []

    class Generator:
        def generate(self, prompts, seeds):
            asked.append((prompts, seeds))
            return [f"picture of {prompt} {seed}" for prompt, seed in zip(prompts, seeds, strict=True)]

    tasks = [one("a red ball"), one("a blue ball")]
    red, blue = (task.payload.seed for task in tasks)

    pictures = generate.step(tasks, Generator(), 4)

    assert asked == [(["a red ball", *["a blue ball"] * 3], [red, blue, blue, blue])]
    assert pictures == [f"picture of a red ball {red}", f"picture of a blue ball {blue}"]


def test_rows_come_in_the_order_of_their_tasks_though_cores_make_them(monkeypatch):
    """The first picture takes longest; a black one in between is a reject in its place."""
    tasks = [one(f"prompt {number}") for number in range(6)]
    pictures = [Image.new("RGB", (8, 8), (number, number, number)) for number in range(6)]
    threads, encode = set(), generate.encode_png

    def slow(picture):
        threads.add(threading.get_ident())
        time.sleep(0.2 if picture.getpixel((0, 0)) == (1, 1, 1) else 0.01)
        return encode(picture)

    monkeypatch.setattr(generate, "encode_png", slow)
    monkeypatch.setattr(generate.os, "cpu_count", lambda: 3)
    black, *rows = generate.Finish("{}", "{}")(tasks, pictures, 6)

    assert isinstance(black, Reject)
    assert [row.image_id for row in rows] == [task.key for task in tasks[1:]]
    assert [row.image.bytes for row in rows] == [encode(picture) for picture in pictures[1:]]
    assert 1 < len(threads) <= 3


def test_what_fails_while_a_picture_is_encoded_is_raised(monkeypatch):
    monkeypatch.setattr(generate, "encode_png", lambda picture: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        generate.Finish("{}", "{}")([one()] * 2, [Image.new("RGB", (8, 8), (9, 9, 9))] * 2, 2)
