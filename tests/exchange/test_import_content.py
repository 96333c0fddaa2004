"""A source is known by its content: what has changed in it replaces its own rows, and nothing else."""

import json
import os
import time
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from rpo_cli import hashes, open_line
from rpo_cli.line.dataset.inputs import build_pairs
from rpo_cli.line.imports.ledger import Ledger
from rpo_cli.line.imports.run import import_source
from rpo_cli.line.imports.sources import imported, withdraw
from rpo_cli.line.status import compact, prune, status
from rpo_cli.line.work.generate import live_images
from rpo_cli.pictures import sha256

ONLY = {"pairs.strategy": "imported", "score.rewards": (), "pairs.val_fraction": 0.0}


def bring(run, source, options=None, **said):
    return import_source(open_line(run, {"run.rows_per_part": 4, **(options or {})}), Path(source), **said)


def live(run, table):
    """The imported rows that take part, by key."""
    line = open_line(run)
    return {row.key: row for row in line.store.fetch(table, imported(line, table))}


def said(run):
    """What takes part: pictures under their prompts, judgements, rejects by reason."""
    images, votes = live(run, "images").values(), live(run, "preferences").values()
    return {
        "images": sorted((row.prompt, row.sha256) for row in images),
        "votes": sorted((row.prompt, *_ordered(row)) for row in votes),
    }


def _ordered(vote):
    """A judgement without the order that its pictures stand in."""
    sides = {"a": vote.a_sha256, "b": vote.b_sha256}
    return *sorted(sides.values()), sides.get(vote.choice, str(vote.choice))


def dropped(run):
    return build_pairs(open_line(run, ONLY)).dropped


def winners(run):
    """Prompt → the picture that the dataset prefers."""
    build_pairs(open_line(run, ONLY))
    images = {row.image_id: row.image.bytes for row in live(run, "images").values()}
    found = {}
    for file in (Path(run) / "dataset" / "data").glob("*.parquet"):
        for row in pq.read_table(file).to_pylist():
            found[row["caption"]] = images[row["best_image_uid"]]
    return found


def state(run):
    """Every file of a run that is no log, with its bytes and the moment that it was written."""
    files = [file for file in Path(run).rglob("*") if file.is_file() and "logs" not in file.parts]
    return {file: (file.read_bytes(), file.stat().st_mtime_ns) for file in files}


def test_a_second_folder_of_the_same_names_and_sizes_comes_in_whole(tmp_path, writer):
    """400 pictures in win/ and lose/, and 400 others in a folder that is called alike."""
    for home, shift in (("one", 0), ("two", 1000)):
        made = writer(tmp_path / home / "source")
        for n in range(200):
            made.file(f"win/{n:03}.png", made.png(shift + n, compress_level=0))
            made.file(f"lose/{n:03}.png", made.png(shift + 500 + n, compress_level=0))
            made.file(f"win/{n:03}.txt", f"prompt {n}")
    options = {"run.rows_per_part": 64}
    first = bring(tmp_path / "run", tmp_path / "one" / "source", options)
    second = bring(tmp_path / "run", tmp_path / "two" / "source", options)
    assert (first.images, second.images) == (400, 400)
    assert len(live(tmp_path / "run", "images")) == 800


def test_corrected_labels_of_a_file_of_the_same_size_replace_the_old_ones(tmp_path, judge):
    judged = judge(200)
    bring(tmp_path / "run", judged.root, {"run.rows_per_part": 64})
    size = (judged.root / "pairs.jsonl").stat().st_size
    judged.say(["b"] * 200)
    assert (judged.root / "pairs.jsonl").stat().st_size == size
    bring(tmp_path / "run", judged.root, {"run.rows_per_part": 64})
    assert Counter(row.choice for row in live(tmp_path / "run", "preferences").values()) == {"b": 200}


def test_a_corrected_label_makes_no_tie_with_the_one_before(tmp_path, judged):
    bring(tmp_path / "run", judged.root)
    judged.say(["b", *"a" * 9], ["prompt 0", *(f"prompt {n}" for n in range(1, 9)), "a longer prompt"])
    bring(tmp_path / "run", judged.root)
    found = winners(tmp_path / "run")
    assert dropped(tmp_path / "run") == {}
    assert found["prompt 0"] == judged.pictures["0b.png"]
    assert len(found) == 10


