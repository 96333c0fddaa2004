"""Runs of the format before: read as they are, upgraded without a lost row, refused where one would be."""

import json
import shutil

import pytest

from rpo_cli import open_line
from rpo_cli.errors import UsageError
from rpo_cli.line.stage import run_stage
from rpo_cli.line.upgrade import upgrade
from rpo_cli.line.work.generate import generate_work
from rpo_cli.records import FORMAT_VERSION, Image, ImageData, Pair, content_key
from rpo_cli.stages import opponents
from rpo_cli.store import open_store

SETTINGS, STRENGTHS = json.dumps({"model": "x"}), (0.3, 0.5, 0.7)
WINNERS = [opponents.Winner(f"w{n}", f"{n:064x}", f"p{n}", f"prompt {n}") for n in range(3)]


def of_before(path):
    """Make run.json what the version before wrote: without a format."""
    manifest = json.loads((path / "run.json").read_text())
    del manifest["format"]
    (path / "run.json").write_text(json.dumps(manifest))


def losers(path, strengths=STRENGTHS):
    """A run of sapo whose losers have the keys of format 1, in which no strength stands."""
    line = open_line(path, {"generate.strengths": strengths, "pairs.strategy": "sapo", "run.seed": 5})
    line.record()
    asked = {"count": 2, "seed": 5, "settings": SETTINGS}
    tasks = list(opponents.wanted(WINNERS, strengths=strengths, **asked))
    old = [task.key for task in opponents.wanted(WINNERS, strengths=(), **asked)]
    rows = [row(key, task.payload) for key, task in zip(old, tasks, strict=True)]
    for chunk in (rows[:2], rows[2:]):
        line.store.commit("images", chunk, group="losers")
    line.store.commit("images", [row("w0", tasks[0].payload, against=None)], group="given")
    of_before(path)
    return line.store, {task.key: first for task, first in zip(tasks, rows, strict=True)}


def row(key, want, **fields):
    made = {
        "image_id": key, "prompt_id": want.prompt_id, "prompt": want.prompt, "index": want.index,
        "seed": want.seed, "sha256": content_key(key), "width": 8, "height": 8,
        "image": ImageData(bytes=key.encode()), "batch_size": 1, "settings": SETTINGS, "environment": "{}",
        "against": want.against,
    }  # fmt: skip
    return Image(**{**made, **fields})


def pair(loser):
    return Pair(
        pair_id=content_key("pair", loser.image_id), prompt_id=loser.prompt_id, prompt=loser.prompt,
        pair_kind="self", a_id="w", b_id=loser.image_id, a_sha256=loser.against, b_sha256=loser.sha256,
        critique_id=None, instruction=None, tries=1, rewards_a={}, rewards_b={}, margins={}, margin=0.0,
        agreement=1.0, dispersion=None, change=0.1, hash_distance=1, verdict="accepted", winner="a",
        reason="loser_lost", split="train",
    )  # fmt: skip


def pictures(store):
    return {found.image_id: found for found in store.fetch("images", store.keys("images"))}


def test_a_run_of_before_whose_keys_have_not_changed_is_taken_as_it_is(stand):
    line = stand.line()
    run_stage(line, "generate")
    before, stand.built[:] = line.store.keys("images"), []
    of_before(stand.run)
    report = run_stage(stand.line(), "generate")
    assert (report.made, report.present, stand.built) == (0, len(before), [])
    assert open_store(stand.run).read_manifest()["format"] == FORMAT_VERSION


def test_an_upgrade_keeps_every_row_and_says_so(stand):
    run_stage(stand.line(), "generate")
    of_before(stand.run)
    (plan,) = upgrade(stand.run, dry_run=True)
    assert "format" not in open_store(stand.run).read_manifest()
    (done,) = upgrade(stand.run)
    assert plan == done
    assert (done.before, done.after, done.rekeyed, done.again) == (1, FORMAT_VERSION, 0, {})
    assert done.rows == {"images": 24, "prompts": 12}
    assert run_stage(stand.line(), "generate").made == 0
    (again,) = upgrade(stand.run)
    assert again.before == again.after == FORMAT_VERSION


