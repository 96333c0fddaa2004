"""run.json: no command takes back what another wrote, wrong entries are named, a newer rpo is refused."""

import json
import threading

import pytest

from rpo_cli import open_line
from rpo_cli.errors import RpoError, UsageError
from rpo_cli.files import Files
from rpo_cli.manifest import MANIFEST, read, undo, update
from rpo_cli.records import FORMAT_VERSION
from rpo_cli.store import open_store


@pytest.fixture
def files(tmp_path):
    return Files.at(tmp_path / "run")


def written(tmp_path, value):
    (tmp_path / MANIFEST).write_text(value if isinstance(value, str) else json.dumps(value))
    return Files.at(tmp_path)


def test_changes_of_many_at_once_are_all_kept(files):
    def add(name):
        for number in range(20):
            key = f"{name}.{number}"
            update(files, lambda now: {**now, "options": {**now.get("options", {}), key: number}})  # noqa: B023

    threads = [threading.Thread(target=add, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(read(files)["options"]) == 80


OPTIONS = ({"generate.steps": 3}, {"critique.max_words": 5}, {"edit.steps": 4})


def test_options_of_commands_beside_each_other_all_stay_in_force(tmp_path):
    """Each command has opened the run before the first of them records anything."""
    lines = [open_line(tmp_path / "run", options) for options in OPTIONS]
    for line in lines:
        line.record()
    lines[0].record(groups={"generate": "12345678"})
    together = {name: value for options in OPTIONS for name, value in options.items()}
    manifest = open_store(tmp_path / "run").read_manifest()
    assert manifest["options"] == together
    assert {
        name: manifest["settings"][name.partition(".")[0]][name.partition(".")[2]] for name in together
    } == together
    assert manifest["groups"] == {"generate": "12345678"}


def test_the_option_of_the_later_command_counts(tmp_path):
    one, two = (open_line(tmp_path / "run", {"generate.steps": steps}) for steps in (3, 4))
    one.record()
    two.record()
    assert open_store(tmp_path / "run").read_manifest()["options"] == {"generate.steps": 4}
    one.record(groups={})  # it still works with its own, and says so
    manifest = open_store(tmp_path / "run").read_manifest()
    assert manifest["options"]["generate.steps"] == manifest["settings"]["generate"]["steps"] == 3


@pytest.mark.parametrize("beside", [True, False])
def test_a_refused_command_takes_back_its_own_options_and_nothing_of_the_others(tmp_path, beside):
    refused = open_line(tmp_path / "run", {"generate.steps": 3})
    other = open_line(tmp_path / "run", {"edit.steps": 4})

    def fail():
        with refused.recorded():
            if beside:
                other.record(groups={"edit": "12345678"})
            raise UsageError("no", "no")

    with pytest.raises(UsageError):
        fail()
    if beside:
        manifest = open_store(tmp_path / "run").read_manifest()
        assert manifest["options"] == {"edit.steps": 4}
        assert manifest["groups"] == {"edit": "12345678"}
        assert open_line(tmp_path / "run").settings.edit.steps == 4
    else:
        assert not (tmp_path / "run" / MANIFEST).exists()


def test_undoing_leaves_what_others_have_changed_or_added_since():
    before, mine = {"preset": "a", "rpo": "1"}, {"preset": "b", "rpo": "2"}
    now = {"preset": "c", "rpo": "2", "groups": {"edit": "x"}}
    kept = {"preset": "c", "rpo": "1", "groups": {"edit": "x"}}
    assert undo(before, mine, now) == kept
    assert undo(before, mine, mine) == before


def test_undoing_gives_each_option_its_earlier_value_unless_somebody_has_changed_it_since():
    before = {"options": {"a": 1, "b": 1}, "rpo": "1"}
    mine = {"options": {"a": 2, "b": 2, "c": 2}, "rpo": "2"}
    now = {"options": {"a": 2, "b": 3, "c": 2, "d": 4}, "rpo": "2", "groups": {}}
    assert undo(before, mine, now) == {"options": {"a": 1, "b": 3, "d": 4}, "rpo": "1", "groups": {}}
    assert undo({}, mine, mine) == {}


WRONG = [
    ({"options": []}, r"options: expected setting → value, not \[\]"),
    ({"settings": {"generate": 3}}, r"settings.generate: expected section → setting → value, not 3"),
    ({"models": {"a": 1}}, "models.a: expected model → commit or hash, not 1"),
    ({"groups": {"generate": None}}, "groups.generate: expected stage → the folder of its rows, not null"),
    ({"imports": {"a": "b"}}, 'imports.a: expected source → what is known of it, not "b"'),
    ({"prompts": {"group": "a", "source": "b", "count": "8"}}, r'prompts.count: expected .*, not "8"'),
    ({"prompts": {"group": "a"}}, "prompts.source: expected group, source and count"),
    ({"preset": 7}, "preset: expected a preset's name, not 7"),
    ({"format": "new"}, 'format: expected a version number from 1, not "new"'),
    ({"format": 0}, "format: expected a version number from 1, not 0"),
    ({"format": True}, "format: expected a version number from 1, not true"),
    ({"options": [], "groups": 3}, "options: .*; groups: "),
]


@pytest.mark.parametrize(("manifest", "told"), WRONG)
def test_an_entry_of_another_type_is_named_with_what_was_expected(tmp_path, manifest, told):
    with pytest.raises(UsageError, match=told) as caught:
        read(written(tmp_path, manifest))
    assert MANIFEST in caught.value.message
    assert "\n" not in caught.value.message
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "null", '{"a": NaN', "\x00"])
def test_a_file_that_is_no_json_object_is_named(tmp_path, text):
    with pytest.raises(RpoError, match=r"run\.json: not the JSON that rpo writes"):
        read(written(tmp_path, text))


def test_entries_of_other_names_are_kept(tmp_path):
    line = open_line(tmp_path)
    written(tmp_path, {"mine": {"a": [1]}})
    line.record()
    assert read(Files.at(tmp_path))["mine"] == {"a": [1]}


def test_a_run_of_a_newer_rpo_is_refused(tmp_path):
    open_line(tmp_path).record()
    newer = {
        **read(Files.at(tmp_path)),
        "format": FORMAT_VERSION + 1,
        "rpo": "9.9",
        "options": "of a new kind",
    }
    written(tmp_path, newer)
    with pytest.raises(UsageError, match=rf"format {FORMAT_VERSION + 1}, written by a newer rpo \(9\.9\)"):
        open_line(tmp_path)
    assert json.loads((tmp_path / MANIFEST).read_text()) == newer
