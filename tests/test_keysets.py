"""Sets of keys: the same answers as Python's sets of texts give, in the order in which keys were met."""

import random

import numpy as np
import pyarrow as pa
import pytest

from rpo_cli.keysets import Index, Keys, among, digests, first_places, hex_of, joined, packed
from rpo_cli.records import content_key


def keys(*numbers):
    return [content_key(number) for number in numbers]


def column(*chunks):
    return pa.chunked_array([pa.array(chunk, pa.string()) for chunk in chunks], pa.string())


def test_a_column_of_keys_comes_back_as_it_was():
    """Also in chunks, empty ones too, and as the slice of a longer one."""
    every = keys(*range(100))
    whole = column(every[:1], [], every[1:40], every[40:])

    assert hex_of(digests(whole)) == every
    assert hex_of(digests(whole.slice(17, 50))) == every[17:67]
    assert hex_of(digests(whole.chunk(3).slice(5, 7))) == every[45:52]
    assert hex_of(digests(column([]))) == []
    assert digests(whole).nbytes == 16 * 100


ODD = ["", "a key", "0" * 31, "0" * 33, "F" * 32, "0" * 31 + "g", "ü" * 16]


def test_keys_of_another_form_stay_texts():
    """Alone, beside others in a column, and where two columns meet."""
    for odd in ODD:
        assert hex_of(digests(column([odd]))) == [odd]
        assert hex_of(digests(column(keys(1), [odd]))) == [*keys(1), odd]
    assert hex_of(joined([digests(column(keys(1, 2))), digests(column(ODD))])) == [*keys(1, 2), *ODD]
    assert among(digests(column(keys(1, 2))), digests(column([*ODD, *keys(2)]))).tolist() == [False, True]
    assert first_places(digests(column([*ODD, *keys(1), *ODD]))).tolist() == [True] * 8 + [False] * 7


@pytest.mark.parametrize("found", [[None], ["0" * 32, None], [7]])
def test_what_is_no_key_is_refused(found):
    with pytest.raises(ValueError, match="no texts"):
        digests(pa.chunked_array([found]))


def test_a_key_counts_at_its_first_place():
    found = digests(column(keys(3, 1), keys(3, 3, 2, 1), keys(4)))

    assert first_places(found).tolist() == [True, True, False, False, True, False, True]
    assert first_places(digests(column(keys(1, 2)))) is None
    assert first_places(digests(column([]))) is None
    assert first_places(digests(column(keys(1, 1)))).tolist() == [True, False]


def test_a_mask_tells_which_keys_are_among_others():
    found, others = digests(column(keys(1, 2, 2, 3))), digests(column(keys(2, 9)))

    assert among(found, others).tolist() == [False, True, True, False]
    assert among(found, digests(column([]))).tolist() == [False] * 4
    assert among(digests(column([])), found).tolist() == []


def random_keys(rng):
    some = [*keys(*range(40)), *(ODD if rng.random() < 0.3 else [])]
    return rng.choices(some, k=rng.randrange(30))


def test_sets_of_keys_are_what_sets_of_texts_are():
    """Among themselves, with sets and with views of dictionaries, whichever stands first."""
    rng = random.Random(0)
    for _ in range(300):
        a, b = random_keys(rng), random_keys(rng)
        if rng.random() < 0.2:
            b = a[: len(a) // 2]
        for ours, other in ((Keys.of(a), Keys.of(b)), (Keys.of(a), set(b)), (set(a), Keys.of(b))):
            assert ours & other == set(a) & set(b)
            assert ours | other == set(a) | set(b)
            assert ours - other == set(a) - set(b)
            assert (ours <= other) == (set(a) <= set(b))
            assert (ours >= other) == (set(a) >= set(b))
            assert (ours == other) == (set(a) == set(b))
            assert (ours < other) == (set(a) < set(b))
        assert dict.fromkeys(a).keys() & Keys.of(b) == set(a) & set(b)
        assert set().union(Keys.of(a), Keys.of(b)) == set(a) | set(b)
        assert len(Keys.of(a)) == len(set(a))


def test_sets_of_keys_keep_the_order_in_which_keys_were_met():
    found = Keys.distinct(digests(column(keys(5, 1, 5, 9, 2))))

    assert list(found) == keys(5, 1, 9, 2)
    assert list(found - Keys.of(keys(1))) == keys(5, 9, 2)
    assert list(found & Keys.of(keys(2, 5))) == keys(5, 2)
    assert list(found | Keys.of(keys(3, 1))) == keys(5, 1, 9, 2, 3)


def test_a_set_of_keys_is_asked_for_a_text():
    for others in ([], ODD):
        found = Keys.of([*keys(1), *others])
        assert all(key in found for key in (*keys(1), *others))
        assert not any(key in found for key in (keys(1)[0].upper(), keys(2)[0], "no key", 7, None))


def test_keys_are_sorted_as_their_texts_are():
    every = [*keys(*range(500)), "0" * 32, "f" * 32, "0" * 16 + "f" * 16, "f" * 16 + "0" * 16]
    for found in (every, [*every, *ODD]):
        assert list(Keys.of(found).sorted()) == sorted(found)


def test_an_index_tells_the_rows_to_keep_table_by_table():
    tables = [digests(column(keys(*numbers))) for numbers in ((1, 2), (), (2, 3), (1, 2))]
    index = Index.of(tables)

    def kept(chosen=None):
        return {n: None if mask is None else mask.tolist() for n, mask in index.kept(chosen)}

    assert kept() == {0: None, 2: [False, True]}
    assert kept(Keys.of(keys(3, 7))) == {2: [False, True]}
    assert kept(Keys.of(keys(2))) == {0: [False, True]}
    assert kept(Keys.of([])) == {}
    assert [hex_of(each) for each in index.each()] == [hex_of(each) for each in tables]


def test_keys_of_bytes_lie_side_by_side():
    data = np.arange(48, dtype=np.uint8).tobytes()

    assert hex_of(packed(data)) == [data[start : start + 16].hex() for start in (0, 16, 32)]
    assert hex_of(joined([packed(data).slice(1), packed(b""), packed(data).slice(0, 1)])) == [
        data[16:32].hex(),
        data[32:].hex(),
        data[:16].hex(),
    ]
