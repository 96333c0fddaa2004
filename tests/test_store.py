"""The run directory: every key once, the same bytes from the same rows, compaction, damage."""

import json
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rpo_cli.errors import MissingDependency, RpoError, UsageError
from rpo_cli.files import TEMPORARY
from rpo_cli.keysets import Keys
from rpo_cli.records import PART_VERSION, Image, ImageData, Pair, Prompt, Reject, Row, content_key
from rpo_cli.schema import BYTES_PER_GROUP, ROWS_PER_GROUP, encode, rows_per_group, to_table
from rpo_cli.store import BYTES_PER_PART, open_store


def prompts(*numbers: int) -> list[Prompt]:
    return [Prompt(prompt_id=content_key(n), prompt=f"a picture of {n}", source="test") for n in numbers]


def picture(number: int, size: int = 50) -> Image:
    return Image(
        image_id=content_key("image", number),
        prompt_id=content_key(number),
        prompt=f"a picture of {number}",
        index=0,
        seed=number,
        sha256="0" * 64,
        width=8,
        height=8,
        image=ImageData(bytes=random.Random(number).randbytes(size)),
        batch_size=1,
        settings="{}",
        environment="{}",
    )


def reject(number: int, reason: str = "bad_reply", stage: str = "critique") -> Reject:
    return Reject(
        key_of=content_key(stage, number), stage=stage, input_id="", reason=reason, detail="", settings="{}"
    )


def ids(rows: list[Row]) -> set[str]:
    return {row.key for row in rows}


def files(folder: Path) -> dict[str, bytes]:
    """Every file below a folder; temporary ones too."""
    return {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}


def test_the_same_rows_in_any_order_make_the_same_file(tmp_path):
    rows = [picture(n) for n in range(250)]
    for name, order in (("a", rows), ("b", rows[::-1]), ("c", [*rows, *rows[:9]])):
        open_store(tmp_path / name, create=True).commit("images", order, group="g")

    assert files(tmp_path / "a") == files(tmp_path / "b") == files(tmp_path / "c")
    assert len(files(tmp_path / "a")) == 1


def test_committing_nothing_writes_nothing(tmp_path):
    open_store(tmp_path / "run", create=True).commit("images", [])

    assert not (tmp_path / "run").exists()


def test_a_key_is_met_once_though_two_writers_made_it(tmp_path):
    store = open_store(tmp_path, create=True)
    store.commit("prompts", prompts(1, 2, 3), group="g")
    store.commit("prompts", prompts(3, 4), group="g")
    store.commit("prompts", prompts(3, 4, 5), group="h")
    wanted = ids(prompts(1, 2, 3, 4, 5))

    met = [key for table in store.scan("prompts") for key in table["prompt_id"].to_pylist()]

    assert len(store.parts("prompts")) == 3
    assert sorted(met) == sorted(wanted)
    assert sorted(store.columns("prompts", ["prompt_id"])["prompt_id"].to_pylist()) == sorted(wanted)
    assert sorted(row.key for row in store.fetch("prompts", wanted)) == sorted(wanted)
    assert store.counts("prompts") == {"g": 4, "h": 3}


def test_a_reader_does_not_see_files_that_are_being_written(tmp_path):
    store = open_store(tmp_path, create=True)
    store.commit("prompts", prompts(1))
    whole = tmp_path / store.parts("prompts")[0].name
    whole.with_name(f"{TEMPORARY}99-part-x.parquet").write_bytes(whole.read_bytes()[:50])

    assert store.keys("prompts") == ids(prompts(1))
    assert len(store.parts("prompts")) == 1


def test_rows_of_other_processes_are_seen(tmp_path):
    """Two open stores: neither remembers a listing that the other has made old."""
    ours, theirs = open_store(tmp_path, create=True), open_store(tmp_path, create=True)
    ours.commit("prompts", prompts(1))
    assert theirs.keys("prompts") == ids(prompts(1))

    ours.commit("prompts", prompts(2))
    assert theirs.keys("prompts") == ids(prompts(1, 2))

    ours.compact("prompts")
    assert theirs.keys("prompts") == ids(prompts(1, 2))


