"""A stage of a run: who may work on it at once, what it makes, and what it measures of itself."""

from dataclasses import replace
from pathlib import Path

import pytest

from rpo_cli import build_pairs, open_line, run_stage
from rpo_cli.config import TrainSettings
from rpo_cli.errors import RunLocked, StorageError, UsageError
from rpo_cli.files import TEMPORARY
from rpo_cli.line import training
from rpo_cli.line.rates import keep_rate, rates
from rpo_cli.line.run import probe
from rpo_cli.line.stage import _Committer
from rpo_cli.line.status import compact
from rpo_cli.line.work import base
from rpo_cli.line.work.generate import generate_work
from rpo_cli.records import content_key
from rpo_cli.store import Store, open_store
from rpo_cli.train.composition import TrainInputs
from tests.observed import Notes


@pytest.mark.parametrize(
    ("full_round", "arrivals", "rate"),
    [
        (4, [(10.0, 4)], None),
        (4, [(10.0, 4), (12.0, 4)], 2.0),
        (4, [(10.0, 4), (12.0, 3)], None),  # the second round is not full
        # two workers, 4 rows in 2 seconds each: the first two batches were begun before the clock
        (8, [(10.0, 4), (10.5, 4)], None),
        (8, [(10.0, 4), (10.5, 4), (12.0, 4), (12.5, 4)], 4.0),
        # three requests in flight, a row each
        (3, [(10.0, 1), (10.5, 1), (11.0, 1), (12.0, 1), (12.5, 1)], None),
        (3, [(10.0, 1), (10.5, 1), (11.0, 1), (12.0, 1), (12.5, 1), (13.0, 1)], 1.5),
        (1, [], None),
    ],
)
def test_the_pace_leaves_out_the_first_full_round_and_needs_a_second(full_round, arrivals, rate):
    assert _Committer(None, None, arrivals=arrivals, full_round=full_round).rate == rate


def test_a_rate_of_fewer_than_two_full_rounds_is_said_to_be_that_and_leaves_what_was_known(stand):
    """24 rows, 8 a batch: 15 are no two full rounds, 16 are."""
    keep_rate(stand.line().store, "generate", 3.0)

    few = probe(stand.line(), "generate", 8)
    ordinary = run_stage(stand.line(), "generate", limit=7)

    assert (few.recorded, few.full_round, few.rows) == (False, 8, 8)
    assert (ordinary.rate, ordinary.full_round) == (None, 8)
    assert rates(stand.line().store) == {"generate": 3.0}


def test_a_rate_of_two_full_rounds_is_recorded(stand):
    found = probe(stand.line(), "generate", 16)

    assert (found.recorded, found.full_round) == (True, 8)
    assert rates(stand.line().store)["generate"] == pytest.approx(found.rows_per_second, rel=1e-3)


def test_a_round_of_a_server_is_all_its_requests_in_flight(stand, monkeypatch):
    """Whatever the batch size: requests are what is at work at a time."""
    backend = base.build_backend

    def served(*arguments, **options):
        found = backend(*arguments, **options)
        found.lanes = 5
        return found

    monkeypatch.setattr(base, "build_backend", served)

    few = probe(stand.line(), "generate", 9)
    enough = probe(stand.line(), "generate", 10)

    assert (few.full_round, few.recorded) == (5, False)
    assert (enough.full_round, enough.recorded) == (5, True)


def test_shards_of_a_stage_run_beside_each_other_and_make_every_row_once(stand):
    line = stand.line()
    wanted = generate_work(line).keys
    store = open_store(stand.run)

    with store.lock("generate", (0, 2)):
        second = run_stage(line, "generate", shard=(1, 2))
    after = store.keys("images")
    first = run_stage(stand.line(), "generate", shard=(0, 2))

    assert first.made + second.made == len(wanted) == 24
    assert min(first.made, second.made) > 0
    assert len(after) == second.made
    assert store.keys("images") == wanted


def small_parts(stand, monkeypatch, rows=2):
    line = stand.line(**{"run.rows_per_part": rows, "generate.batch_size": rows})
    notes = Notes()
    monkeypatch.setattr(line, "observer", notes)
    return line, notes


def test_the_small_parts_of_a_stage_are_one_when_it_ends(stand, monkeypatch):
    line, notes = small_parts(stand, monkeypatch)
    run_stage(line, "generate", limit=8)
    assert len(line.store.parts("images")) == 4, "few stay as they are"

    run_stage(line, "generate")

    assert len(line.store.parts("images")) == 1
    assert line.store.keys("images") == generate_work(line).keys
    assert not [text for text in notes.said if "part" in text]


def test_a_shard_leaves_its_parts_to_be_joined_by_status(stand, monkeypatch):
    """Other shards write beside it."""
    line, _ = small_parts(stand, monkeypatch, rows=1)
    made = run_stage(line, "generate", shard=(0, 2)).made

    assert len(line.store.parts("images")) == made >= 8
    assert compact(stand.run)["images"] == made


