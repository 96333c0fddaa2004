"""What a perfect critic of the shapes world says: the picture in words, its flaws, both turns' replies.

Standard library only. The critic says first what it sees, things in the prompt's order, then what is
asked for, then what differs: so comparing is a matter of words, not of pixels. To add an aspect: its
sentence in `detail`.
"""

from __future__ import annotations

import json
from dataclasses import replace

from rpo_cli.shapes.edits import say
from rpo_cli.shapes.grammar import INVERSE, UNKNOWN, Scene, article, canonical, noun
from rpo_cli.shapes.towards import Mismatch, assign, flaws, plan

MAX_INSTRUCTIONS = 3
ALL_RIGHT = "It matches the prompt."
PLACES = {
    "left": "on the left",
    "right": "on the right",
    "top": "at the top",
    "bottom": "at the bottom",
    "center": "in the center",
}
OTHER_SUBJECT = ("subject", "the prompt asks for something else")


def in_prompt_order(seen: Scene, wanted: Scene) -> Scene:
    """What is seen, retold: the things that stand for the wanted ones first and in their order."""
    seen = canonical(seen)
    first = [index for index in assign(seen, wanted) if index is not None]
    order = [*first, *(index for index in range(len(seen.things)) if index not in first)]
    things = tuple(seen.things[index] for index in order)
    if order == [1, 0] and seen.relation is not None:
        return replace(seen, things=things, relation=INVERSE[seen.relation])
    return replace(seen, things=things)


def seen_sentence(seen: Scene) -> str:
    """ "On white: a small red circle left of a large blue square." for 0 to 4 things, known or not."""
    return f"On {_shown(seen)}."


def prompt_sentence(wanted: Scene) -> str:
    """The prompt in the words and order of `seen_sentence`: then comparing is reading along two lines."""
    return f"The prompt asks for {_shown(wanted)}."


def _shown(seen: Scene) -> str:
    names = [article(noun(thing)) for thing in seen.things]
    if not names:
        told = "nothing"
    elif len(names) == 1:
        told = f"{names[0]} {PLACES[seen.position]}" if seen.position else names[0]
    elif len(names) == 2 and seen.relation is not None:
        told = f"{names[0]} {seen.relation} {names[1]}"
    else:
        told = f"{', '.join(names[:-1])} and {names[-1]}"
    return f"{seen.background}: {told}"


def detail(flaw: Mismatch, wanted: Scene) -> str:
    """One flaw in words, naming the wanted thing by its colour and shape."""
    seen = "unclear" if flaw.seen == UNKNOWN else flaw.seen
    if flaw.aspect == "count":
        return f"{seen} {'shape' if seen == '1' else 'shapes'} instead of {flaw.wanted}"
    if flaw.aspect == "background":
        return f"the background is {seen}"
    thing = wanted.things[flaw.object_index or 0]
    name = f"the {thing.colour} {thing.shape}"
    if flaw.aspect == "shape" and seen != "unclear":
        return f"{name} is {article(seen)}"
    if flaw.aspect == "position":
        return f"{name} is {PLACES[flaw.seen]}"
    if flaw.aspect == "relation":
        other = wanted.things[1]
        return f"{name} is {seen} the {other.colour} {other.shape}"
    return f"{name} is {seen}"


def flaw_list(seen: Scene, wanted: Scene | None) -> list[tuple[str, str]]:
    """(aspect, detail) of every flaw; a prompt of another world (None) is one flaw."""
    if wanted is None:
        return [OTHER_SUBJECT]
    return [(flaw.aspect, detail(flaw, wanted)) for flaw in flaws(canonical(seen), wanted)]


def critique_text(seen: Scene, wanted: Scene | None) -> str:
    """The first turn's reply: what is seen, what is asked for, what differs."""
    found = [text[0].upper() + text[1:] + "." for _, text in flaw_list(seen, wanted)]
    if wanted is None:
        return " ".join([seen_sentence(seen), *found])
    told = in_prompt_order(seen, wanted)
    return " ".join([seen_sentence(told), prompt_sentence(wanted), *(found or [ALL_RIGHT])])


def instructions(seen: Scene, wanted: Scene | None) -> list[str]:
    """At most three, most important first; none for a prompt of another world."""
    if wanted is None:
        return []
    told = in_prompt_order(seen, wanted)
    said = dict.fromkeys(say(told, edit) for edit in plan(told, wanted))  # twins have one name
    return [*said][:MAX_INSTRUCTIONS]


def reply_json(seen: Scene, wanted: Scene | None, *, single: bool = False) -> str:
    """The second turn's reply, or the only one's (`single`), as compact JSON."""
    listed = [{"aspect": aspect, "detail": text} for aspect, text in flaw_list(seen, wanted)]
    value: dict[str, object] = {"flaws": listed, "instructions": instructions(seen, wanted)}
    if single:
        value = {"critique": critique_text(seen, wanted)} | value
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
