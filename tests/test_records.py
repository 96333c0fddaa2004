"""Keys and seeds: hashes of what a row is, whatever made it and wherever."""

import hashlib
import random

import pytest

from rpo_cli import records
from rpo_cli.records import HOLE, KEY_VERSION, content_key, row_seed, template


def test_a_key_is_a_hash_of_its_version_and_of_every_part_in_its_order():
    told = f'[{KEY_VERSION},"image","ü",{{"a":1,"b":[2,null]}}]'
    key = content_key("image", "ü", {"b": (2, None), "a": 1})
    assert key == hashlib.sha256(told.encode()).hexdigest()[:32]


def test_parts_never_run_into_each_other():
    keys = [
        content_key(*parts)
        for parts in (("ab", "c"), ("a", "bc"), ("abc",), ("ab", "c", None), (1,), ("1",))
    ]
    assert len(set(keys)) == 6


def test_another_version_has_other_keys_and_the_same_seeds(monkeypatch):
    """What a model draws is the same."""
    key, seed = content_key("a"), row_seed(0, "a")
    monkeypatch.setattr(records, "KEY_VERSION", KEY_VERSION + 1)
    assert content_key("a") != key
    assert row_seed(0, "a") == seed


@pytest.mark.parametrize("run_seed", [0, 7, -1, 2**40])
def test_a_rows_seed_fits_every_library_and_hangs_on_the_runs_and_the_row(run_seed):
    seeds = [row_seed(run_seed, "a", number) for number in range(200)]
    assert all(0 <= seed < 2**31 for seed in seeds)
    assert len(set(seeds)) == 200
    assert max(seeds) > 2**30
    assert row_seed(run_seed + 1, "a", 0) != seeds[0]


TEXTS = ("", "ü 🎨", 'a "quoted" \\ one', "line\nend\t\x00\x1f\x7f", "</script>\u2028", "[1,2]", "null")


def part_of_a_key(rng):
    def plain():
        return rng.choice([None, True, False, 0, -7, 2**70, 1.5, -0.0, 1e-9, 1e300, *TEXTS])

    return rng.choice(
        [
            plain,
            plain,
            lambda: [plain(), plain()],
            lambda: (plain(),),
            lambda: {"b": plain(), "a": [plain()]},
        ]
    )()


def test_a_template_gives_the_keys_of_its_filled_parts():
    rng = random.Random(0)
    for _ in range(2000):
        parts = [part_of_a_key(rng) for _ in range(rng.randrange(1, 7))]
        holes = [rng.random() < 0.5 for _ in parts]
        of = template(*(HOLE if hole else part for part, hole in zip(parts, holes, strict=True)))

        own = [part for part, hole in zip(parts, holes, strict=True) if hole]

        assert of(*own).hex() == content_key(*parts)


def test_a_template_takes_one_part_for_each_hole():
    of = template("image", HOLE, 3, HOLE)

    for own in (("a",), ("a", "b", "c")):
        with pytest.raises(ValueError, match="zip"):
            of(*own)


def test_a_template_takes_texts_that_are_of_a_class_of_their_own():
    class Text(str):
        __slots__ = ()

    assert template("image", HOLE)(Text("ü")).hex() == content_key("image", "ü")
