"""A run with prompts longer than the embedded models read, 40 tokens: said each time, in no key."""

import json

import pytest

from rpo_cli import open_line, run_stage
from rpo_cli.line.work.generate import generate_work, live_images, take_prompts
from rpo_cli.stages import edit
from tests.observed import Notes

SHORT = "a red circle on a white background"
LONG = " ".join(["a small red circle on a white background"] * 6)  # 48 words, a token each, and 2


@pytest.fixture
def opened(tmp_path):
    (tmp_path / "prompts.txt").write_text(f"{SHORT}\n{LONG}\n")

    def call(notes=None, **options):
        settings = {
            "prompts.file": str(tmp_path / "prompts.txt"),
            "generate.steps": 2,
            "edit.steps": 2,
            "run.threads": 1,
            **options,
        }
        return open_line(tmp_path / "run", settings, preset="shapes", observer=notes)

    return call


NOTE = (
    "generate: 1 of 2 prompts are longer than a text encoder reads (tokenizer: 1, by up to 10 tokens); "
    f"critic and rewards read them whole: '{LONG[:40]}'"
)


def test_a_long_prompt_is_said_each_time_and_stands_on_its_rows(opened):
    first, again = Notes(), Notes()
    run_stage(opened(first), "generate")
    run_stage(opened(again), "generate")

    assert first.said.count(NOTE) == again.said.count(NOTE) == 1
    rows = opened().store.fetch("images", generate_work(opened()).keys)
    assert {(row.prompt, json.dumps(row.truncated)) for row in rows} == {
        (SHORT, "null"),
        (LONG, '{"tokenizer": 10.0}'),
    }


def test_prompts_that_are_no_longer_wanted_are_not_counted(opened):
    run_stage(opened(), "generate")
    said = Notes()
    run_stage(opened(said, **{"prompts.limit": 1}), "generate")
    line = opened(**{"prompts.limit": 1})
    take_prompts(line)
    left = {task.payload.prompt for task in generate_work(line).tasks()}
    assert len(left) == 1
    assert any("1 of 1 prompts" in text for text in said.said) == (left == {LONG})


def test_a_long_instruction_is_said_at_edit(opened, monkeypatch):
    line = opened()
    run_stage(line, "generate")
    run_stage(line, "critique")
    given = next(iter(live_images(line)))
    asked = edit.Critiqued(
        "c", given["image_id"], given["sha256"], given["prompt_id"], given["prompt"], (LONG, "make it red")
    )
    monkeypatch.setattr("rpo_cli.line.work.edit.critiqued", lambda *rows: lambda: [asked])
    said = Notes()
    run_stage(opened(said, **{"edit.mode": "each"}), "edit")

    assert [text for text in said.said if text.startswith("edit: ")] == [
        "edit: 1 of 2 instructions are longer than a text encoder reads (tokenizer: 1, by up to 10 "
        f"tokens); critic and rewards read them whole: '{LONG[:40]}'"
    ]


def test_a_run_whose_texts_are_all_read_says_nothing(opened, tmp_path):
    (tmp_path / "prompts.txt").write_text(f"{SHORT}\n")
    said = Notes()
    run_stage(opened(said), "generate")
    assert not [text for text in said.said if "longer than" in text]
