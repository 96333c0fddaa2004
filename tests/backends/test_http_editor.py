"""The HTTP editor against a real server that does things right, and wrong."""

import base64
import io

import numpy as np
import pytest
from PIL import Image, ImageOps

from rpo_cli.backends import servers
from rpo_cli.backends.http_editor import HttpEditor
from rpo_cli.engines.loop import run_here
from rpo_cli.errors import RpoError, UsageError
from rpo_cli.protocols import EditRequest, Refused, Stage, Task, Weights
from rpo_cli.records import Edit, Reject
from rpo_cli.stages import edit
from tests.editor_server import running


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(servers, "FIRST_PAUSE", 0.01)
    with running() as made:
        yield made


def picture(seed=1, size=(20, 12)):
    noise = np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    return Image.fromarray(noise)


def opened(server, **options):
    made = HttpEditor(Weights("an-editor"), urls=(server.url,), **options)
    made.setup()
    return made


def one(editor, seed=1, instruction="make it red"):
    (found,) = editor.edit([EditRequest(picture(), instruction, seed)], guidance=None, image_guidance=None)
    return found


def test_a_picture_goes_out_whole_and_its_edit_comes_back(server):
    found = one(opened(server), seed=7, instruction="turn it round, «très» vite\r\n--boundary")

    assert np.array_equal(np.asarray(found), np.asarray(ImageOps.invert(picture())))
    (asked,) = server.asked
    assert {name: value.decode() for name, value in asked.items()} == {
        "model": "an-editor",
        "prompt": "turn it round, «très» vite\r\n--boundary",
        "n": "1",
        "response_format": "b64_json",
        "seed": "7",
    }


def test_an_edit_of_another_size_is_brought_to_its_pictures(server):
    server.scale = 3
    assert one(opened(server)).size == picture().size


def test_a_field_that_the_server_does_not_know_is_left_out_from_then_on(server):
    server.unknown = ("seed", "response_format")
    editor = opened(server)
    assert one(editor).size == one(editor).size == picture().size
    assert [sorted(asked)[-1] for asked in server.asked][-2:] == ["prompt", "prompt"]
    assert len(server.asked) == 4  # two were refused, and only once


@pytest.mark.parametrize("faults", [["drop"], [(503, {})] * 3, [(429, {"error": {"message": "busy"}})]])
def test_what_may_pass_is_asked_again(server, faults):
    server.faults = list(faults)
    assert isinstance(one(opened(server)), Image.Image)
    assert len(server.asked) == len(faults) + 1


def test_tries_are_bounded_and_the_row_stays_missing(server):
    server.faults = [(500, {})] * 9
    with pytest.raises(RpoError, match="asked 3 times without an answer"):
        one(opened(server, tries=3))
    assert len(server.asked) == 3


def png(size):
    out = io.BytesIO()
    Image.new("L", size).save(out, "PNG")
    return {"data": [{"b64_json": base64.b64encode(out.getvalue()).decode()}]}


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ((400, {"error": {"message": "content policy"}}), "refuses: HTTP 400: content policy"),
        ((200, {"data": []}), "holds no data[0]"),
        ((200, {"data": [{"url": "http://127.0.0.1/secret"}]}), "address, which is not followed"),
        ((200, {"data": [{"b64_json": "not base64!"}]}), "is no picture"),
        ((200, {"data": [{"b64_json": "AAAA"}]}), "is no picture"),
        ((200, b"<html>"), "no JSON"),
        ((200, png((12000, 12000))), "is no picture"),  # a bomb: more pixels than pictures.py decodes
    ],
)
def test_an_answer_of_no_use_refuses_its_row_alone(server, fault, told):
    server.faults = [fault]
    editor = opened(server)
    found = one(editor)
    assert isinstance(found, Refused)
    assert told in found.detail
    assert isinstance(one(editor), Image.Image)


