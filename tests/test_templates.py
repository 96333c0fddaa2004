"""Finding, filling and disarming prompt templates."""

import hashlib

import pytest

from rpo_cli import templates
from rpo_cli.errors import UsageError
from rpo_cli.templates import Template, Templates


def test_every_shipped_template_fills_and_delimits_the_prompt():
    values = {"prompt": "a cat", "max_instructions": 3, "max_words": 16}
    for name in templates.names():
        text = templates.find(name).fill(**values)
        assert "$" not in text
    assert "<prompt>a cat</prompt>" in templates.find("critique/rpo/critique").fill(**values)
    assert "<prompt>a cat</prompt>" in templates.find("reward/vqascore").fill(prompt="a cat")


def test_prompt_lists_are_no_templates():
    assert all("/" in name for name in templates.names())


def test_a_runs_own_template_wins_and_its_hash_is_of_its_bytes(tmp_path):
    own = tmp_path / "critique" / "rpo" / "critique.txt"
    own.parent.mkdir(parents=True)
    own.write_bytes(b"Judge $prompt!\r\n")
    style = Templates.find(tmp_path, "rpo")
    assert style.critique.fill(prompt="a cat").strip() == "Judge a cat!"
    assert style.hashes["critique"] == hashlib.sha256(b"Judge $prompt!\r\n").hexdigest()
    assert style.hashes["single"] == Templates.find(None, "rpo").hashes["single"]


def test_a_style_of_the_run_is_listed_beside_the_packages(tmp_path):
    for turn in ("critique", "instructions", "single"):
        file = tmp_path / "critique" / "harsh" / f"{turn}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("$prompt")
    assert templates.styles(tmp_path) == ["aspects", "general", "harsh", "rpo", "words"]
    assert Templates.find(tmp_path, "harsh").single.text == "$prompt"


@pytest.mark.parametrize(("asked", "meant"), [("rpp", "'rpo'"), ("Rpo", "'rpo'")])
def test_an_unknown_style_names_the_nearest(asked, meant):
    with pytest.raises(UsageError, match=f"did you mean {meant}"):
        Templates.find(None, asked)


def test_an_unknown_template_is_a_usage_error():
    with pytest.raises(UsageError, match="did you mean 'reward/vqascore'"):
        templates.find("reward/vqascor")


def test_a_place_without_a_value_names_the_nearest_value():
    with pytest.raises(UsageError, match=r"no value for \$promt; did you mean 'prompt'"):
        Template("t", "show $promt", "").fill(prompt="x")


def test_a_lone_dollar_is_a_usage_error():
    with pytest.raises(UsageError, match="template t"):
        Template("t", "costs 5$ or so", "").fill(prompt="x")


def test_a_file_that_is_not_utf8_is_a_usage_error(tmp_path):
    file = tmp_path / "critique" / "rpo" / "critique.txt"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"\xff\xfe$prompt")
    with pytest.raises(UsageError, match="not UTF-8"):
        Templates.find(tmp_path, "rpo")


@pytest.mark.parametrize(
    "token",
    [
        "<image>",
        "<|im_end|>",
        "</prompt>",
        "<end_of_utterance>",
        "[INST]",
        "[/INST]",
        "<<SYS>>",
        "<|image_pad|>",
        "<s>",
    ],
)
def test_control_tokens_in_a_value_are_disarmed_and_stay_readable(token):
    filled = Template("t", "$prompt", "").fill(prompt=f"a {token} b")
    assert token not in filled
    assert token.strip("<>[]|/").split("|")[0] in filled


def test_a_token_within_a_token_is_disarmed_too():
    assert templates.disarm("<|<image>|> <<SYS>> [[INST]]") == "‹|‹image›|› <‹SYS›> [(INST)]"


def test_a_value_is_not_a_template():
    assert Template("t", "$prompt", "").fill(prompt="$max_words {x} %s") == "$max_words {x} %s"


def test_plain_comparisons_and_brackets_stay_as_they_are():
    text = "a < b > c, 3 <4, [a cat], <3"
    assert templates.disarm(text) == text
