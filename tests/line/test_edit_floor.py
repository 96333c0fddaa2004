"""The edit floor in a run: its rows take part in nothing, and edits that changed no more are no pairs."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rpo_cli import build_pairs, open_line, plan, run_stage
from rpo_cli.line.dataset.inputs import dataset_is_current
from rpo_cli.line.report.build import _pictures, _stages
from rpo_cli.line.run import forecast
from rpo_cli.line.show import story
from rpo_cli.line.status import status
from rpo_cli.line.work import base
from rpo_cli.line.work.edit import edit_work, floor_keys, measured
from rpo_cli.protocols import Refused
from tests.observed import Notes

OPTIONS = {
    "prompts.limit": 12,
    "generate.steps": 6,
    "edit.batch_size": 4,
    "pairs.min_margin": 0.0,
    "pairs.min_agreement": 0.0,
    "run.threads": 1,
}


class Editor:
    """Every pixel of an edit is `asked` levels away from the picture's; of nothing, `nothing` levels."""

    calls = 0

    def __init__(self, asked=10, nothing=5, refuses=None):
        self.asked, self.nothing, self.refuses = asked, nothing, refuses

    def setup(self): ...

    def edit(self, requests, *, guidance, image_guidance):
        return [self._one(request) for request in requests]

    def _one(self, request):
        if not request.instruction and self.refuses:
            if isinstance(self.refuses, Exception):
                raise self.refuses
            return self.refuses
        levels = self.asked if request.instruction else self.nothing
        pixels = np.asarray(request.image.convert("RGB")).astype(int)
        return Image.fromarray(np.where(pixels < 128, pixels + levels, pixels - levels).astype(np.uint8))


@pytest.fixture(scope="module")
def critiqued(tmp_path_factory):
    """24 pictures of the embedded generator with their critiques."""
    path = tmp_path_factory.mktemp("floor") / "run"
    line = open_line(path, OPTIONS, preset="shapes")
    run_stage(line, "generate")
    run_stage(line, "critique")
    return path


@pytest.fixture
def opened(critiqued, tmp_path, monkeypatch):
    """A call that opens a copy of that run with a stand-in as its editor."""
    path = Path(shutil.copytree(critiqued, tmp_path / "run"))
    backend = base.build_backend
    stand = {}

    def either(kind, name, ref, **options):
        return stand["editor"] if kind == "editors" else backend(kind, name, ref, **options)

    monkeypatch.setattr(base, "build_backend", either)

    def make(editor=None, observer=None, **options):
        stand["editor"] = editor or Editor()
        return open_line(path, {**OPTIONS, **options}, preset="shapes", observer=observer)

    return make


def through(line):
    run_stage(line, "edit")
    run_stage(line, "score")
    return build_pairs(line)


def edited(line):
    """Reason → pairs of an original and its edit."""
    rows = line.store.columns("pairs", ["pair_kind", "reason", "change", "floor"]).to_pylist()
    return [row for row in rows if row["pair_kind"] == "edit"]


def test_sixteen_pictures_are_edited_under_an_empty_instruction_beside_the_edits(opened):
    line = opened()
    asked = len(edit_work(line).keys)
    report = run_stage(line, "edit")

    rows = list(line.store.fetch("edits", floor_keys(line)))
    assert (report.wanted, report.made) == (asked + 16, asked + 16)
    assert len({row.image_sha256 for row in rows}) == 16
    assert {(row.purpose, row.instruction, row.critique_id) for row in rows} == {("floor", "", "")}
    assert run_stage(opened(), "edit").made == 0


def test_they_are_scored_paired_counted_and_reported_nowhere(opened):
    line = opened()
    found = through(line)
    floor = floor_keys(line)
    edits = edit_work(line).keys

    subjects = line.store.columns("rewards", ["subject_id"])["subject_id"].to_pylist()
    pairs = line.store.columns("pairs", ["a_id", "b_id"]).to_pylist()
    card = line.store.files.read("dataset/README.md").decode()
    stages = {row.stage: row.rows for row in _stages(line)}

    assert floor <= line.store.keys("edits")
    assert not floor & set(subjects)
    assert not floor & {key for row in pairs for key in row.values()}
    assert f"| edits | {len(edits):,} |" in card
    assert stages["edit"] == len(edits)
    assert _pictures(line)[0] == 24 + len(edits)
    assert found.candidates == len(edits) + len([row for row in pairs if row["b_id"] not in edits])


def test_an_edit_that_changed_no_more_is_no_pair_and_one_that_changed_more_is(opened):
    """5 of 255 levels when asked for nothing; 10, 5 and 4 when asked for something."""
    for asked, dropped in ((10, False), (5, True), (4, True)):
        line = opened(Editor(asked=asked), **{"run.seed": 0, "edit.steps": asked})
        report = through(line)
        rows = edited(line)
        assert rows
        assert {row["reason"] == "below_floor" for row in rows} == {dropped}
        assert {round(row["floor"], 6) for row in rows} == {round(5 / 255, 6)}
        assert report.floors == pytest.approx((5 / 255,))


def test_each_pair_of_guidances_has_its_own_floor(opened):
    line = opened(Guided(), **{"edit.guidance": (1.0, 2.0), "edit.image_guidance": (1.5,)})
    run_stage(line, "edit")
    found = measured(line.store, floor_keys(line))
    assert found.pictures == 32
    assert found.by == {(1.0, 1.5): pytest.approx(3 / 255), (2.0, 1.5): pytest.approx(6 / 255)}


