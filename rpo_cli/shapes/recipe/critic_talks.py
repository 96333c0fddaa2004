"""The critic's training conversations, by the shipped templates: two turns, one, yes or no."""

from __future__ import annotations

import functools
import random
from collections.abc import Iterator

from rpo_cli import templates
from rpo_cli.shapes.grammar import (
    BACKGROUNDS,
    COLOURS,
    POSITIONS,
    RELATIONS,
    SHAPES,
    SIZES,
    UNKNOWN,
    Scene,
    Thing,
    caption_words,
    sample_any,
)
from rpo_cli.shapes.recipe import critic_words as words
from rpo_cli.shapes.recipe.critic_tokenizer import AROUND, ASSISTANT, END, GLOBAL, IMAGE, USER
from rpo_cli.shapes.recipe.mismatches import FOREIGN_SHARE, foreign, random_caption, wanted_for
from rpo_cli.shapes.towards import flaws

IMAGE_TOKENS = 16
PICTURE = AROUND + GLOBAL + IMAGE * IMAGE_TOKENS + AROUND
LIMITS = {"max_instructions": 3, "max_words": 16}  # the settings' defaults


def filled(name: str, **values: str | int) -> str:
    """A shipped template with its places filled."""
    return _template(name).fill(**values)


@functools.cache
def _template(name: str) -> templates.Template:
    return templates.find(name)


def two_turns(seen: Scene, wanted: Scene | None, prompt: str) -> str:
    """A whole conversation in two turns; `wanted` None is a prompt of another world."""
    first = filled("critique/rpo/critique", prompt=prompt)
    second = filled("critique/rpo/instructions", prompt=prompt, **LIMITS)
    return (
        f"{USER}{PICTURE}{first}{END}{ASSISTANT}{words.critique_text(seen, wanted)}{END}"
        f"{USER}{second}{END}{ASSISTANT}{words.reply_json(seen, wanted)}{END}"
    )


def one_turn(seen: Scene, wanted: Scene | None, prompt: str) -> str:
    """A whole conversation in one turn."""
    asked = filled("critique/rpo/single", prompt=prompt, **LIMITS)
    return f"{USER}{PICTURE}{asked}{END}{ASSISTANT}{words.reply_json(seen, wanted, single=True)}{END}"


def question(seen: Scene, wanted: Scene | None, prompt: str) -> str:
    """The yes/no question and its answer."""
    answer = "no" if wanted is None or flaws(seen, wanted) else "yes"
    return f"{USER}{PICTURE}{filled('reward/vqascore', prompt=prompt)}{END}{ASSISTANT}{answer}{END}"


TALKS = {"two": two_turns, "one": one_turn, "ask": question}


def talk(kind: str, seen: Scene, rng: random.Random) -> str:
    """One conversation about a picture of `seen`; of the questions about half are to be answered yes."""
    if rng.random() < FOREIGN_SHARE:
        return TALKS[kind](seen, None, foreign(rng))
    changes = rng.choice((0, 0, 0, 1, 1, 2)) if kind == "ask" and rng.random() < 0.9 else None
    wanted = wanted_for(seen, rng, changes)
    return TALKS[kind](seen, wanted, random_caption(wanted, rng))


def vocabulary_texts() -> Iterator[str]:
    """Texts that hold every word a conversation may hold: the tokenizer is made from them."""
    rng = random.Random(0)
    yield caption_words()
    yield "Yes No yes no unclear 0 1 2 3 4 5 6 7 8 9 10 12 16 20"
    for _ in range(1500):
        wanted, seen = sample_any(rng), _any_seen(rng)
        for write in TALKS.values():
            yield write(seen, wanted, random_caption(wanted, rng)).replace(PICTURE, " ")
        yield two_turns(seen, None, "").replace(PICTURE, " ")


def _any_seen(rng: random.Random) -> Scene:
    """Whatever the oracle may report, unclear things and odd counts included."""
    shapes, colours = (*SHAPES, UNKNOWN), (*COLOURS, UNKNOWN)
    things = tuple(
        Thing(rng.choice(shapes), rng.choice(colours), rng.choice(SIZES))
        for _ in range(rng.choice((0, 1, 1, 2, 2, 3)))
    )
    ground = rng.choice((*BACKGROUNDS, UNKNOWN))
    position = rng.choice(POSITIONS) if len(things) == 1 else None
    return Scene(things, ground, rng.choice(RELATIONS) if len(things) == 2 else None, position)