def test_an_endless_answer_is_cut(server, monkeypatch):
    from rpo_cli.backends import http_editor

    monkeypatch.setattr(http_editor, "MOST_BYTES", 10_000)
    server.faults = [(200, b" " * 20_000)]
    assert "longer than 10,000 bytes" in one(opened(server)).detail


def test_the_key_comes_from_the_environment_and_shows_nowhere(server, monkeypatch):
    server.key = "sk-secret"
    monkeypatch.setenv("EDITOR_KEY", "sk-secret")
    editor = opened(server, key_variable="EDITOR_KEY")
    assert isinstance(one(editor), Image.Image)
    assert "sk-secret" not in repr(vars(editor)) + repr(vars(editor._servers))
    with pytest.raises(UsageError, match="refuses our key") as caught:
        one(opened(server))
    assert "edit.key_variable" in caught.value.hint
    monkeypatch.delenv("EDITOR_KEY")
    with pytest.raises(UsageError, match=r"edit\.key_variable: EDITOR_KEY is not set"):
        opened(server, key_variable="EDITOR_KEY")


def test_a_stage_makes_every_row_once_and_keeps_refusals_as_rejects(server):
    """Twelve edits over faults of every kind, four in flight: each key once, refusals with their words."""
    refusal = (400, {"error": {"message": "not this one"}})
    server.faults = ["drop", (500, {}), refusal, (429, {}), (503, {}), refusal]
    tasks = []
    for index in range(12):
        source = edit.Critiqued(f"c{index}", f"i{index}", f"{index:064}", "p", "a cat", ("make it red",))
        want = edit.EditTask(source, ("make it red",), 0, None, None, index, picture(index))
        tasks.append(Task(f"key{index}", f"c{index}", want))
    rows = []
    stage = Stage(
        "edit",
        "edits",
        4,
        lambda: HttpEditor(Weights("an-editor"), urls=(server.url,), in_flight=4),
        edit.step,
        edit.Finish("{}", "{}"),
        edit.bucket,
    )
    run_here(stage, tasks, lambda _, results: rows.extend(results), print)

    made = {row.edit_id: row for row in rows if isinstance(row, Edit)}
    refused = {row.key_of: row for row in rows if isinstance(row, Reject)}
    assert len(rows) == 12
    assert made.keys() | refused.keys() == {task.key for task in tasks}
    assert {(row.reason, row.detail) for row in refused.values()} == {
        ("refused", "the server refuses: HTTP 400: not this one")
    }
    assert len(refused) == 2
    for key, row in made.items():
        expected = ImageOps.invert(picture(int(key.removeprefix("key"))))
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(row.image.bytes))), np.asarray(expected))
        assert (row.guidance, row.image_guidance) == (None, None)


@pytest.mark.parametrize("status", [400, 422, 500])
def test_a_server_that_will_not_edit_for_nothing_refuses_that_row_alone(server, status):
    answer = {"error": {"message": "prompt must not be empty"}}
    server.faults[:] = [(status, answer)] * 3
    found = one(opened(server, tries=3), instruction="")
    assert isinstance(found, Refused)
    assert "prompt must not be empty" in found.detail


@pytest.mark.parametrize("fault", ["drop", (503, {})])
def test_a_server_that_is_away_or_busy_refuses_nothing(server, fault):
    server.faults[:] = [fault] * 2
    with pytest.raises(RpoError, match="without an answer"):
        one(opened(server, tries=2), instruction="")


def test_a_server_that_asks_to_wait_is_waited_for_and_refuses_nothing(server):
    server.faults[:] = [(429, {})] * 3  # more than there are tries: such a wait costs none
    assert not isinstance(one(opened(server, tries=2), instruction=""), Refused)


def test_a_server_that_fails_at_an_instruction_leaves_the_row_missing(server):
    server.faults[:] = [(500, {})] * 2
    with pytest.raises(RpoError, match="without an answer"):
        one(opened(server, tries=2), instruction="make it red")
