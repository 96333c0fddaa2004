"""Replies as critics are reported to write them, end to end: a real server, `rpo critique`, the rows."""

import json
import shutil
from pathlib import Path

import pytest

from rpo_cli import open_line
from rpo_cli.line.work.critique import critique_work, is_embedded, reread_notes, style
from rpo_cli.shapes.preset import MODELS
from tests.line.test_served import Rig
from tests.reply_server import CRITIQUES, FIELDS, ONES, REFUSALS, TURNS, UNCHANGED, running

PROMPTS = Path(__file__).parents[2] / "prompts"


@pytest.fixture
def rig(tmp_path, capsys, monkeypatch):
    return Rig(tmp_path, capsys, monkeypatch)


def draw(rig, names):
    """One picture of each prompt `case NAME`."""
    (rig.folder / "prompts.txt").write_text("".join(f"case {name}\n" for name in names))
    options = ["--prompts", rig.folder / "prompts.txt", "--generator", rig.folder / "model"]
    code, _, err = rig.rpo("generate", rig.run, *options, "--images-per-prompt", 1)
    assert code == 0, err


def rows(rig):
    return {row["prompt"].removeprefix("case "): row for row in rig.rows()}


def asked(server):
    return [body for body in server.asked if "image_url" in json.dumps(body)]


def test_every_kind_of_reply_becomes_what_it_means_and_what_was_done_is_told(rig):
    draw(rig, [*TURNS, *FIELDS])
    with running() as server:
        code, out, err = rig.rpo(*rig.critique(server.url, "--json"))
        assert code == 0, err
        many = len(asked(server))
        assert rig.rpo("critique", rig.run)[0] == 0  # all is done, rejects too
        assert len(asked(server)) == many
    found = rows(rig)
    assert found.keys() == {*CRITIQUES, *UNCHANGED, *ONES, "reasoningone"}
    for name in (*CRITIQUES, "reasoningone"):
        row = found[name]
        assert row["instructions"] == ["make the circle red"], name
        assert [flaw["detail"] for flaw in row["flaws"]] == ["the circle is blue"], name
        assert not any(
            mark in row["text"] for mark in ("think>", "answer>", "\r", "hmm", "Hmm", "Let me")
        ), name
    for name in UNCHANGED:
        assert (found[name]["instructions"], found[name]["flaws"], found[name]["cleaned"]) == (
            [],
            [],
            ["no change"],
        )
    for name, (_, reply, instructions, flaws) in ONES.items():
        assert (found[name]["instructions"], len(found[name]["flaws"])) == (instructions, flaws), name
        assert found[name]["reply"] == reply
    rejects = {row["detail"].partition(":")[0] for row in rig.rows("rejects")}
    assert len(rig.rows("rejects")) == len(REFUSALS) + 2
    assert rejects == {"a refusal", "empty", "not JSON", "cut off by max_tokens"}
    notes = " ".join(json.loads(out)["notes"])
    for told in (
        "5 replies held thinking, which was cut away",
        "6 instructions asked for no change, which is sent to no editor",
        "1 instruction asked for another picture, which no editor makes",
        "1 reply held several instructions in one, which were separated",
        "replies had no content; the field for reasoning stands in for it",
    ):
        assert told in notes
        assert told in err


def test_the_raw_reply_of_both_turns_is_kept_beside_the_clean_one(rig):
    draw(rig, ["think", "plain"])
    with running() as server:
        assert rig.rpo(*rig.critique(server.url))[0] == 0
    found = rows(rig)
    assert (found["think"]["raw_text"], found["think"]["reply"]) == TURNS["think"]
    assert found["think"]["cleaned"] == ["thinking", "thinking"]
    assert (found["plain"]["raw_text"], found["plain"]["cleaned"]) == (None, None)
    sent = [body["messages"][1]["content"] for body in asked(server) if len(body["messages"]) > 1]
    assert sent == [found["plain"]["text"]] * 2  # thinking is not sent back


def test_a_critic_of_the_hub_is_asked_whether_anything_is_to_change(rig):
    draw(rig, ["plain"])
    with running() as server:
        assert rig.rpo(*rig.critique(server.url))[0] == 0
    (body,) = [body for body in asked(server) if "response_format" in body]
    held = body["response_format"]["json_schema"]["schema"]
    assert list(held["properties"]) == ["flaws", "nothing_to_change", "instructions"]
    assert held["required"] == ["flaws", "nothing_to_change", "instructions"]
    assert '\\"nothing_to_change\\"' in json.dumps(body["messages"][-1])


