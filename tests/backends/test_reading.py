"""How much of a text each generator and editor reads, counted on tiny tokenizers by hand.

CLIP here reads 16 tokens, two of them its own, a letter each; T5 makes two tokens of a word of one letter,
and one of its own; the words of Qwen are one token each.
"""

from types import SimpleNamespace

import pytest

from rpo_cli import registry
from rpo_cli.backends.loading import limits, load_pipeline, tokens_over
from rpo_cli.protocols import Weights
from rpo_cli.recipes import recipe
from tests.tiny_editors import EDITORS, GENERATORS


def letters(count):
    return " ".join(["x"] * count)


def words(count):
    return " ".join(["red"] * count)


ONE, TWO = {"tokenizer": 1}, {"tokenizer": 1, "tokenizer_2": 1}
# registered name → what 15 letters and 300 are beyond
OF_LETTERS = {
    **dict.fromkeys(
        [
            *("diffusers", "lcm", "lcm-lora", "one-step"),
            *("instruct-pix2pix", "controlnet", "controlnet-img2img"),
        ],
        (ONE, {"tokenizer": 286}),
    ),
    **dict.fromkeys(
        ["sdxl", "turbo", "lightning", "sdxl-instruct-pix2pix", "cosxl-edit"],
        (TWO, {"tokenizer": 286, "tokenizer_2": 286}),
    ),
    # T5 is given 256 tokens: 2 * 300 + 1 are 345 beyond
    "sd3": (TWO, {"tokenizer": 286, "tokenizer_2": 286, "tokenizer_3": 345}),
    # and 16, as many as CLIP: 2 * 15 + 1 are 15 beyond
    "ultra-edit": (
        {**TWO, "tokenizer_3": 15},
        {"tokenizer": 286, "tokenizer_2": 286, "tokenizer_3": 585},
    ),
    # 512
    **dict.fromkeys(["flux", "flux-schnell", "flux-kontext"], (ONE, {"tokenizer": 286, "tokenizer_2": 89})),
    # a letter that is no word is one token
    **dict.fromkeys(["flux2-klein", "flux2-klein-base"], ({}, {})),
}


def opened(tiny, kind, name):
    how = recipe(kind, name)
    made = registry.load(kind, name)(Weights(tiny(kind, name)), **how.options)
    made.setup()
    return made


NAMED = [("generators", name) for name in sorted(GENERATORS)] + [
    ("editors", name) for name in sorted(EDITORS)
]


@pytest.mark.parametrize(("kind", "name"), NAMED)
def test_every_generator_and_editor_tells_what_it_does_not_read(tiny, kind, name):
    backend = opened(tiny, kind, name)
    little, much = OF_LETTERS[name]
    assert backend.tokens_over([letters(3), letters(15), "", letters(300)]) == [{}, little, {}, much]


@pytest.mark.parametrize("name", ["diffusers", "sdxl"])
def test_as_many_as_are_read_are_none_too_many(tiny, name):
    assert opened(tiny, "generators", name).tokens_over([letters(14)]) == [{}]


def test_a_chat_template_counts_as_the_pipeline_counts_it(tiny):
    backend = opened(tiny, "generators", "flux2-klein")
    assert backend.tokens_over([words(512), words(515)]) == [{}, {"tokenizer": 3}]
    before = backend.pipe.tokenizer.chat_template
    backend.pipe.tokenizer.chat_template = before.replace("{{", "make it {{")
    assert backend.tokens_over([words(512)]) == [{"tokenizer": 2}]


def test_a_renoiser_reads_as_its_generator_does(tiny):
    backend = registry.load("renoisers", "diffusers")(Weights(tiny("generators", "diffusers")))
    backend.setup()
    assert backend.tokens_over([letters(15)]) == [ONE]


@pytest.fixture
def pipe(tiny):
    return load_pipeline(Weights(tiny("generators", "flux")))


def test_a_tokenizer_without_a_limit_takes_that_of_its_clip(pipe):
    pipe.tokenizer.model_max_length = int(1e30)
    assert limits(pipe) == {"tokenizer": 16, "tokenizer_2": 512}


def test_a_text_encoder_that_reads_beside_a_processor_is_not_told(pipe):
    beside = SimpleNamespace(components={**pipe.components, "processor": object()})
    assert tokens_over(beside, [letters(900)]) == [{}]


def test_a_limit_that_nobody_names_is_not_told(pipe):
    pipe.tokenizer_2.model_max_length = int(1e30)
    unknown = SimpleNamespace(components={**pipe.components, "tokenizer": None})
    assert limits(unknown) == {}