def test_parts_of_others_in_the_same_table_stay_as_they_are(stand, monkeypatch):
    """An import may write them now."""
    line, _ = small_parts(stand, monkeypatch)
    run_stage(line, "generate")
    rows = list(line.store.fetch("images", line.store.keys("images")))
    for row in rows[:9]:
        line.store.commit("images", [row.model_copy(update={"image_id": content_key(row.key)})], group="b")
    draft = line.store.path("images", "b", f"{TEMPORARY}now")
    draft.touch()

    run_stage(line, "generate")

    assert len([part for part in line.store.parts("images") if part.group == "b"]) == 9
    assert draft.exists()


def test_parts_that_cannot_be_joined_are_said_and_the_rows_stay(stand, monkeypatch):
    line, notes = small_parts(stand, monkeypatch)

    def full(self, table, **options):
        raise StorageError("images/x: the disk is full", "free some space")

    monkeypatch.setattr(Store, "compact", full)
    report = run_stage(line, "generate")

    assert report.made == 24
    assert [text for text in notes.said if "part" in text] == [
        "images: small parts are left as they are: images/x: the disk is full"
    ]


def test_a_whole_stage_waits_for_no_shard_of_it(stand):
    with open_store(stand.run).lock("generate", (0, 2)), pytest.raises(RunLocked, match="generate"):
        run_stage(stand.line(), "generate")
    assert open_store(stand.run).keys("images") == set()


def test_one_command_at_a_time_builds_pairs(stand):
    line = stand.line(**{"pairs.strategy": "seeds"})
    run_stage(line, "generate")
    run_stage(line, "score")

    with open_store(stand.run).lock("build-pairs"), pytest.raises(RunLocked, match="build-pairs"):
        build_pairs(line)

    assert not (stand.run / "dataset").exists()
    assert build_pairs(line).candidates > 0


def test_one_command_at_a_time_works_on_a_training(stand, monkeypatch):
    done = []
    asked = TrainInputs(TrainSettings(), Path("d"), "m", None, "i", Path("o"), Path("c"), 0, "cpu")
    monkeypatch.setattr(
        training, "_checked_inputs", lambda line, settings: replace(asked, settings=settings)
    )
    monkeypatch.setattr(training, "train_model", lambda inputs, *rest: done.append(inputs.settings.name))

    with open_store(stand.run).lock("train-one"):
        with pytest.raises(RunLocked, match="train-one"):
            training.fine_tune(stand.line(**{"train.name": "one"}))
        training.fine_tune(stand.line(**{"train.name": "two"}))

    assert done == ["two"]


def test_a_limit_makes_so_many_rows_and_the_next_call_goes_on(stand):
    made = [run_stage(stand.line(), "generate", limit=limit).made for limit in (5, 7, 0, None)]
    assert made == [5, 7, 0, 12]


class Black:
    """A generator that a safety checker always stops; counts its calls."""

    calls = 0

    def setup(self): ...

    def generate(self, prompts, seeds):
        Black.calls += 1
        return [None] * len(prompts)


def test_what_was_rejected_is_done_until_it_is_asked_for_again(stand, monkeypatch):
    painter = base.build_backend
    monkeypatch.setattr(base, "build_backend", lambda *given, **options: Black())
    monkeypatch.setattr(Black, "calls", 0)
    first = run_stage(stand.line(), "generate")
    calls = Black.calls

    again = run_stage(stand.line(), "generate")

    assert (first.made, first.rejects) == (0, {"black_image": 24})
    assert (again.made, again.rejects, Black.calls) == (0, {"black_image": 24}, calls)
    monkeypatch.setattr(base, "build_backend", painter)
    mended = run_stage(stand.line(), "generate", retry_rejects=True)
    assert (mended.made, mended.rejects) == (24, {})


def test_rows_that_were_made_before_a_failure_are_kept(stand, monkeypatch):
    painter = base.build_backend

    def backend(*given, **options):
        found = painter(*given, **options)
        paint, done = found.generate, []

        def generate(prompts, seeds):
            if done:
                raise ZeroDivisionError
            done.append(prompts)
            return paint(prompts, seeds)

        found.generate = generate
        return found

    monkeypatch.setattr(base, "build_backend", backend)
    with pytest.raises(ZeroDivisionError):
        run_stage(stand.line(**{"generate.batch_size": 4}), "generate")

    assert len(open_store(stand.run).keys("images")) == 4
    monkeypatch.setattr(base, "build_backend", painter)
    rest = run_stage(stand.line(), "generate")
    assert (rest.present, rest.made) == (4, 20)


def test_settings_that_are_refused_leave_the_run_as_it_was_and_what_was_written_meanwhile_stays(stand):
    before = open_store(stand.run).read_manifest()
    line = stand.line(**{"generate.steps": 7})

    def refused():
        with line.recorded():
            line.record(groups={"generate": "0badcafe"})
            raise UsageError("no such thing", "ask for another")

    with pytest.raises(UsageError):
        refused()

    after = open_store(stand.run).read_manifest()
    assert after.pop("groups") == {"generate": "0badcafe"}
    assert after == before
    assert open_line(stand.run).settings.generate.steps != 7
