"""build-pairs a bucket of prompts at a time: the same pairs and dataset as at once, in less memory."""

import gc
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rpo_cli.errors import UsageError
from rpo_cli.line.dataset.buckets import Buckets, homes_of, letters
from rpo_cli.line.dataset.build import build_dataset
from rpo_cli.protocols import Silent
from rpo_cli.records import Preference, Verdict, content_key
from rpo_cli.stages.candidates import Candidate
from rpo_cli.store import open_store
from tests.line.test_dataset import MODELS, SETTINGS, fill, live_of, tables, tree

PROMPTS = 16
PER_BUCKET = 1  # of 48 candidates: buckets by two letters


def build(store, rows, per_bucket=PER_BUCKET, observer=None, **settings):
    live = live_of(rows) | {
        name: {row.key for row in rows[name]} for name in ("preferences", "verdicts") if name in rows
    }
    return build_dataset(
        store,
        SETTINGS.model_copy(update=settings),
        live=live,
        models=MODELS,
        notes=(),
        observer=observer or Silent(),
        per_bucket=per_bucket,
    )


def judged(rows):
    """The same with judgements of both pictures of a prompt, of which some are shares and one has more."""
    rich = json.dumps({"rewards_a": {"theirs": 1.0}, "rewards_b": {"theirs": 2.0}})
    rows["preferences"] = [
        Preference(
            preference_id=content_key("preference", n),
            prompt_id=a.prompt_id,
            prompt=a.prompt,
            a_id=a.image_id,
            b_id=b.image_id,
            a_sha256=a.sha256,
            b_sha256=b.sha256,
            choice="ab"[n % 2],
            judged_by="human" if n % 3 else "source",
            row=n,
            source_id=None,
            settings="{}",
            share=0.75 if n == 4 else None,
            rich=rich if n == 5 else None,
        )
        for n, (a, b) in enumerate(zip(rows["images"][::2], rows["images"][1::2], strict=True))
    ]
    shas = {rows["preferences"][5].a_sha256, rows["preferences"][5].b_sha256}
    rows["rewards"] = [row for row in rows["rewards"] if row.subject_sha256 not in shas]
    return rows


def reviewed(rows):
    """The same with a verdict of every other edit against its original."""
    originals = {image.image_id: image for image in rows["images"]}
    rows["verdicts"] = [
        Verdict(
            verdict_id=content_key("verdict", n),
            pair_id="told by its pictures",
            prompt_id=edit.prompt_id,
            a_sha256=originals[edit.image_id].sha256,
            b_sha256=edit.sha256,
            choice=("a", "b", "tie", "reject")[n % 4],
            reviewer="ann",
            number=n,
            left="a",
        )
        for n, edit in enumerate(rows["edits"][::2])
    ]
    return rows


def spelled(rows):
    """The same with prompts that are the one before in capitals, under a key of their own."""
    for name, found in rows.items():
        for place, row in enumerate(found):
            said = getattr(row, "prompt", "")
            number = int(said.rpartition(" ")[2] or 0)
            if said and number % 2:
                found[place] = row.model_copy(
                    update={"prompt": said.replace(str(number), str(number - 1)).upper()}
                )
        rows[name] = found
    return rows


def alone(rows):
    """The same with one image a prompt: scales are taken over all images."""
    kept = {row.image_id for row in rows["images"][::2]}
    rows["images"] = rows["images"][::2]
    rows["edits"] = [row for row in rows["edits"] if row.image_id in kept]
    rows["critiques"] = [row for row in rows["critiques"] if row.image_id in kept]
    return rows


def untouched(rows):
    return rows


CASES = {
    "all": (untouched, {}),
    "a best attempt": (untouched, {"strategy": "edits", "select_by": "clip"}),
    "win rates": (untouched, {"calibration": "win-rate", "min_margin": 0.2}),
    "weights and pareto": (untouched, {"reward_weights": ("clip=0.5",), "selection": "pareto"}),
    "one a prompt": (spelled, {"max_pairs_per_prompt": 1, "min_margin": 0.1}),
    "labels": (judged, {"labels": "source"}),
    "labels that rewards contradict": (judged, {"labels": "rewards"}),
    "reviewers decide": (reviewed, {"use_verdicts": "override"}),
    "one image a prompt": (alone, {"strategy": "edits"}),
    "nothing passes": (untouched, {"min_margin": 1000.0}),
}


def content(run):
    """Rows of pairs and of both splits without their order, and the card without files and sizes."""
    store = open_store(run)
    pairs = sorted(row.model_dump_json() for row in store.fetch("pairs", store.keys("pairs")))
    splits = {
        split: sorted(
            json.dumps(row, default=bytes.hex, sort_keys=True)
            for file in sorted((run / "dataset" / "data").glob(f"{split}-*.parquet"))
            for row in pq.read_table(file).to_pylist()
        )
        for split in ("train", "validation")
    }
    card = (run / "dataset" / "README.md").read_text().splitlines()
    told = [
        line
        for line in card
        if not any(word in line for word in ("rpo build", "path:", "num_bytes", "_size:"))
    ]
    return pairs, splits, told