def test_a_changed_prompt_leaves_nothing_of_the_old_one(tmp_path, judged):
    bring(tmp_path / "run", judged.root)
    judged.say(["a"] * 10, ["prompt X", *(f"prompt {n}" for n in range(1, 10))])
    bring(tmp_path / "run", judged.root)
    assert {row.prompt for row in live(tmp_path / "run", "images").values()} == {
        "prompt X",
        *(f"prompt {n}" for n in range(1, 10)),
    }
    assert len(live(tmp_path / "run", "preferences")) == 10


def test_a_changed_picture_leaves_nothing_of_the_old_one(tmp_path, judged):
    bring(tmp_path / "run", judged.root)
    judged.put("0a.png", 77)
    bring(tmp_path / "run", judged.root)
    found = {row.sha256 for row in live(tmp_path / "run", "images").values()}
    assert found == set(map(sha256, judged.pictures.values()))


def test_pictures_that_arrive_later_come_in_with_the_same_command(tmp_path, judged):
    late = {name: (judged.root / name).read_bytes() for name in ("1b.png", "9a.png")}
    for name in late:
        (judged.root / name).unlink()
    assert bring(tmp_path / "run", judged.root).rejects == {"missing_image": 2}
    for name, data in late.items():
        (judged.root / name).write_bytes(data)
    report = bring(tmp_path / "run", judged.root)
    assert (report.images, report.judged, report.rejects) == (20, 10, {})


def test_a_picture_that_was_broken_is_tried_again(tmp_path, judged):
    (judged.root / "0a.png").write_bytes(b"x" * len(judged.pictures["0a.png"]))
    assert bring(tmp_path / "run", judged.root).rejects == {"corrupt_image": 1}
    (judged.root / "0a.png").write_bytes(judged.pictures["0a.png"])
    report = bring(tmp_path / "run", judged.root)
    assert (report.images, report.rejects) == (20, {})


@pytest.mark.parametrize("swapped", [False, True])
def test_a_row_that_stands_twice_is_one_judgement(tmp_path, write, swapped):
    """One person against it in the same source: 1 to 1 is a tie, 2 to 1 would not be."""
    write.file("a.png", write.png(1))
    write.file("b.png", write.png(2))
    told = {"prompt": "p", "image_0": "a.png", "image_1": "b.png", "label_0": 1}
    other = {"prompt": "p", "image_0": "b.png", "image_1": "a.png", "label_0": 0} if swapped else told
    write.lines("pairs.jsonl", [told, other, told | {"label_0": 0}])
    bring(tmp_path / "run", write.root)
    assert dropped(tmp_path / "run") == {"tie": 1}


def test_rows_that_a_source_has_no_more_take_no_part(tmp_path, judged):
    bring(tmp_path / "run", judged.root)
    judged.say(["a"] * 3)
    bring(tmp_path / "run", judged.root)
    assert len(live(tmp_path / "run", "preferences")) == 3
    assert len(live(tmp_path / "run", "images")) == 6


def test_the_command_counts_what_was_added_changed_and_withdrawn(tmp_path, judged):
    """A row that has moved is none of these."""
    run, root = tmp_path / "run", judged.root
    assert counts(bring(run, root)) == (10, 0, 0)
    assert counts(bring(run, root)) == (0, 0, 0)
    judged.say(["b", "b", *"a" * 8])
    assert counts(bring(run, root)) == (0, 2, 0)
    judged.write.lines("pairs.jsonl", [judged.rows[9], *judged.rows[:5]])  # 5 to 8 are gone, 9 is first
    assert counts(bring(run, root)) == (0, 0, 4)
    judged.write.lines("pairs.jsonl", judged.rows)
    assert counts(bring(run, root)) == (4, 0, 0)


def counts(report):
    return report.added, report.changed, report.withdrawn


