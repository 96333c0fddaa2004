"""Sets of keys: the same answers as Python's sets of texts give, in the order in which keys were met."""

import random

import numpy as np
import pyarrow as pa
import pytest

from rpo_cli.keysets import (
    Index,
    Kept,
    Keys,
    among,
    digests,
    first_places,
    hex_of,
    joined,
    order_of,
    packed,
    union,
)
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


def masks(index, chosen):
    return {n: None if mask is None else mask.tolist() for n, mask in index.kept(Keys.of(chosen))}


def by_hand(tables, chosen):
    """Table → which of its rows are chosen and stand at their first place."""
    met, found = set(), {}
    for number, table in enumerate(tables):
        mask = []
        for key in table:
            mask.append(key in chosen and key not in met)
            met.add(key)
        if any(mask):
            found[number] = None if all(mask) else mask
    return found


@pytest.mark.parametrize("seed", range(20))
def test_questions_for_a_few_keys_have_one_answer_however_often_they_come(seed):
    """Tables of any length, none too; keys that stand twice; keys that stand nowhere."""
    draw = random.Random(seed)
    tables = [keys(*(draw.randrange(600) for _ in range(draw.choice((0, 1, 5, 80))))) for _ in range(12)]
    index = Index.of([digests(column(table)) for table in tables])
    for _ in range(5):
        chosen = set(keys(*(draw.randrange(900) for _ in range(draw.choice((0, 1, 3, 8))))))
        assert masks(index, chosen) == by_hand(tables, chosen)
        assert masks(index, set().union(*tables)) == by_hand(tables, set().union(*tables))


def test_keys_whose_first_halves_are_alike_are_told_apart():
    every = [f"{'ab' * 8}{n:016x}" for n in range(40)]
    index = Index.of([digests(column(every[:25])), digests(column(every[20:]))])
    for n in (0, 24, 25, 39):
        assert masks(index, {every[n]}) == by_hand([every[:25], every[20:]], {every[n]})
        assert masks(index, {f"{'ab' * 8}{99:016x}"}) == {}


def test_a_few_keys_of_another_form_are_sought_as_texts():
    tables = [keys(*range(40)), ["a key", *keys(50)]]
    index = Index.of([digests(column(table)) for table in tables])
    for _ in range(3):
        assert masks(index, {"a key"}) == {1: [True, False]}
        assert masks(Index.of([digests(column(tables[0]))]), {"a key"}) == {}


def test_keys_of_bytes_lie_side_by_side():
    data = np.arange(48, dtype=np.uint8).tobytes()

    assert hex_of(packed(data)) == [data[start : start + 16].hex() for start in (0, 16, 32)]
    assert hex_of(joined([packed(data).slice(1), packed(b""), packed(data).slice(0, 1)])) == [
        data[16:32].hex(),
        data[32:].hex(),
        data[:16].hex(),
    ]


def test_rows_are_ordered_by_the_texts_of_their_columns():
    first, second = ([content_key(number % few) for number in range(60)] for few in (7, 60))
    expected = sorted(range(60), key=lambda row: (first[row], second[row]))
    assert order_of(digests(column(first)), digests(column(second))).to_pylist() == expected
    odd = [f"{key} more" for key in second]  # no 32 hex digits
    assert order_of(digests(column(first)), digests(column(odd))).to_pylist() == expected


def test_a_share_is_told_by_the_first_eight_digits_and_shares_are_the_whole():
    whole = Keys.of(keys(*range(90)))
    shares = [whole.share(number, 4) for number in range(4)]
    assert all(int(key[:8], 16) % 4 == number for number, share in enumerate(shares) for key in share)
    assert set(union(shares)) == set(whole)
    assert sum(map(len, shares)) == 90


def test_parted_keys_are_those_among_the_others_and_the_rest():
    whole, some = Keys.of(keys(*range(9))), Keys.of(keys(7, 3, 100))
    within, without = whole.parted(some)
    assert list(within) == keys(3, 7)
    assert list(without) == keys(0, 1, 2, 4, 5, 6, 8)


def test_kept_keys_are_computed_again_when_they_are_of_something_else_or_damaged(tmp_path):
    computed = []

    def compute():
        computed.append(1)
        return bytes(range(64))

    place = tmp_path / "cache" / "keys"
    one, other = (Kept(place, content_key(name), least=4) for name in ("one", "other"))
    assert [one(compute), one(compute)] == [bytes(range(64))] * 2
    assert len(computed) == 1
    other(compute)
    one(compute)
    assert len(computed) == 3
    data = place.read_bytes()
    for damaged in (data[:-16], data[:-1] + b"x", b""):
        place.write_bytes(damaged)
        assert one(compute) == bytes(range(64))
    assert len(computed) == 6


def test_few_keys_are_not_kept_and_a_folder_that_cannot_be_written_to_stops_nothing(tmp_path):
    Kept(tmp_path / "few", content_key("x"), least=5)(lambda: bytes(64))
    assert not (tmp_path / "few").exists()
    (tmp_path / "file").write_text("")
    assert Kept(tmp_path / "file" / "keys", content_key("x"), least=0)(lambda: bytes(16)) == bytes(16)


def test_a_digest_tells_sets_apart_and_hangs_on_no_order():
    some, turned = Keys.of(keys(1, 2, 3)), Keys.of(keys(3, 1, 2))
    assert some.digest == turned.digest
    assert (
        len({some.digest, Keys.of(keys(1, 2)).digest, Keys.of(keys(1, 2, 4)).digest, Keys.of(()).digest})
        == 4
    )
    odd = [Keys.of(order) for order in (("a key", "another"), ("another", "a key"), ("a key",))]
    assert odd[0].digest == odd[1].digest != odd[2].digest