def pair(number: int) -> Pair:
    fixed = {name: "" for name, field in Pair.model_fields.items() if field.annotation is str}
    return Pair(
        **{**fixed, "pair_id": content_key("pair", number), "duplicate_of": "another"},
        pair_kind="edit",
        critique_id=None,
        instruction=None,
        tries=1,
        rewards_a={"clip": 0.25},
        rewards_b={"clip": 0.5, "vqascore": 0.125},
        margins={},
        margin=0.5,
        agreement=1.0,
        dispersion=None,
        change=0.1,
        hash_distance=3,
        verdict="accepted",
        winner="b",
        split="train",
    )


def older(row: type[Row], without: str, rows: list[Row]) -> bytes:
    """A part as a version of rpo wrote it that did not know one column yet."""
    table = to_table(row, rows)
    return encode(table.drop_columns([without]).replace_schema_metadata({"rpo_format": "1"}))


def test_an_older_part_reads_the_default_of_a_column_that_it_lacks(tmp_path):
    store = open_store(tmp_path, create=True)
    rows = [pair(n) for n in range(3)]
    store.files.write("pairs/part-old.parquet", older(Pair, "duplicate_of", rows[:1]))
    store.commit("pairs", rows[1:])
    wanted = [rows[0].model_copy(update={"duplicate_of": None}), *rows[1:]]

    found = {row.key: row for row in store.fetch("pairs", ids(rows))}
    light = store.columns("pairs", ["pair_id", "duplicate_of"]).to_pylist()

    assert found == {row.key: row for row in wanted}
    assert {row["pair_id"]: row["duplicate_of"] for row in light} == {
        row.key: row.duplicate_of for row in wanted
    }


def test_compaction_brings_older_parts_to_the_columns_of_today(tmp_path):
    """Also their metadata: `datasets` refuses features that do not match the columns."""
    store = open_store(tmp_path, create=True)
    rows = [pair(n) for n in range(2)]
    store.files.write("pairs/a-part-old.parquet", older(Pair, "duplicate_of", rows[:1]))
    store.commit("pairs", rows[1:])

    store.compact("pairs")

    (part,) = store.parts("pairs")
    schema = pq.read_schema(tmp_path / part.name)
    features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
    assert schema.names == list(Pair.model_fields)
    assert features.keys() == Pair.model_fields.keys()


def test_a_column_of_a_later_version_is_passed_over(tmp_path):
    store = open_store(tmp_path, create=True)
    table = to_table(Prompt, prompts(1)).append_column("mood", pa.array(["calm"]))
    store.files.write("prompts/part-new.parquet", encode(table))

    assert list(store.fetch("prompts", ids(prompts(1)))) == prompts(1)


def test_a_part_of_a_later_format_is_refused(tmp_path):
    store = open_store(tmp_path, create=True)
    table = to_table(Prompt, prompts(1)).replace_schema_metadata({"rpo_format": str(PART_VERSION + 1)})
    store.files.write("prompts/part-new.parquet", encode(table))

    with pytest.raises(RpoError, match=r"part-new\.parquet: written by a newer rpo"):
        store.keys("prompts")


def test_fetch_gives_whole_rows_of_some_keys(tmp_path):
    store = open_store(tmp_path, create=True)
    rows = {row.key: row for row in (picture(n) for n in range(350))}
    for start in (0, 150):
        store.commit("images", list(rows.values())[start : start + 200], group="g")
    chosen = set(random.Random(0).sample(sorted(rows), 130))

    found = list(store.fetch("images", chosen | {"a key that is not there"}))

    assert len(found) == len(chosen)
    assert all(row == rows[row.key] for row in found)