GONE = {"prompt": "p", "image_0": "gone.png", "image_1": "gone too.png", "label_0": 1}
CHANGES = {
    "labels": lambda judged: judged.say(["b" if n % 3 else "a" for n in range(10)]),
    "prompts": lambda judged: judged.say(["a"] * 10, [f"other {n // 2}" for n in range(10)]),
    "picture": lambda judged: judged.put("5b.png", 500),
    "fewer": lambda judged: judged.say(["a"] * 3),
    "more": lambda judged: (judged.put("10a.png", 501), judged.put("10b.png", 502), judged.say(["a"] * 11)),
    "none": lambda judged: judged.write.lines("pairs.jsonl", [GONE]),
    "blank lines": lambda judged: judged.write.file(
        "pairs.jsonl", "\n" * 9 + "".join(json.dumps(row) + "\n" for row in judged.rows)
    ),
    "first row gone": lambda judged: judged.write.lines("pairs.jsonl", judged.rows[1:]),
    "a file gone": lambda judged: (judged.root / "4a.png").unlink(),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_source_leaves_what_its_first_import_would_have_made(tmp_path, judged, change):
    bring(tmp_path / "run", judged.root)
    CHANGES[change](judged)
    told = bring(tmp_path / "run", judged.root)
    fresh = bring(tmp_path / "fresh", judged.root)
    assert said(tmp_path / "run") == said(tmp_path / "fresh")
    names = ("images", "judged", "ties", "rejects", "prompts", "doubled")
    assert [getattr(told, name) for name in names] == [getattr(fresh, name) for name in names]
    assert status(tmp_path / "run").stages[0].rejects == fresh.rejects
    assert counts(bring(tmp_path / "run", judged.root)) == (0, 0, 0)


def test_a_pair_that_is_put_between_others_comes_in(tmp_path, write):
    """Rows of win/ and lose/ are the names in them; no table says which there are."""
    for n in range(9):
        write.file(f"win/{n}.png", write.png(n))
        write.file(f"lose/{n}.png", write.png(50 + n))
        write.file(f"win/{n}.txt", f"prompt {n}")
    bring(tmp_path / "run", write.root)
    for side, seed in (("win", 90), ("lose", 91)):
        write.file(f"{side}/33.png", write.png(seed))
    write.file("win/33.txt", "prompt between")
    assert counts(bring(tmp_path / "run", write.root)) == (1, 0, 0)
    bring(tmp_path / "fresh", write.root)
    assert said(tmp_path / "run") == said(tmp_path / "fresh")


def test_a_file_of_rows_that_is_put_between_others_comes_in(tmp_path, write):
    for number in (0, 2):
        write.parquet(f"train-{number}.parquet", [write.pick(10 * number + n) for n in range(5)])
    bring(tmp_path / "run", write.root)
    write.parquet("train-1.parquet", [write.pick(10 + n) for n in range(5)])
    assert counts(bring(tmp_path / "run", write.root)) == (5, 0, 0)
    write.parquet("train-3.parquet", [write.pick(30)])
    assert counts(bring(tmp_path / "run", write.root)) == (1, 0, 0)
    bring(tmp_path / "fresh", write.root)
    assert said(tmp_path / "run") == said(tmp_path / "fresh")


@pytest.fixture
def opened(monkeypatch):
    """Names of the files that were read for a picture or a text."""
    seen, real = [], Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda self: seen.append(self.name) or real(self))
    return seen


@pytest.mark.usefixtures("settled")
def test_a_repeated_import_reads_no_picture_and_writes_nothing(tmp_path, judged, opened):
    bring(tmp_path / "run", judged.root)
    before = state(tmp_path / "run")
    opened.clear()
    report = bring(tmp_path / "run", judged.root)
    assert [name for name in opened if name.endswith(".png")] == []
    assert state(tmp_path / "run") == before
    assert (report.rows, counts(report)) == (0, (0, 0, 0))


@pytest.mark.usefixtures("settled")
def test_what_looks_changed_and_is_not_changes_nothing(tmp_path, judged, opened, monkeypatch):
    """The cache is lost, as on another machine: all is read, and nothing is written."""
    bring(tmp_path / "run", judged.root)
    before = state(tmp_path / "run")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "elsewhere"))
    report = bring(tmp_path / "run", judged.root)
    assert state(tmp_path / "run") == before
    assert (report.rows, counts(report)) == (10, (0, 0, 0))


@pytest.mark.usefixtures("settled")
def test_only_the_chunk_of_a_changed_picture_is_read_again(tmp_path, judged, opened):
    bring(tmp_path / "run", judged.root)
    opened.clear()
    judged.put("5b.png", 500)
    assert bring(tmp_path / "run", judged.root).rows == 4
    assert sorted(opened) == sorted(f"{n}{side}.png" for n in range(4, 8) for side in "ab")