class Guided(Editor):
    """Asked for nothing, three levels a unit of guidance."""

    def edit(self, requests, *, guidance, image_guidance):
        self.nothing = round(3 * guidance)
        return super().edit(requests, guidance=guidance, image_guidance=image_guidance)


@pytest.mark.parametrize(
    "refusal", [Refused("the server refuses: HTTP 400: prompt is empty"), ValueError("prompt is empty")]
)
def test_an_editor_that_refuses_nothing_keeps_the_given_number_and_says_so(opened, refusal):
    said = Notes()
    line = opened(Editor(asked=4, refuses=refusal), said)
    stage = run_stage(line, "edit")
    run_stage(line, "score")
    report = build_pairs(line)

    assert stage.rejects == {"no_floor": 16}
    assert report.floors == ()
    assert {row["floor"] for row in edited(line)} == {None}
    assert not [row for row in edited(line) if row["reason"] in ("below_floor", "unchanged")]
    assert (
        "edit floor: the editor refuses an empty instruction (16 of 16); pairs.min_change = 0.002 alone "
        "says which edits changed nothing"
    ) in said.said
    rejects = line.store.columns("rejects", ["reason", "detail"]).to_pylist()
    assert all("prompt is empty" in row["detail"] for row in rejects if row["reason"] == "no_floor")
    assert run_stage(opened(Editor()), "edit").made == 0  # done until it is asked for again
    assert run_stage(opened(Editor()), "edit", retry_rejects=True).made == 16


def test_a_run_whose_floor_is_not_there_yet_says_so_and_is_built_as_ever(opened):
    said = Notes()
    line = opened(Editor(asked=4), said, **{"edit.floor_pictures": 0})
    first = through(line)
    build = line.store.files.read("dataset/README.md")
    later = opened(Editor(asked=4), said, **{"edit.floor_pictures": 16})

    assert not any("edit floor" in text for text in said.said)
    assert build_pairs(later).fresh is False
    assert line.store.files.read("dataset/README.md") == build
    assert f"edit floor: not measured, rpo edit {later.store.url} does it; pairs.min_change = 0.002" in str(
        said.said
    )
    run_stage(later, "edit")
    assert dataset_is_current(later) is False
    assert build_pairs(later).dropped["below_floor"] == len(edited(line))
    assert first.dropped.get("below_floor") is None


def test_a_floor_that_grows_bit_by_bit_is_the_one_made_at_once(opened, tmp_path):
    line = opened()
    whole = run_stage(line, "edit").made
    at_once = measured(line.store, floor_keys(line))
    shutil.rmtree(Path(line.store.url) / "edits")
    for limit in (1, 7, None):
        run_stage(opened(), "edit", limit=limit)
    again = opened()

    assert len(again.store.keys("edits")) == whole
    assert measured(again.store, floor_keys(again)) == at_once


def test_a_plan_of_the_stage_and_of_the_line_holds_them(opened):
    line = opened()
    asked = len(edit_work(line).keys)
    (stage,) = plan(line, ["edit"])
    ahead = {item.stage: item for item in forecast(line, ["critique", "edit", "build-pairs"])}

    assert (stage.wanted, stage.to_make) == (asked + 16, asked + 16)
    assert (ahead["edit"].wanted, ahead["edit"].to_make) == (asked + 16, asked + 16)
    assert ahead["score clip"].wanted == 24 + asked
    (none,) = plan(opened(**{"edit.floor_pictures": 0}), ["edit"])
    assert none.wanted == asked


def test_no_picture_is_edited_for_nothing_where_nothing_is_to_be_edited(opened):
    line = opened(**{"pairs.edits": "counter", "edit.counter_edits": 0})
    assert not edit_work(line).keys
    assert floor_keys(line) == set()


def test_the_story_of_a_picture_tells_of_an_edit_without_instruction(opened):
    line = opened()
    run_stage(line, "edit")
    key = sorted(floor_keys(line))[0]
    (told,) = [chapter.told for chapter in story(line.store.url, key).chapters if chapter.id == key]
    assert (told["purpose"], told["instruction"]) == ("floor", "")


def test_the_card_tells_the_floor(opened):
    line = opened()
    through(line)
    card = line.store.files.read("dataset/README.md").decode()
    assert "Asked for nothing, the editor changes a picture by 0.0196 " in card
    assert "floor" not in json.dumps(card.split("## Pairs")[0])


def test_the_story_of_a_picture_a_prompt_and_a_pair_has_no_edit_of_nothing(opened):
    line = opened()
    through(line)
    floor = floor_keys(line)
    (row, *_) = line.store.fetch("edits", sorted(floor)[:1])
    told = {}
    for key in (row.image_id, row.prompt_id):
        told[key] = {chapter.id for chapter in story(line.store.url, key).chapters}
        assert key in told[key]
        assert not told[key] & floor


def test_status_tells_how_many_edits_are_of_nothing(opened):
    line = opened()
    through(line)
    found = {stage.stage: stage for stage in status(line.store.url).stages}

    assert found["edit"].floor == len(floor_keys(line)) == 16
    assert found["edit"].present == 16 + len(edit_work(line).keys)
    assert {stage.floor for name, stage in found.items() if name != "edit"} == {0}