def test_row_groups_are_bounded_and_read_one_at_a_time(tmp_path, monkeypatch):
    store = open_store(tmp_path, create=True)
    rows = [picture(n, 2000) for n in range(350)]
    monkeypatch.setattr("rpo_cli.schema.BYTES_PER_GROUP", 100 * to_table(Image, rows).nbytes // 350 + 99)
    store.commit("images", rows)
    (part,) = store.parts("images")
    metadata = pq.read_metadata(tmp_path / part.name)
    assert [metadata.row_group(i).num_rows for i in range(4)] == [100, 100, 100, 50]

    read = []
    original = pq.ParquetFile.read_row_group

    def spy(self, index, *args, **kwargs):
        read.append(index)
        return original(self, index, *args, **kwargs)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", spy)
    first_and_last = sorted(ids(rows))[0], sorted(ids(rows))[-1]
    stream = store.fetch("images", first_and_last)

    assert next(stream).key == first_and_last[0]
    assert read == [0], "the second group is not read before it is asked for"
    assert next(stream).key == first_and_last[1]
    assert read == [0, 3], "groups without a wanted row are not read at all"


def test_a_row_group_is_of_as_many_rows_as_stay_below_its_bytes():
    """Light rows: ten thousand; pictures: a few; of a picture that is larger alone: itself."""
    light = to_table(Prompt, prompts(*range(50)))
    heavy = to_table(Image, [picture(n, 3_000_000) for n in range(2)])
    too_heavy = to_table(Image, [picture(1, BYTES_PER_GROUP + 1)])

    assert rows_per_group(light) == ROWS_PER_GROUP == 10_000
    assert rows_per_group(heavy) == BYTES_PER_GROUP // (heavy.nbytes // 2) == 5
    assert rows_per_group(too_heavy) == 1
    assert rows_per_group(light.slice(0, 0)) >= 1


def test_parts_lie_in_the_order_of_their_prompts(tmp_path):
    """Their names begin with the least prompt; rejects have none, and names of before are read beside."""
    store = open_store(tmp_path, create=True)
    for n in range(30):
        store.commit("images", [picture(n)], group="g")
    old = store.parts("images")[7].name
    (tmp_path / old).rename(tmp_path / "images/g/part-0123456789abcdef0123.parquet")
    store.commit("rejects", [reject(1)])
    found = [row.prompt_id for row in store.fetch("images", store.keys("images")) if isinstance(row, Image)]

    renamed = next(n for n, part in enumerate(store.parts("images")) if "0123456789abcdef" in part.name)
    moved = found.pop(renamed)
    assert found == sorted(found)
    assert sorted([*found, moved]) == sorted(content_key(n) for n in range(30))
    assert store.parts("rejects")[0].name.count("-") == 1


def test_the_rows_of_a_compacted_part_lie_in_the_order_of_their_prompts(tmp_path):
    store = open_store(tmp_path, create=True)
    for n in range(30):
        store.commit("images", [picture(n)], group="g")
    store.compact("images")
    store.commit("images", [picture(30)], group="g")

    joined, single = sorted(store.parts("images"), key=lambda part: -part.bytes)
    first = store.columns("images", ["prompt_id"], among=store.part_keys("images", joined))["prompt_id"]
    assert first.to_pylist() == sorted(content_key(n) for n in range(30))
    assert joined.name.split("-")[1] == first[0].as_py()[:8]
    assert len(store.keys("images")) == 31
    assert len(list(store.part_rows("images", single))) == 1


def test_columns_can_be_asked_of_one_group(tmp_path):
    store = open_store(tmp_path, create=True)
    store.commit("prompts", prompts(1, 2), group="old")
    store.commit("prompts", prompts(2, 3), group="new")

    found = store.columns("prompts", ["prompt", "prompt_id"], group="new")

    assert found.column_names == ["prompt", "prompt_id"]
    assert sorted(found["prompt"].to_pylist()) == ["a picture of 2", "a picture of 3"]


def test_rows_of_some_keys_come_in_batches_of_about_one_size(tmp_path):
    store = open_store(tmp_path, create=True)
    for start in (0, 5, 10, 15):
        store.commit("prompts", prompts(*range(start, start + 6)))  # one row of each is the next one's too
    rows = {row.key: row for row in prompts(*range(21))}
    chosen = store.keys("prompts") - Keys.of(ids(prompts(3, 7)))

    found = list(store.batches("prompts", ["prompt", "prompt_id"], among=chosen, rows=4))

    assert [len(batch) for batch in found[:-1]] == [len(batch) for batch in found[:-1] if len(batch) >= 4]
    assert max(map(len, found)) < 8
    assert {row["prompt_id"]: row["prompt"] for batch in found for row in batch.to_pylist()} == {
        key: row.prompt for key, row in rows.items() if key not in ids(prompts(3, 7))
    }
    assert sum(map(len, found)) == 19
    assert store.columns("prompts", ["prompt_id"], among=chosen)["prompt_id"].to_pylist() == list(chosen)


def test_a_command_that_only_looks_lists_a_table_once(tmp_path, monkeypatch):
    """What it then says is of one time; afterwards rows of other processes are seen again."""
    ours, theirs = open_store(tmp_path, create=True), open_store(tmp_path, create=True)
    ours.commit("prompts", prompts(1))

    with ours.listing():
        assert ours.keys("prompts") == ids(prompts(1))
        theirs.commit("prompts", prompts(2))
        assert ours.keys("prompts") == ids(prompts(1))
    assert ours.keys("prompts") == ids(prompts(1, 2))


def test_what_a_store_writes_itself_it_sees_at_once(tmp_path):
    store = open_store(tmp_path, create=True)
    with store.listing():
        store.commit("prompts", prompts(1), group="g")
        assert store.keys("prompts") == ids(prompts(1))
        store.commit("prompts", prompts(2), group="g")
        assert store.keys("prompts") == ids(prompts(1, 2))
        store.compact("prompts")
        assert len(store.parts("prompts")) == 1
        store.prune("prompts", set())
        assert store.keys("prompts") == set()


def test_an_empty_table_has_its_columns(tmp_path):
    store = open_store(tmp_path, create=True)

    assert store.columns("images", ["image_id", "seed"]).schema.types == [pa.string(), pa.int64()]
    assert store.keys("images") == set()
    assert list(store.fetch("images", {"x"})) == []
    assert store.counts("images") == {}


def test_a_commit_is_split_where_a_part_would_be_too_large(tmp_path, monkeypatch):
    monkeypatch.setattr("rpo_cli.store.BYTES_PER_PART", 100)
    store = open_store(tmp_path, create=True)
    rows = [picture(n, size) for n, size in enumerate([40, 40, 40, 300, 40])]

    store.commit("images", rows)
    sizes = [
        sum(len(row["bytes"]) for row in pq.read_table(tmp_path / part.name)["image"].to_pylist())
        for part in store.parts("images")
    ]

    assert max(size for size in sizes if size != 300) <= 100
    assert 300 in sizes, "a picture larger than a part has one to itself"
    assert store.keys("images") == ids(rows)


def test_a_part_stays_below_256_megabytes_with_its_text():
    assert 240e6 <= BYTES_PER_PART <= 256e6 - 5e6


def test_size_and_counts_tell_groups_apart(tmp_path):
    store = open_store(tmp_path, create=True)
    store.commit("prompts", prompts(1, 2, 3))
    store.commit("prompts", prompts(7))
    store.compact("prompts")
    store.commit("prompts", prompts(4), group="d0000000")  # sorts between compact- and part-
    store.commit("prompts", prompts(5), group="a0000000")
    store.commit("prompts", prompts(6))

    assert store.counts("prompts") == {"": 5, "a0000000": 1, "d0000000": 1}
    assert store.size("prompts") == sum(len(data) for data in files(tmp_path).values())


def test_rejects_are_told_by_stage(tmp_path):
    store = open_store(tmp_path, create=True)
    store.commit("rejects", [reject(1), reject(2), reject(1, stage="edit")])
    store.commit("rejects", [reject(2, "black_image")])

    assert store.rejected("critique") == {content_key("critique", 1), content_key("critique", 2)}
    assert store.rejected("edit") == {content_key("edit", 1)}
    assert store.rejected("score clip") == set()


# compaction and pruning


def many(store, group: str = "g") -> list[Row]:
    """Twenty rows in ten parts, one row of them twice."""
    for n in range(0, 20, 2):
        store.commit("prompts", prompts(n, n + 1, 19), group=group)
    return prompts(*range(20))


def test_compaction_keeps_every_row_and_leaves_one_file(tmp_path):
    store = open_store(tmp_path, create=True)
    rows = many(store)
    many(store, group="h")

    assert store.compact("prompts") == 20

    assert [part.group for part in store.parts("prompts")] == ["g", "h"]
    assert len(files(tmp_path)) == 2
    met = list(open_store(tmp_path, create=True).fetch("prompts", ids(rows)))
    assert sorted(met, key=lambda row: row.key) == sorted(rows, key=lambda row: row.key)
    assert store.compact("prompts") == 0, "a part alone is left as it is"


def test_a_kill_between_the_compacted_write_and_the_deletes_changes_nothing_a_reader_sees(tmp_path):
    store = open_store(tmp_path, create=True)
    rows = many(store)
    before = files(tmp_path)
    store.compact("prompts")
    compacted = files(tmp_path)

    for name in list(before)[:6]:  # the kill came after four deletes
        (tmp_path / name).write_bytes(before[name])
    reader = open_store(tmp_path, create=True)
    met = [key for table in reader.scan("prompts") for key in table["prompt_id"].to_pylist()]

    assert sorted(met) == sorted(ids(rows))
    assert [part.name for part in reader.parts("prompts")] == list(compacted)
    reader.compact("prompts")
    assert files(tmp_path) == compacted, "the next compaction ends the work"


def test_a_compacted_table_can_grow_and_be_compacted_again(tmp_path):
    store = open_store(tmp_path, create=True)
    rows = many(store)
    store.compact("prompts")
    first = files(tmp_path)
    store.commit("prompts", prompts(50, 51), group="g")

    store.compact("prompts")
    second = files(tmp_path)
    assert (len(first), len(second)) == (1, 1)
    assert store.keys("prompts") == ids(rows) | ids(prompts(50, 51))

    for name, data in first.items():  # killed before the first compacted part was deleted
        (tmp_path / name).write_bytes(data)
    assert len(list(store.fetch("prompts", store.keys("prompts")))) == 22


def test_few_small_parts_may_stay_and_large_ones_always_do(tmp_path, monkeypatch):
    """What has its size is not written again, whatever comes beside it."""
    store = open_store(tmp_path, create=True)
    for n in range(7):
        store.commit("images", [picture(n)], group="g")

    assert store.compact("images", least=8) == 0
    store.commit("images", [picture(7)], group="g")
    assert store.compact("images", least=8) == 8
    (joined,) = store.parts("images")

    monkeypatch.setattr("rpo_cli.store.BYTES_PER_PART", 2 * joined.bytes)
    for n in range(8, 16):
        store.commit("images", [picture(n, 1)], group="g")
    assert store.compact("images", least=8) == 8
    assert joined in store.parts("images")
    assert store.keys("images") == {picture(n).key for n in range(16)}


def test_compaction_makes_row_groups_of_their_size_of_what_it_reads_a_row_group_at_a_time(
    tmp_path, monkeypatch
):
    store = open_store(tmp_path, create=True)
    rows = [picture(n, 2000) for n in range(60)]
    one = to_table(Image, rows).nbytes // 60
    monkeypatch.setattr("rpo_cli.schema.BYTES_PER_GROUP", 25 * one + one // 2)
    for start in range(0, 60, 6):
        store.commit("images", rows[start : start + 6], group="g")

    read, most = pq.ParquetFile.read_row_group, []

    def spy(self, *args, **kwargs):
        found = read(self, *args, **kwargs)
        most.append(len(found))
        return found

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", spy)
    store.compact("images")

    (part,) = store.parts("images")
    metadata = pq.read_metadata(tmp_path / part.name)
    sizes = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
    assert sizes == [25, 25, 10]
    assert most == [6] * 10
    assert {row.key: row for row in store.part_rows("images", part)} == {row.key: row for row in rows}


def test_compaction_does_not_join_beyond_the_size_of_a_part(tmp_path, monkeypatch):
    store = open_store(tmp_path, create=True)
    for n in range(6):
        store.commit("images", [picture(n, 5_000)])
    monkeypatch.setattr("rpo_cli.store.BYTES_PER_PART", 2 * store.parts("images")[0].bytes + 500)

    store.compact("images")

    assert len(store.parts("images")) == 3
    assert store.keys("images") == {picture(n).key for n in range(6)}


def test_compaction_sweeps_what_killed_writers_have_left(tmp_path):
    store = open_store(tmp_path, create=True)
    rows = many(store)
    (tmp_path / "prompts" / "g" / f"{TEMPORARY}99-part-x.parquet").write_bytes(b"half")

    store.compact("prompts")

    assert len(files(tmp_path)) == 1
    assert store.keys("prompts") == ids(rows)


def test_pruning_drops_whole_groups_only(tmp_path):
    store = open_store(tmp_path, create=True)
    many(store, group="old")
    store.commit("prompts", prompts(1, 2), group="new")

    store.prune("prompts", {"new"})

    assert store.counts("prompts") == {"new": 2}
    assert store.keys("prompts") == ids(prompts(1, 2))


def test_pruned_rows_do_not_come_back_from_a_killed_compaction(tmp_path):
    store = open_store(tmp_path, create=True)
    many(store, group="old")
    before = files(tmp_path)
    store.compact("prompts")
    for name, data in before.items():
        (tmp_path / name).write_bytes(data)

    store.prune("prompts", set())

    assert files(tmp_path) == {}


# object stores and the manifest


def test_an_object_store_holds_tables_and_the_manifest():
    store = open_store("memory://bucket/run", create=True)
    with pytest.raises(UsageError, match="no run here"):
        open_store("memory://bucket/run")
    store.commit("images", [picture(1), picture(2)], group="g")
    store.commit("images", [picture(2), picture(3)], group="g")
    store.write_manifest({"seed": 1})

    again = open_store("memory://bucket/run")
    wanted = {picture(n).key for n in (1, 2, 3)}
    assert again.read_manifest() == {"seed": 1}
    assert again.keys("images") == wanted
    assert {row.key: row for row in again.fetch("images", wanted)}[picture(3).key] == picture(3)
    assert again.compact("images") == 2
    assert len(again.parts("images")) == 1
    assert again.keys("images") == wanted
    with again.lock("generate"):
        pass
    with pytest.raises(UsageError, match="local run directory"):
        again.path("dataset")


def test_a_url_of_an_unknown_kind_is_told_with_the_nearest(tmp_path):
    with pytest.raises(UsageError, match="did you mean 'memory'"):
        open_store("memori://bucket")


def test_a_url_whose_package_is_not_installed_is_told(monkeypatch):
    def missing(url):
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr("fsspec.core.url_to_fs", missing)

    with pytest.raises(MissingDependency) as caught:
        open_store("s3://bucket/run")
    assert "s3fs" in caught.value.hint


def test_a_missing_run_is_told_with_the_nearest_one(tmp_path):
    open_store(tmp_path / "my-first-run", create=True).write_manifest({})

    with pytest.raises(UsageError, match=r"my-frist-run: no run here; did you mean 'my-first-run'\?"):
        open_store(tmp_path / "my-frist-run")
    assert not (tmp_path / "my-frist-run").exists()


def test_a_file_is_no_run_directory(tmp_path):
    (tmp_path / "run").write_text("")

    with pytest.raises(UsageError, match="is a file, not a run directory"):
        open_store(tmp_path / "run", create=True)


def test_the_manifest_is_read_back_and_written_only_when_it_says_something_new(tmp_path):
    store = open_store(tmp_path, create=True)
    assert store.read_manifest() == {}
    store.write_manifest({"b": [1, 2], "a": "ü"})
    before = (tmp_path / "run.json").stat().st_ino

    store.write_manifest({"a": "ü", "b": [1, 2]})
    assert (tmp_path / "run.json").stat().st_ino == before
    store.write_manifest({"a": "o"})
    assert (tmp_path / "run.json").stat().st_ino != before
    assert store.read_manifest() == {"a": "o"}


@pytest.mark.parametrize("text", ['{"settings": ', "[1]", "3"])
def test_a_damaged_manifest_is_named(tmp_path, text):
    (tmp_path / "run.json").write_text(text)

    with pytest.raises(RpoError, match=r"run\.json: not the JSON that rpo writes"):
        open_store(tmp_path).read_manifest()


# damage


def damaged(data: bytes, how: str) -> bytes:
    if how == "cut short":
        return data[: len(data) // 2]
    if how == "empty":
        return b""
    if how == "zeros in the pages":
        return data[:4] + bytes(len(data) // 2) + data[4 + len(data) // 2 :]
    return encode(pa.table({"prompt_id": [1, 2], "prompt": [None, None], "source": ["", ""]}))


@pytest.mark.parametrize("how", ["cut short", "empty", "zeros in the pages", "another table"])
def test_a_damaged_part_is_named_and_can_be_made_again(tmp_path, how):
    store = open_store(tmp_path, create=True)
    store.commit("prompts", prompts(1, 2))
    store.commit("prompts", prompts(3))
    path = tmp_path / next(p.name for p in store.parts("prompts") if "1" in p.name or "0" in p.name)
    whole = path.read_bytes()
    keys = ids(prompts(1, 2, 3))
    path.write_bytes(damaged(whole, how))

    for read in (
        lambda fresh: list(fresh.fetch("prompts", keys | fresh.keys("prompts"))),
        lambda fresh: list(fresh.scan("prompts")) and list(fresh.fetch("prompts", fresh.keys("prompts"))),
    ):
        with pytest.raises(RpoError, match=path.name) as caught:
            read(open_store(tmp_path, create=True))
        assert caught.value.exit_code == 1
        assert "delete this file" in caught.value.hint

    path.unlink()
    store = open_store(tmp_path, create=True)
    store.commit("prompts", [row for row in prompts(1, 2, 3) if row.key not in store.keys("prompts")])
    assert store.keys("prompts") == keys


@pytest.mark.parametrize("among", [False, True])
def test_who_reads_while_another_process_joins_the_parts_meets_every_row_once(tmp_path, among):
    """Parts that are gone before they are opened; one that is open is read to its end."""
    ours, theirs = open_store(tmp_path, create=True), open_store(tmp_path, create=True)
    for n in range(0, 20, 2):
        ours.commit("images", [picture(n), picture(n + 1), picture(19)], group="g")
    wanted = {picture(n).key for n in (range(3, 20) if among else range(20))}
    reads = {
        "fetch": (row.key for row in ours.fetch("images", wanted)),
        "scan": (
            key
            for data in ours.scan("images", ["image_id"], among=Keys.of(wanted))
            for key in data["image_id"].to_pylist()
        ),
    }
    met = {name: [next(keys)] for name, keys in reads.items()}

    theirs.compact("images")
    for name, keys in reads.items():
        met[name] += keys
    met["new"] = [row.key for row in open_store(tmp_path, create=True).fetch("images", wanted)]

    assert {name: sorted(keys) for name, keys in met.items()} == dict.fromkeys(met, sorted(wanted))


def test_rows_take_the_place_of_a_part(tmp_path):
    """Under their own keys, which make the same file, or under others."""
    store = open_store(tmp_path, create=True)
    store.commit("prompts", prompts(1, 2), group="g")
    (part,) = store.parts("prompts")
    changed = [row.model_copy(update={"source": "changed"}) for row in prompts(1, 2)]

    store.replace("prompts", part, changed)
    assert [p.name for p in store.parts("prompts")] == [part.name]
    assert set(store.columns("prompts", ["source"])["source"].to_pylist()) == {"changed"}

    store.replace("prompts", part, prompts(3))
    assert store.keys("prompts") == ids(prompts(3))
    assert len(store.parts("prompts")) == 1


def test_a_part_that_another_process_tidied_away_is_not_called_damaged(tmp_path, monkeypatch):
    ours = open_store(tmp_path, create=True)
    many(ours)
    listing = ours.parts("prompts")
    open_store(tmp_path, create=True).compact("prompts")
    monkeypatch.setattr(type(ours), "parts", lambda self, table: listing)

    with pytest.raises(RpoError, match="gone while it was read") as caught:
        open_store(tmp_path, create=True).keys("prompts")
    assert caught.value.hint == "run the command again"