@pytest.mark.parametrize("case", CASES)
def test_a_build_in_buckets_has_the_pairs_and_the_dataset_of_one_at_once(tmp_path, case):
    change, settings = CASES[case]
    rows = change(tables(prompts=PROMPTS))
    once = build(fill(tmp_path / "once", rows), rows, per_bucket=1_000, **settings)
    many = build(fill(tmp_path / "many", rows, parts=5, seed=1), rows, **settings)

    assert once.__dict__ | {"path": ""} == many.__dict__ | {"path": ""}
    assert content(tmp_path / "once") == content(tmp_path / "many")
    assert not build(open_store(tmp_path / "many"), rows, **settings).fresh
    assert list((tmp_path / "many" / "dataset").glob(".*")) == []


def test_spellings_of_one_prompt_share_its_room_in_whatever_bucket_their_keys_would_be(tmp_path):
    rows = spelled(tables(prompts=PROMPTS))
    prompts = {row.prompt.casefold() for row in rows["images"]}
    report = build(fill(tmp_path, rows), rows, max_pairs_per_prompt=1, min_margin=0.0)

    assert len(prompts) == PROMPTS // 2 == report.accepted
    assert report.dropped["prompt_full"] > 0


def test_the_partition_and_order_of_rows_change_no_byte_of_a_build_in_buckets(tmp_path):
    rows = judged(tables(prompts=PROMPTS))
    for name, options in {
        "one": {},
        "two": {"parts": 7, "seed": 1},
        "three": {"parts": 3, "seed": 2},
    }.items():
        build(fill(tmp_path / name, rows, **options), rows)
    one, two, three = (tree(tmp_path / name, "dataset", "pairs") for name in ("one", "two", "three"))
    assert one == two == three


def test_rows_of_the_dataset_lie_by_bucket_and_then_by_pair(tmp_path):
    rows = tables(prompts=PROMPTS)
    build(fill(tmp_path, rows), rows)
    files = (tmp_path / "dataset" / "data").glob("train-*.parquet")
    said = [json.loads(row["provenance"]) for file in files for row in pq.read_table(file).to_pylist()]
    places = [(row["prompt_id"][:2], row["pair_id"]) for row in said]

    assert len({bucket for bucket, _ in places}) >= 8
    assert places == sorted(places)


class Watched(Silent):
    """How far a build says it is, and how many candidates are alive."""

    def __init__(self):
        self.total, self.done, self.most, self.ended = 0, 0, 0, 0

    def start(self, stage, total, present):
        self.total, self.done = total, present

    def advance(self, rows, rejects):
        self.done += rows + rejects
        if self.done % 5 == 0:
            self.most = max(self.most, sum(type(found) is Candidate for found in gc.get_objects()))

    def finish(self):
        self.ended += 1


@pytest.mark.parametrize("known", [False, True], ids=["all measured", "all known"])
def test_the_candidates_of_few_prompts_are_in_memory_at_a_time_and_progress_ends_at_its_total(
    tmp_path, known
):
    rows = tables(prompts=PROMPTS)
    store, watch = fill(tmp_path, rows), Watched()
    if known:
        build(store, rows, min_margin=0.3)
    gc.collect()
    build(store, rows, observer=watch)

    assert (watch.total, watch.done, watch.ended) == (48, 48, 1)
    assert watch.most <= 12, "of 48"


def test_a_prompt_without_scores_is_unscored_in_a_bucket_of_its_own_too(tmp_path):
    """Its bucket has no row of one reward, or none at all: the rewards are those of the run."""
    rows = tables(prompts=PROMPTS)
    none, some = (rows["prompts"][n].prompt_id for n in (0, 1))
    rows["rewards"] = [
        row
        for row in rows["rewards"]
        if row.prompt_id != none and (row.prompt_id != some or row.reward == "clip")
    ]
    report = build(fill(tmp_path, rows), rows)
    assert report.dropped["unscored"] == 6, "of both prompts two edits and the two seeds"


def test_a_name_that_nothing_has_scored_is_refused_before_a_row_is_written(tmp_path):
    rows = tables(prompts=PROMPTS)
    store = fill(tmp_path, rows)
    with pytest.raises(UsageError, match="no scores of 'clop'"):
        build(store, rows, select_by="clop")
    assert store.counts("pairs") == {}
    assert not list((tmp_path / "dataset").glob(".*"))


class Stopped(Silent):
    def __init__(self, after):
        self.left = after

    def advance(self, rows, rejects):
        self.left -= rows
        if self.left <= 0:
            raise KeyboardInterrupt