def test_losers_of_before_are_rekeyed_and_nothing_of_them_is_lost(tmp_path):
    store, wanted = losers(tmp_path)
    expected = {key: found.model_copy(update={"image_id": key}) for key, found in wanted.items()}
    given = {"w0": pictures(store)["w0"]}
    (plan,) = upgrade(tmp_path, dry_run=True)
    assert (plan.rekeyed, store.keys("images") & expected.keys()) == (6, set())
    (done,) = upgrade(tmp_path)
    assert (done.rekeyed, done.again) == (6, {})
    assert pictures(open_store(tmp_path)) == expected | given


@pytest.mark.parametrize("kill_at", range(5))
def test_an_upgrade_that_is_killed_between_any_two_writes_ends_the_same(tmp_path, monkeypatch, kill_at):
    losers(tmp_path / "whole")
    upgrade(tmp_path / "whole")
    store, _ = losers(tmp_path / "killed")

    class Killed(BaseException):
        pass

    left = [kill_at]

    def dying(method):
        def call(*arguments):
            if left[0] == 0:
                raise Killed
            left[0] -= 1
            return method(*arguments)

        return call

    with monkeypatch.context() as patch:
        files = type(store.files)
        patch.setattr(files, "write", dying(files.write))
        patch.setattr(files, "delete", dying(files.delete))
        with pytest.raises(Killed):
            upgrade(tmp_path / "killed")
    assert pictures(open_store(tmp_path / "killed")).keys() >= {"w0"}
    upgrade(tmp_path / "killed")
    assert pictures(open_store(tmp_path / "killed")) == pictures(open_store(tmp_path / "whole"))


@pytest.mark.parametrize("compact", [False, True])
def test_pairs_of_rekeyed_losers_name_them_by_their_new_key(tmp_path, compact):
    store, wanted = losers(tmp_path)
    store.commit("pairs", [pair(old) for old in wanted.values()][:3], group="a")
    store.commit("pairs", [pair(old) for old in wanted.values()][3:], group="a")
    if compact:
        store.compact("pairs")
    upgrade(tmp_path)
    found = list(open_store(tmp_path).fetch("pairs", open_store(tmp_path).keys("pairs")))
    assert {row.b_id for row in found} == set(wanted)
    assert len(found) == 6


def test_losers_that_an_earlier_round_gave_keep_the_key_that_they_came_with(tmp_path):
    store, _ = losers(tmp_path)
    manifest = json.loads((tmp_path / "run.json").read_text())
    given = {"source": "winners", "format": "rpo", "license": "unknown"}
    (tmp_path / "run.json").write_text(json.dumps({**manifest, "imports": {"losers": given}}))
    before = pictures(store)
    (done,) = upgrade(tmp_path)
    assert (done.rekeyed, pictures(open_store(tmp_path))) == (0, before)


def test_a_run_whose_rows_would_be_made_again_is_refused_until_it_is_upgraded(tmp_path):
    store, _ = losers(tmp_path)
    with pytest.raises(UsageError, match="6 pictures with noise put on") as caught:
        open_line(tmp_path).record()
    assert f"rpo upgrade {tmp_path}" in caught.value.hint
    assert "format" not in store.read_manifest()
    upgrade(tmp_path)
    open_line(tmp_path).record()


def test_rows_of_code_of_others_are_named_and_stay_where_they_are(stand):
    line = stand.line(**{"generate.backend": "diffusers"})
    run_stage(line, "generate")
    run_stage(line, "score")
    of_before(stand.run)
    manifest = json.loads((stand.run / "run.json").read_text())
    manifest["settings"]["generate"]["backend"] = "theirs"
    (stand.run / "run.json").write_text(json.dumps(manifest))
    with pytest.raises(UsageError, match="24 images of the generator 'theirs'"):
        open_line(stand.run).record()
    (done,) = upgrade(stand.run)
    assert done.again == {"images of the generator 'theirs'": 24}
    assert len(open_store(stand.run).keys("images")) == 24