# --- chat template --------------------------------------------------------------------------------------


def test_what_the_chat_template_takes_is_sent_with_every_request(rig):
    draw(rig, ["plain"])
    more = ["--set", "critique.chat_template_kwargs={enable_thinking = false}"]
    with running() as server:
        code, _, err = rig.rpo(*rig.critique(server.url, *more))
        assert code == 0, err
    assert {json.dumps(body.get("chat_template_kwargs")) for body in server.asked} == {
        '{"enable_thinking": false}'
    }
    with running() as server:  # another way to be asked makes other rows
        code, out, _ = rig.rpo(*rig.critique(server.url, "--unset", "critique.chat_template_kwargs"))
    assert (code, "1 of 1 rows (0 were there, 1 made)" in out) == (0, True)
    assert not any("chat_template_kwargs" in body for body in server.asked)


@pytest.mark.parametrize("given", [
    "critique.chat_template_kwargs.enable_thinking=false",
    'critique.chat_template_kwargs={"enable_thinking": false}',
    "critique.chat_template_kwargs={enable_thinking = false}",
])  # fmt: skip
def test_it_can_be_written_in_three_ways_and_is_kept_by_the_run(rig, given):
    draw(rig, ["plain", "zh"])
    with running() as server:
        code, _, err = rig.rpo(*rig.critique(server.url, "--set", given, "--probe", "1"))
        assert code == 0, err
        code, _, err = rig.rpo(*rig.critique(server.url))
        assert code == 0, err
    assert all(body["chat_template_kwargs"] == {"enable_thinking": False} for body in server.asked)


@pytest.mark.parametrize("given", ["{tokenize = false}", "{chat_template = 'x'}", "{'a b' = 1}", "7"])
def test_what_is_not_the_templates_is_refused(rig, given):
    draw(rig, ["plain"])
    with running() as server:
        code, _, err = rig.rpo(*rig.critique(server.url, "--set", f"critique.chat_template_kwargs={given}"))
        assert (code, server.asked) == (2, [])
    assert "critique.chat_template_kwargs" in err


# --- limits ---------------------------------------------------------------------------------------------

TWELVE = [f"plain number {n}" for n in range(12)]  # all answered as `plain`


@pytest.mark.parametrize("lanes", [1, 4])
def test_a_command_ends_at_its_requests_and_the_next_goes_on(rig, lanes):
    draw(rig, TWELVE)
    more = ["--set", f"critique.in_flight={lanes}", "--set", "critique.max_requests=12"]
    made = 0
    for _ in range(10):
        with running() as server:
            code, _, err = rig.rpo(*rig.critique(server.url, *more))
        assert "Traceback" not in err
        assert len(server.asked) <= 12
        assert len(rig.rows()) > made
        made = len(rig.rows())
        if code == 0:
            break
        assert code == 1
        assert f"critique: {12 - made} of 12 rows are left: critique.max_requests = 12: used up" in err
    assert made == 12
    assert len({row["critique_id"] for row in rig.rows()}) == 12
    assert rig.rows("rejects") == []


def test_a_command_ends_at_its_tokens_where_the_server_counts_them(rig):
    draw(rig, TWELVE)
    more = ["--set", "critique.in_flight=1", "--set", "critique.max_tokens_total=1000"]
    with running(tokens=100) as server:
        code, _, err = rig.rpo(*rig.critique(server.url, *more))
    assert code == 1
    assert len(server.asked) == 10  # two of them the self-test
    assert len(rig.rows()) == 4
    assert "critique: 8 of 12 rows are left: critique.max_tokens_total = 1,000 (1,000 used): used up" in err
    assert "the same command goes on" in err
    with running() as server:
        code, _, err = rig.rpo(*rig.critique(server.url, *more))
    assert (code, len(rig.rows())) == (0, 12)
    assert "the server counts no tokens: critique.max_tokens_total holds nothing back" in err


def test_limits_are_in_no_key_and_no_run_keeps_them(rig):
    draw(rig, TWELVE[:2])
    with running() as server:
        assert rig.rpo(*rig.critique(server.url, "--set", "critique.max_requests=99"))[0] == 0
        code, out, _ = rig.rpo(*rig.critique(server.url))
    assert (code, "2 were there, 0 made" in out) == (0, True)
    assert "max_requests" not in json.loads((rig.run / "run.json").read_text())["options"]