@pytest.mark.parametrize("after", [1, 20, 47])
def test_a_build_that_broke_off_between_buckets_is_taken_up_to_the_same_bytes(tmp_path, after):
    rows = tables(prompts=PROMPTS)
    build(fill(tmp_path / "whole", rows), rows)
    store = fill(tmp_path / "broken", rows)
    with pytest.raises(KeyboardInterrupt):
        build(store, rows, observer=Stopped(after))
    assert not (tmp_path / "broken" / "dataset" / "README.md").exists()
    assert build(store, rows).fresh
    assert tree(tmp_path / "broken", "dataset", "pairs") == tree(tmp_path / "whole", "dataset", "pairs")


@pytest.mark.parametrize("fresh", [True, False])
def test_rows_that_a_killed_build_left_are_cleared_by_the_next_command(tmp_path, fresh):
    rows = tables(prompts=PROMPTS)
    store = fill(tmp_path, rows)
    if not fresh:
        build(store, rows)
    left = tmp_path / "dataset" / ".draft-rows-0badcafe"
    left.mkdir(parents=True)
    (left / "images.arrow").write_bytes(b"half")

    assert build(store, rows).fresh is fresh
    assert not left.exists()


KILLED = """
import os, signal, sys
sys.path.insert(0, {root!r})
from rpo_cli.line.dataset import build
from tests.line import test_buckets as t

calls, at = 0, {at}

def die_at(function):
    def wrapped(*args, **kwargs):
        global calls
        calls += 1
        if calls == at:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*args, **kwargs)
    return wrapped

os.fsync = die_at(os.fsync)
rows = t.tables(prompts=t.PROMPTS)
t.build(t.open_store({run!r}), rows)
"""


@pytest.mark.slow
def test_a_kill_between_buckets_leaves_the_build_before_and_the_next_call_ends_it(tmp_path):
    rows = tables(prompts=PROMPTS)
    whole = fill(tmp_path / "whole", rows)
    build(whole, rows, min_margin=0.6)
    before = tree(tmp_path / "whole", "dataset")
    build(whole, rows)
    expected = tree(tmp_path / "whole", "dataset", "pairs")
    ended = []
    for at in (2, 9, 21, 30, 1_000):
        run = tmp_path / f"run-{at}"
        build(fill(run, rows), rows, min_margin=0.6)
        script = KILLED.format(root=str(Path(__file__).parents[2]), at=at, run=str(run))
        done = subprocess.run([sys.executable, "-c", script], env={**os.environ, "OMP_NUM_THREADS": "1"})
        ended.append(done.returncode)
        if done.returncode:
            assert {name: tree(run, "dataset").get(name) for name in before} == before
        build(open_store(run), rows)
        assert tree(run, "dataset", "pairs") == expected
    assert ended[0] == -signal.SIGKILL
    assert ended[1] == -signal.SIGKILL
    assert ended[-1] == 0


def test_buckets_hold_so_many_candidates_and_a_run_of_ten_times_as_many_is_one():
    counts = (0, 50_000, 50_001, 80_000, 80_001, 1_280_000, 1_280_001)
    assert [letters(count) for count in counts] == [0, 0, 1, 1, 2, 2, 3]
    assert [letters(count, 1) for count in (10, 11, 16, 17, 257)] == [0, 1, 1, 2, 3]


@pytest.mark.parametrize("on_disk", [False, True])
def test_rows_fall_into_buckets_in_their_order_and_none_is_lost(tmp_path, on_disk, monkeypatch):
    monkeypatch.setattr("rpo_cli.line.dataset.buckets.BYTES_AT_ONCE", 200)
    ids = [content_key(n % 7) for n in range(50)]
    found = pa.table(
        {"prompt_id": ids, "number": range(50), "words": [["a", "b"][: n % 3] for n in range(50)]}
    )
    buckets = Buckets(tmp_path if on_disk else None, 1, {ids[0]: ids[1]})
    buckets.add("some", [found.slice(start, 10) for start in range(0, 50, 10)])
    buckets.add("none", [found.slice(0, 0)])

    places = {key: (ids[1] if key == ids[0] else key)[0] for key in ids}
    assert list(buckets) == sorted(set(places.values()))
    for bucket in buckets:
        rows = buckets.tables(bucket)
        assert rows["none"] == []
        assert rows["some"] == [row for row in found.to_pylist() if places[row["prompt_id"]] == bucket]
    assert len(list(tmp_path.rglob("*.arrow"))) == on_disk


def test_no_row_at_all_is_one_empty_bucket():
    buckets = Buckets(None, 2, {})
    buckets.add("images", [])
    assert [buckets.tables(bucket) for bucket in buckets] == [{"images": []}]


def test_spellings_are_at_home_with_the_least_of_their_keys():
    texts = {"b": "A cat", "a": "a  cat", "c": "a cat", "d": "a dog", "e": "A DOG", "f": "alone"}
    found = pa.table({"prompt_id": [*texts, "b"], "prompt": [*texts.values(), "A cat"]})
    assert homes_of([found.slice(0, 2), found.slice(2)]) == {"b": "a", "c": "a", "e": "d"}
