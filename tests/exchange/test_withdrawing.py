"""`rpo import RUN --withdraw SOURCE`, and runs whose imports are older than the ledger."""

import json
import shutil
from collections import Counter
from pathlib import Path

import pytest

from rpo_cli import open_line
from rpo_cli.errors import UsageError
from rpo_cli.line.dataset.inputs import build_pairs
from rpo_cli.line.imports.adopted import upgrade_imports
from rpo_cli.line.imports.run import import_source
from rpo_cli.line.imports.sources import imported, withdraw
from rpo_cli.line.merge import merge
from rpo_cli.line.status import prune, status
from rpo_cli.records import content_key
from rpo_cli.store import open_store

ONLY = {"pairs.strategy": "imported", "score.rewards": (), "pairs.val_fraction": 0.0}


def bring(run, source, **said):
    return import_source(open_line(run, {"run.rows_per_part": 4}), Path(source), **said)


def part(run):
    """How many rows of each table take part."""
    tables = ("prompts", "images", "preferences")
    return tuple(len(imported(open_line(run), table)) for table in tables)


def accepted(run):
    return build_pairs(open_line(run, ONLY)).accepted


def manifest(run):
    return json.loads((Path(run) / "run.json").read_text())


def test_a_withdrawn_source_takes_no_part_and_its_import_brings_it_back(tmp_path, judge):
    one, two = judge(6, "one"), judge(9, "two")
    run = tmp_path / "run"
    bring(run, one.root)
    bring(run, two.root)  # its first six rows are those of the other
    assert (part(run), accepted(run)) == ((9, 18, 9), 9)
    found = withdraw(open_line(run), "two")
    assert (found.source, found.prompts, found.images, found.preferences, found.shared) == (
        "two",
        3,
        6,
        3,
        24,
    )
    assert (part(run), accepted(run)) == ((6, 12, 6), 6)
    assert withdraw(open_line(run), "two").images == 0
    assert withdraw(open_line(run), "one").images == 12
    assert part(run) == (0, 0, 0)
    assert {item.source: item.withdrawn for item in status(run).sources} == {"one": True, "two": True}
    assert status(run).stages[0].stale == 18
    report = bring(run, two.root)
    assert (report.added, report.images, part(run)) == (0, 18, (9, 18, 9))


def test_what_was_withdrawn_and_pruned_is_read_again(tmp_path, judged):
    run = tmp_path / "run"
    bring(run, judged.root)
    withdraw(open_line(run), judged.root.name)
    assert prune(run)["images"] == 20
    assert list((run / "images").rglob("*.parquet")) == []
    assert bring(run, judged.root).images == 20
    assert part(run) == (10, 20, 10)


def test_the_card_names_only_what_takes_part(tmp_path, judge):
    one, two = judge(4, "one"), judge(5, "two")
    bring(tmp_path / "run", one.root)
    bring(tmp_path / "run", two.root)
    withdraw(open_line(tmp_path / "run"), "one")
    accepted(tmp_path / "run")
    card = (tmp_path / "run" / "dataset" / "README.md").read_text()
    assert "`two`" in card
    assert "`one`" not in card
    assert str(tmp_path) not in card


def test_a_wrong_name_is_told_with_the_nearest(tmp_path, judge):
    bring(tmp_path / "run", judge(4, "pictures").root)
    before = manifest(tmp_path / "run")
    with pytest.raises(UsageError, match="no source 'pictuers'; did you mean 'pictures'") as caught:
        withdraw(open_line(tmp_path / "run"), "pictuers")
    assert caught.value.hint == "it has: pictures"
    assert manifest(tmp_path / "run") == before


def test_a_run_without_imports_has_none_to_withdraw(tmp_path, judge):
    with pytest.raises(UsageError, match="nothing was imported"):
        withdraw(open_line(tmp_path / "run"), "pictures")


def test_two_sources_of_one_name_are_told_apart_by_id_or_place(tmp_path, judge):
    one, two = judge(4, "a/same"), judge(5, "b/same")
    run = tmp_path / "run"
    first, second = bring(run, one.root), bring(run, two.root)
    with pytest.raises(UsageError, match="2 sources are called 'same'") as caught:
        withdraw(open_line(run), "same")
    assert f"{first.id}: jsonl, {one.root.resolve()}" in caught.value.message
    assert "--withdraw" in caught.value.hint
    assert withdraw(open_line(run), str(two.root)).id == second.id
    assert withdraw(open_line(run), first.id).preferences == 4


def test_splits_and_columns_of_one_place_are_sources_of_their_own(tmp_path, write):
    for split, first in (("train", 0), ("test", 10)):
        write.parquet(f"data/{split}-0.parquet", [write.pick(first + n) for n in range(3)])
    bring(tmp_path / "run", write.root)
    bring(tmp_path / "run", write.root, split="test")
    assert part(tmp_path / "run")[2] == 6
    with pytest.raises(UsageError, match="split test"):
        withdraw(open_line(tmp_path / "run"), write.root.name)


# --- merging ---------------------------------------------------------------------------------------------


def test_a_merged_run_knows_what_its_shards_have_replaced_and_withdrawn(tmp_path, judge):
    one, two = judge(4, "one"), judge(6, "two")
    bring(tmp_path / "a", one.root)
    one.say(["b"] * 3)
    bring(tmp_path / "a", one.root)
    bring(tmp_path / "b", two.root)
    withdraw(open_line(tmp_path / "b"), "two")
    merge(tmp_path / "both", [tmp_path / "a", tmp_path / "b"])
    assert part(tmp_path / "both") == (3, 6, 3)
    assert bring(tmp_path / "both", one.root).added == 0