def test_rewards_critiques_and_edits_of_others_are_found_by_their_own_settings(stand):
    line = stand.line()
    run_stage(line, "generate")
    run_stage(line, "score")
    scores = list(line.store.fetch("rewards", line.store.keys("rewards")))
    theirs = {"reward": "theirs", "model": "x"}
    for number, settings in enumerate(
        ({**theirs}, {"judged": json.dumps(theirs)}, {**theirs, "model": "function:x"})
    ):
        new = {"score_id": f"t{number}", "settings": json.dumps(settings)}
        line.store.commit("rewards", [scores[0].model_copy(update=new)])
    of_before(stand.run)
    (done,) = upgrade(stand.run)
    assert done.again == {"rewards of score by 'theirs'": 2}


def test_runs_within_a_run_are_upgraded_with_it(tmp_path):
    open_line(tmp_path).record()
    of_before(tmp_path)
    for nested in ("train/x/rounds/1", "eval/default/base"):
        losers(tmp_path / nested)
    found = upgrade(tmp_path)
    assert [each.rekeyed for each in found] == [0, 6, 6]
    assert all(each.before == 1 for each in found)
    assert all(open_store(each.path).read_manifest()["format"] == FORMAT_VERSION for each in found)


def test_what_a_run_of_before_wants_is_what_it_has(stand):
    """The keys of our own rows are those of format 1: no row of it is older because of the upgrade."""
    run_stage(stand.line(), "generate")
    of_before(stand.run)
    shutil.copytree(stand.run, stand.run.with_name("copy"))
    upgrade(stand.run)
    wants = [generate_work(open_line(path)).keys for path in (stand.run, stand.run.with_name("copy"))]
    assert wants[0] == wants[1] == open_store(stand.run).keys("images")


def of_format_2(run):
    """A run whose options are all of the run, as they were before each belonged to somebody."""
    run.mkdir()
    options = {
        "generate.generator": "/models/one",
        "generate.steps": 9,
        "run.device": "cpu",
        "train.method": "ppod",
        "train.name": "second",
        "train.steps": 3,
    }
    settings = {"run": {"seed": 7}, "train": {"method": "ppod"}, "generate": {"generator": "/models/one"}}
    manifest = {"format": 2, "preset": "none", "options": options, "settings": settings}
    (run / "run.json").write_text(json.dumps(manifest))
    for name, identity in (
        ("first", {"method": "dpo", "beta": 50.0, "steps": 4, "rank": 16, "seed": 3, "dataset": "d"}),
        ("second", {"method": "ppod", "beta": 9.0, "steps": 3, "seed": 7}),
    ):
        (run / "train" / name).mkdir(parents=True)
        (run / "train" / name / "settings.json").write_text(json.dumps({"identity": identity}))


def test_options_of_format_2_go_to_whom_they_belong(tmp_path):
    """A training that is there goes on with the settings that its own folder holds."""
    of_format_2(tmp_path / "run")
    read = open_line(tmp_path / "run", {"train.name": "first"})

    upgrade(tmp_path / "run")

    manifest = open_store(tmp_path / "run").read_manifest()
    assert manifest["options"] == {"generate.generator": "/models/one", "generate.steps": 9}
    first, second = (manifest["trainings"][name]["options"] for name in ("first", "second"))
    assert first == {"train.beta": 50.0, "train.seed": 3, "train.steps": 4}
    assert second == {"train.method": "ppod", "train.beta": 9.0, "train.steps": 3}
    assert read.settings == open_line(tmp_path / "run", {"train.name": "first"}).settings
    assert (read.settings.train.beta, read.settings.run.device) == (50.0, "auto")
    other = open_line(tmp_path / "run", {"train.name": "third"}).settings.train
    assert (other.method, other.steps) == ("dpo", 200)


def test_a_run_of_format_2_is_written_to_as_it_is(tmp_path):
    of_format_2(tmp_path / "run")
    open_line(tmp_path / "run", {"train.name": "second"}).record()
    manifest = open_store(tmp_path / "run").read_manifest()
    assert (manifest["format"], len(manifest["options"])) == (FORMAT_VERSION, 2)
    assert manifest["trainings"]["first"]["options"]["train.beta"] == 50.0