@pytest.mark.usefixtures("settled")
def test_a_picture_whose_size_and_time_are_set_back_is_seen(tmp_path, judged):
    bring(tmp_path / "run", judged.root)
    file = judged.root / "5b.png"
    old = file.stat()
    new = bytearray(judged.pictures["5b.png"])
    new[:] = judged.write.png(500)[: len(new)].ljust(len(new), b"\0")
    file.write_bytes(new)
    os.utime(file, ns=(old.st_atime_ns, old.st_mtime_ns))
    assert bring(tmp_path / "run", judged.root).rows == 4


def test_a_picture_that_was_changed_within_a_tick_of_the_clock_is_seen(tmp_path, judged, monkeypatch):
    """It looks the same in every way; it was new when it was read, so its looks are not trusted."""
    now = time.time_ns()
    for module in ("exchange.places", "exchange.incoming", "line.imports.reading"):
        monkeypatch.setattr(f"rpo_cli.{module}.state_of", lambda place, status=None: f"1 {now} {now} 1")
    bring(tmp_path / "run", judged.root)
    assert bring(tmp_path / "run", judged.root).rows == 0
    judged.put("5b.png", 500)
    assert counts(bring(tmp_path / "run", judged.root)) == (0, 1, 0)


@pytest.mark.usefixtures("settled")
def test_rehash_reads_every_row_again(tmp_path, judged):
    bring(tmp_path / "run", judged.root)
    line = open_line(tmp_path / "run", rehash=True)
    assert import_source(line, judged.root).rows == 10


def test_the_first_rows_read_no_more_files_than_theirs(tmp_path, judged, opened, write, monkeypatch):
    report = bring(tmp_path / "run", judged.root, limit=3)
    assert (report.rows, sorted(opened)) == (3, sorted(f"{n}{side}.png" for n in range(3) for side in "ab"))
    hashed, real = [], hashes.FileHashes.of
    monkeypatch.setattr(
        hashes.FileHashes, "of", lambda self, path: hashed.append(path.name) or real(self, path)
    )
    for number in range(4):
        write.parquet(f"many/train-{number}.parquet", [write.pick(10 * number + n) for n in range(5)])
    bring(tmp_path / "run", write.root / "many", limit=7)
    assert hashed == ["train-0.parquet", "train-1.parquet"]


@pytest.mark.usefixtures("settled")
def test_a_limit_takes_nothing_back_and_reads_on_where_it_stopped(tmp_path, judged):
    run, root = tmp_path / "run", judged.root
    assert counts(bring(run, root, limit=6)) == (6, 0, 0)
    assert bring(run, root, limit=6).rows == 0
    report = bring(run, root, limit=9)
    assert (report.rows, counts(report)) == (5, (3, 0, 0))  # from the chunk that had not ended
    bring(run, root)
    before = said(run)
    assert counts(bring(run, root, limit=1)) == (0, 0, 0)
    assert said(run) == before
    judged.say(["b", *"a" * 9])
    assert counts(bring(run, root, limit=1)) == (0, 1, 0)
    assert Counter(row.choice for row in live(run, "preferences").values()) == {"a": 9, "b": 1}


def test_rows_that_another_source_has_too_stay(tmp_path, judge):
    one, two = judge(6, "one"), judge(6, "two")
    bring(tmp_path / "run", one.root)
    bring(tmp_path / "run", two.root)
    assert len(live(tmp_path / "run", "preferences")) == 6
    one.say(["b", *"a" * 3])
    assert counts(bring(tmp_path / "run", one.root)) == (0, 1, 2)
    votes = Counter(row.prompt for row in live(tmp_path / "run", "preferences").values())
    assert votes == {"prompt 0": 2, **{f"prompt {n}": 1 for n in range(1, 6)}}
    assert dropped(tmp_path / "run") == {"tie": 1}  # two sources that contradict each other


def test_two_judgements_of_a_pair_in_one_source_both_count_and_are_told(tmp_path, write):
    for n in (1, 2, 3):
        write.file(f"{n}.png", write.png(n))
    told = {"prompt": "p", "image_0": "1.png", "image_1": "2.png", "label_0": 1}
    other = {"prompt": "p", "image_0": "1.png", "image_1": "3.png", "label_0": 1}
    write.lines("pairs.jsonl", [told, told, told | {"label_0": 0}, other, other, other])
    report = bring(tmp_path / "run", write.root)
    assert (report.judged, report.doubled, report.contradicted) == (3, 3, 1)
    assert dropped(tmp_path / "run") == {"tie": 1}


