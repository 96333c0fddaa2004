"""build-pairs with verdicts: what reaches the dataset, and that without them nothing changes."""

import pytest

from rpo_cli.config import PairSettings
from rpo_cli.line.dataset.build import build_dataset
from rpo_cli.line.dataset.inputs import standing_keys
from rpo_cli.protocols import Silent
from rpo_cli.records import Pair, Verdict
from tests.line.test_dataset import MODELS, SETTINGS, build, dataset_rows, fill, live_of, tables, tree


def judged(store, rows, *, use="column"):
    live = live_of(rows)
    if reviewed := standing_keys(store):
        live["verdicts"] = reviewed
    settings = PairSettings(**{**SETTINGS.model_dump(), "use_verdicts": use})
    return build_dataset(store, settings, live=live, models=MODELS, notes=(), observer=Silent())


def accepted(store):
    rows = store.fetch("pairs", store.keys("pairs"))
    return [pair for pair in rows if isinstance(pair, Pair) and pair.verdict == "accepted"]


def verdict(pair, choice, number=0, reviewer="ann"):
    fields = {name: getattr(pair, name) for name in ("pair_id", "prompt_id", "a_sha256", "b_sha256")}
    key = f"{reviewer}-{number}-{pair.pair_id}"
    return Verdict(**fields, verdict_id=key, choice=choice, reviewer=reviewer, number=number, left="a")


@pytest.fixture
def world(tmp_path):
    rows = tables()
    store = fill(tmp_path, rows)
    build(store, rows, notes=())
    return store, rows


def test_skipped_and_undone_verdicts_leave_every_byte_as_it_was(world):
    store, rows = world
    before = tree(store.url, "dataset", "pairs")
    pair = accepted(store)[0]
    store.commit("verdicts", [verdict(pair, "a"), verdict(pair, "undo", 1)])
    store.commit("verdicts", [verdict(accepted(store)[1], "skip")])

    assert not judged(store, rows, use="override").fresh
    assert tree(store.url, "dataset", "pairs") == before


def opposed(pair):
    return "a" if pair.winner == "b" else "b"


def said_of_three(store):
    """Reviewers contradict the first pair, agree with the second, and prefer neither of the third."""
    first, second, third = accepted(store)[:3]
    rows = [verdict(first, opposed(first)), verdict(second, second.winner), verdict(third, "tie")]
    store.commit("verdicts", rows)
    return [pair.pair_id for pair in (first, second, third)], {first.pair_id: opposed(first)}


def test_a_column_tells_what_people_said_and_no_label_changes(world):
    store, rows = world
    labels = {row["ranking_id"]: row["label_0"] for row in dataset_rows(store.url)}
    said_of_three(store)
    report = judged(store, rows)
    found = dataset_rows(store.url)
    told = [row for row in found if row["human_label"] is not None]

    assert report.fresh
    assert {row["ranking_id"]: row["label_0"] for row in found} == labels
    assert sorted(row["human_label"] == "tie" for row in told) == [False, False, True]
    sides = [
        (row["human_label"], str(int(row["label_1"] == 1))) for row in told if row["human_label"] != "tie"
    ]
    assert sorted(human == label for human, label in sides) == [False, True]


def test_a_filter_drops_what_people_contradict_and_an_override_takes_their_side(world):
    store, rows = world
    count = len(accepted(store))
    (first, second, third), opposite = said_of_three(store)

    filtered = judged(store, rows, use="filter")
    by_filter = {pair.pair_id for pair in accepted(store)}
    judged(store, rows, use="override")
    by_people = {pair.pair_id: pair.winner for pair in accepted(store)}

    assert filtered.dropped["people_disagree"] == filtered.dropped["people_tie"] == 1
    assert by_filter & {first, second, third} == {second}
    assert len(by_filter) == count - 2
    assert by_people[first] == opposite[first]
    assert third not in by_people
    assert "override" in (store.path("dataset") / "README.md").read_text(encoding="utf-8")
