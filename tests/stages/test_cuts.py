"""Texts longer than a text encoder reads: on the rows, and in one line at the end of a stage."""

import pytest
from PIL import Image as Picture

from rpo_cli.protocols import Refused, Task
from rpo_cli.records import Edit, Image
from rpo_cli.stages import edit, generate, opponents
from rpo_cli.stages.generate import Cut, cut_note, uncut, with_cuts


class Reader:
    """A backend that reads so many words, by two tokenizers."""

    def __init__(self, words=2, other=4):
        self.limits = {"tokenizer": words, "tokenizer_2": other}

    def tokens_over(self, texts):
        return [
            {name: n - limit for name, limit in self.limits.items() if (n := len(text.split())) > limit}
            for text in texts
        ]

    def generate(self, prompts, seeds):
        return [Picture.new("RGB", (8, 8), (9, 9, 9)) for _ in prompts]

    def renoise(self, pictures, prompts, seeds, *, strength):
        return self.generate(prompts, seeds)

    def edit(self, requests, *, guidance, image_guidance):
        return [request.image for request in requests]


def image_row(prompt, reader=None):
    task = Task("key", "p", generate.ImageTask("p", prompt, 0, 1))
    outputs = generate.step([task], reader or Reader(), 4)
    (row,) = generate.Finish("{}", "{}")([task], outputs, 4)
    assert isinstance(row, Image)
    return row


@pytest.mark.parametrize(
    ("prompt", "over"),
    [
        ("a ball", None),
        ("a red ball", {"tokenizer": 1}),
        ("a red ball on the floor", {"tokenizer": 4, "tokenizer_2": 2}),
    ],
)
def test_a_picture_says_how_many_tokens_of_its_prompt_no_encoder_read(prompt, over):
    assert image_row(prompt).truncated == over


def test_a_backend_that_does_not_know_says_nothing():
    reader = Reader()
    plain = type("Plain", (), {"generate": reader.generate})()
    assert image_row("a red ball on the floor", plain).truncated is None


def test_a_renoised_picture_says_it_too():
    picture = Picture.new("RGB", (8, 8))
    task = Task("key", "p", generate.ImageTask("p", "a red ball", 0, 1, "sha", 0.5, picture))
    (found,) = opponents.step([task], Reader(), 2)
    assert uncut(found)[1] == {"tokenizer": 1}


def edit_row(*chain):
    source = edit.Critiqued("c", "i", "sha", "p", "a ball", chain)
    picture = Picture.new("RGB", (8, 8), (9, 9, 9))
    task = Task("key", "c", edit.EditTask(source, chain, 0, None, None, 5, picture))
    outputs = edit.step([task], Reader(), 4)
    (row,) = edit.Finish("{}", "{}")([task], outputs, 4)
    assert isinstance(row, Edit)
    return row


def test_of_a_chain_of_edits_the_longest_of_its_links_counts():
    assert edit_row("make it red").truncated == {"tokenizer": 1}
    assert edit_row("redder", "make it a bit wider", "make it red").truncated == {
        "tokenizer": 3,
        "tokenizer_2": 1,
    }
    assert edit_row("redder").truncated is None


def test_each_row_gets_its_own_count_and_refusals_keep_what_they_are():
    outputs = with_cuts(Reader(), [["a b c"], ["a"], ["a b c d"]], [None, "x", Refused("no")])
    assert outputs == [Cut(None, {"tokenizer": 1}), "x", Cut(Refused("no"), {"tokenizer": 2})]
    task = Task("key", "p", generate.ImageTask("p", "a b c", 0, 1))
    (reject,) = generate.Finish("{}", "{}")([task], outputs[:1], 4)
    assert reject.reason == "black_image"


def test_one_line_counts_texts_by_tokenizer_and_names_three():
    texts = {
        f"{word} {'x' * 50}": {"tokenizer": n} for n, word in enumerate(("one", "two", "six", "ten"), 1)
    }
    texts["ten " + "x" * 50] |= {"tokenizer_2": 7.0}
    note = cut_note("generate", "prompts", texts, of=6)
    x = "x" * 36
    assert note == (
        "generate: 4 of 6 prompts are longer than a text encoder reads (tokenizer: 4, by up to 4 tokens; "
        "tokenizer_2: 1, by up to 7 tokens); critic and rewards read them whole: "
        f"'one {x}', 'six {x}', 'ten {x}', ..."
    )


def test_there_is_no_line_where_all_is_read():
    assert cut_note("edit", "instructions", {}, of=1) is None