def test_the_rows_of_a_chunk_stay_as_many_when_the_setting_changes(tmp_path, judged):
    bring(tmp_path / "run", judged.root)
    judged.say(["b"] * 10)
    bring(tmp_path / "run", judged.root, {"run.rows_per_part": 3})
    assert Counter(row.choice for row in live(tmp_path / "run", "preferences").values()) == {"b": 10}


@pytest.mark.usefixtures("settled")
def test_a_part_that_somebody_has_deleted_is_made_again(tmp_path, judged):
    """As the error of a broken part says."""
    bring(tmp_path / "run", judged.root)
    before = state(tmp_path / "run")
    next((tmp_path / "run" / "images").rglob("*.parquet")).unlink()
    bring(tmp_path / "run", judged.root)
    assert {file: data for file, (data, _) in state(tmp_path / "run").items()} == {
        file: data for file, (data, _) in before.items()
    }


@pytest.mark.usefixtures("settled")
def test_joined_parts_of_the_ledger_are_replaced_as_well(tmp_path, judged):
    bring(tmp_path / "run", judged.root)
    assert compact(tmp_path / "run")["claims"] == 3
    judged.put("1a.png", 500)
    bring(tmp_path / "run", judged.root)
    before = said(tmp_path / "run")
    assert compact(tmp_path / "run")["claims"] == 2
    assert said(tmp_path / "run") == before
    assert bring(tmp_path / "run", judged.root).rows == 0
    judged.say(["b"] * 3)
    bring(tmp_path / "run", judged.root)
    assert Counter(row.choice for row in live(tmp_path / "run", "preferences").values()) == {"b": 3}
    assert len(list((tmp_path / "run" / "claims").rglob("*.parquet"))) == 1


@pytest.mark.usefixtures("settled")
def test_what_was_taken_back_from_a_joined_part_stays_taken_back(tmp_path, write):
    """The part cannot be deleted: the first chunk, which has not changed, stands in it too."""
    for number in range(3):
        write.parquet(f"train-{number}.parquet", [write.pick(10 * number + n) for n in range(4)])
    bring(tmp_path / "run", write.root)
    compact(tmp_path / "run")
    for number in (1, 2):
        (write.root / f"train-{number}.parquet").unlink()
    assert counts(bring(tmp_path / "run", write.root)) == (0, 0, 8)
    assert len(live(tmp_path / "run", "preferences")) == 4
    assert bring(tmp_path / "run", write.root).rows == 0


def test_what_no_source_claims_is_pruned(tmp_path, judged):
    run = tmp_path / "run"
    bring(run, judged.root)
    judged.say(["a"] * 4)  # the first chunk stays whole
    bring(run, judged.root)
    assert status(run).stages[0].stale == 12
    before = said(run)
    assert prune(run)["images"] == 12
    assert status(run).stages[0].stale == 0
    assert said(run) == before
    judged.say(["a"] * 10)
    assert counts(bring(run, judged.root)) == (6, 0, 0)
    assert len(live(run, "images")) == 20


def test_small_parts_of_an_import_are_joined_and_what_is_claimed_stays(tmp_path, judged):
    run = tmp_path / "run"
    bring(run, judged.root, {"run.rows_per_part": 1})
    store = open_line(run).store
    assert [len(store.parts(table)) for table in ("images", "preferences")] == [1, 1]
    assert len(live(run, "images")) == 20
    judged.say(["a"] * 4)
    bring(run, judged.root)
    assert len(live(run, "images")) == 8


def test_a_python_program_sees_a_change_at_once(tmp_path, judged):
    """What a line has worked out of its rows is worked out anew."""
    line = open_line(tmp_path / "run", {"run.rows_per_part": 4})
    import_source(line, judged.root)
    assert len(live_images(line)) == 20
    judged.say(["a"] * 3)
    import_source(line, judged.root)
    assert len(live_images(line)) == 6
    withdraw(line, judged.root.name)
    assert imported(line, "images") == set()


def test_a_program_sees_what_another_import_has_replaced_so_far(tmp_path, judged, monkeypatch):
    bring(tmp_path / "run", judged.root)
    line = open_line(tmp_path / "run")
    assert len(live_images(line)) == 20
    judged.say(["a"] * 3)
    monkeypatch.setattr(Ledger, "tidy", lambda ledger: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        bring(tmp_path / "run", judged.root)
    assert len(live_images(line)) == 6
