"""Keys and seeds: hashes of what a row is, whatever made it and wherever."""

import hashlib

import pytest

from rpo_cli import records
from rpo_cli.records import KEY_VERSION, content_key, row_seed


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