def test_a_limit_of_requests_where_no_server_is_asked_is_refused(rig):
    draw(rig, ["plain"])
    code, _, err = rig.rpo(
        "critique", rig.run, "--preset", "shapes", "--set", "critique.max_requests=3", "--mix"
    )
    assert code == 2
    assert (
        "critique.max_requests: is of what a server is asked; critique.backend = transformers asks none"
        in err
    )


def test_who_asks_too_much_waits_as_long_as_the_server_says_and_loses_no_try(rig):
    draw(rig, ["plain"])
    with running() as server:
        server.faults = [(429, {"Retry-After": "0.02"})] * 9
        code, _, err = rig.rpo(*rig.critique(server.url, "--set", "critique.tries=1"))
    assert code == 0, err
    assert len(rig.rows()) == 1


def test_a_server_that_asks_for_an_hour_ends_the_command_and_the_row_is_missing(rig):
    draw(rig, ["plain"])
    with running() as server:
        assert rig.rpo(*rig.critique(server.url, "--dry-run"))[0] == 0
        server.faults = [(429, {"Retry-After": "3600"})] * 50
        code, _, err = rig.rpo(*rig.critique(server.url))
    assert code == 1
    assert "it asks us to wait 3,600 s" in err
    assert "Traceback" not in err
    assert (rig.rows(), rig.rows("rejects")) == ([], [])


# --- keys -----------------------------------------------------------------------------------------------


def line_of(folder, **settings):
    base = {"critique.critic": str(MODELS / "critic"), "generate.generator": str(MODELS / "text-to-image")}
    return open_line(folder / "run", base | settings)


def test_the_embedded_critic_is_asked_as_it_was_trained_and_its_keys_name_no_way_of_reading(tmp_path):
    line = line_of(tmp_path)
    assert (is_embedded(line), style(line)) == (True, "rpo")
    said = json.loads(critique_work(line).settings)
    assert said.keys() == {
        *("attempts", "backend", "dtype", "max_instructions", "max_tokens", "max_words", "model"),
        *("single_turn", "templates"),
    }
    own = line_of(tmp_path, **{"critique.template": "general"})
    assert style(own) == "general"


def test_any_other_critic_is_asked_in_general_and_its_keys_name_the_way_of_reading(tmp_path):
    folder = tmp_path / "critic"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"x")
    line = line_of(tmp_path, **{"critique.critic": str(folder)})
    assert (is_embedded(line), style(line)) == (False, "general")
    work = critique_work(line)
    assert json.loads(work.settings)["replies"] == 2
    assert reread_notes(line, work.settings) == []


def test_a_run_with_words_of_its_own_for_the_style_of_before_keeps_to_them(tmp_path):
    """An init of any age copies all texts: only those that were changed count."""
    folder = tmp_path / "critic"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"x")
    given = {"critique.critic": str(folder)}
    own = tmp_path / "run" / "templates" / "critique"
    shutil.copytree(PROMPTS / "critique" / "rpo", own / "rpo")
    assert style(line_of(tmp_path, **given)) == "general"
    (own / "rpo" / "critique.txt").write_text("What is wrong with it? $prompt")
    assert style(line_of(tmp_path, **given)) == "rpo"
    shutil.copytree(PROMPTS / "critique" / "general", own / "general")
    assert style(line_of(tmp_path, **given)) == "rpo"
    (own / "general" / "critique.txt").write_text("Well? $prompt")
    assert style(line_of(tmp_path, **given)) == "general"


def test_critiques_of_an_earlier_rpo_are_counted_before_their_pictures_are_asked_about_again(rig):
    draw(rig, ["plain", "zh"])
    with running() as server:
        assert rig.rpo(*rig.critique(server.url, "--probe", 1))[0] == 0
        store = open_line(rig.run).store
        (row,) = store.fetch("critiques", store.keys("critiques"))
        said = {key: value for key, value in json.loads(row.settings).items() if key != "replies"}
        old = row.model_copy(update={"critique_id": "0" * 32, "settings": json.dumps(said)})
        store.commit("critiques", [old])
        code, _, err = rig.rpo(*rig.critique(server.url))
        assert code == 0, err
        assert "an earlier rpo read 1 of this critic's replies" in err
        code, _, err = rig.rpo(*rig.critique(server.url))
    assert (code, "earlier rpo" in err) == (0, False)  # nothing is left to ask
    assert len(rig.rows()) == 3