def test_what_a_run_has_withdrawn_no_shard_brings_back(tmp_path, judged):
    for name in "ab":
        bring(tmp_path / name, judged.root)
    withdraw(open_line(tmp_path / "a"), "source")
    merge(tmp_path / "a", [tmp_path / "b"])
    assert part(tmp_path / "a") == (0, 0, 0)


def test_shards_with_the_same_source_are_merged_and_with_another_state_of_it_refused(tmp_path, judged):
    bring(tmp_path / "a", judged.root, limit=6)
    bring(tmp_path / "b", judged.root)
    merge(tmp_path / "both", [tmp_path / "a", tmp_path / "b"])
    assert part(tmp_path / "both") == (10, 20, 10)
    judged.say(["b"] * 10)
    bring(tmp_path / "b", judged.root)
    with pytest.raises(UsageError, match="with other rows"):
        merge(tmp_path / "other", [tmp_path / "a", tmp_path / "b"])
    assert not (tmp_path / "other" / "run.json").exists()


# --- runs before the ledger -------------------------------------------------------------------------------


def age(run):
    """The run as an rpo before the ledger has left it: run.json names groups of rows."""
    told = manifest(run)
    keep = ("source", "format", "license", "revision")
    told["imports"] = {
        key: {name: about[name] for name in keep if name in about} for key, about in told["imports"].items()
    }
    (run / "run.json").write_text(json.dumps(told))
    shutil.rmtree(run / "claims")
    store = open_store(run)
    for old in store.parts("preferences"):
        rows = [
            vote.model_copy(update={"preference_id": old_key(vote)})
            for vote in store.part_rows("preferences", old)
        ]
        store.files.delete(old.name)
        store.commit("preferences", rows, group=old.group)


def old_key(vote):
    """The key of a judgement before the order of its pictures stopped counting."""
    said = (vote.prompt, vote.a_sha256, vote.b_sha256, vote.choice, vote.source_id, vote.judged_by)
    return content_key("preference", *said)


@pytest.fixture
def aged(tmp_path, judged):
    (judged.root / "9a.png").unlink()
    bring(tmp_path / "run", judged.root)
    age(tmp_path / "run")
    return tmp_path / "run"


def test_a_run_before_the_ledger_is_read_as_it_is(aged):
    assert part(aged) == (9, 18, 9)
    assert status(aged).stages[0].rejects == {"missing_image": 1}
    (source,) = status(aged).sources
    assert (source.source, source.rows) == ("source", None)
    assert accepted(aged) == 9
    prune(aged)
    assert part(aged) == (9, 18, 9)


def test_the_import_of_a_source_that_was_there_before_the_ledger_replaces_it(aged, judged):
    judged.say(["b", *"a" * 6])
    report = bring(aged, judged.root)
    assert (report.added, report.changed, report.withdrawn, report.rejects) == (0, 1, 2, {})
    assert (part(aged), accepted(aged)) == ((7, 14, 7), 7)
    assert len(status(aged).sources) == 1
    assert status(aged).stages[0].rejects == {}


def test_an_unchanged_source_that_was_there_before_has_not_changed(aged, judged):
    report = bring(aged, judged.root)
    assert (report.added, report.changed, report.withdrawn) == (0, 0, 0)
    assert (part(aged), report.rejects) == ((9, 18, 9), {"missing_image": 1})


def test_the_first_rows_of_such_a_source_leave_the_others(aged, judged):
    judged.say(["b"] * 10)
    assert bring(aged, judged.root, limit=4).changed == 4
    assert part(aged) == (9, 18, 9)
    judged.put("9a.png", 9)
    report = bring(aged, judged.root)
    assert (report.added, report.changed, report.rejects) == (1, 5, {})


def test_a_source_before_the_ledger_can_be_withdrawn(aged):
    assert withdraw(open_line(aged), "source").images == 18
    assert part(aged) == (0, 0, 0)
    assert status(aged).stages[0].rejects == {}


def test_an_upgrade_says_which_sources_are_known_by_name_alone(aged, judge):
    old = imported(open_line(aged), "preferences")
    notes = upgrade_imports(open_store(aged), dry_run=True)
    assert imported(open_line(aged), "preferences") == old
    assert upgrade_imports(open_store(aged)) == notes
    rekeyed = len(old - imported(open_line(aged), "preferences"))
    assert (0 < rekeyed < 9, part(aged), accepted(aged)) == (True, (9, 18, 9), 9)
    assert notes[0] == f"{rekeyed} imported judgements have another key"
    assert notes[1].startswith("source (jsonl) takes part as it is")
    assert bring(aged, judge().root).changed == 0
    assert upgrade_imports(open_store(aged)) == []


def test_another_source_leaves_such_a_one_alone(aged, judge):
    upgrade_imports(open_store(aged))
    bring(aged, judge(3, "more").root)
    assert part(aged) == (9, 18, 9)
    withdraw(open_line(aged), "source")
    assert part(aged) == (3, 6, 3)
    assert Counter(item.withdrawn for item in status(aged).sources) == {True: 1, False: 1}
