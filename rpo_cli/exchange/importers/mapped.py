"""Rows that are mappings of names to values, whatever file they stand in, as entries."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from rpo_cli.exchange.importers.labels import blank, counted, judged, number, shares, winner
from rpo_cli.exchange.importers.layouts import Layout, judges
from rpo_cli.exchange.importers.ranks import rank_votes
from rpo_cli.exchange.incoming import BadRow, Choice, Entry, Picture, Vote, prompt_of

ALONE = ("label", "score", "rank")  # roles of what is said of one picture


def to_entry(
    layout: Layout, picture: Callable[[Any, str], bytes], row: int, raw: Mapping[str, Any]
) -> Entry:
    """One entry of a row.

    Args:
        picture: (value, column) → encoded bytes.

    Raises:
        BadRow: what is wrong with the row.
    """
    prompt = prompt_of(_value(raw, layout.prompt))
    say = {role: raw.get(column) for role, column in layout.told.items()}
    if layout.many:
        return _list(layout, picture, row, raw, prompt, say)
    values = [picture(_value(raw, name), name) for name in layout.pictures]
    if len(values) == 1:
        name = _text(say.get("uid_a")) or _text(say.get("id"))
        file, alone = _file(raw[layout.pictures[0]]), _alone(layout, say)
        one = Picture(values[0], name, _text(say.get("model")), standing=alone, name=file)
        return Entry(row, prompt, (one,))
    choice, share = _choice(layout, say, [raw.get(name) for name in layout.pictures])
    pictures = tuple(
        Picture(data, _text(say.get(f"uid_{side}")), _text(say.get(f"model_{side}")), name=_file(raw[name]))
        for data, side, name in zip(values, "ab", layout.pictures, strict=True)
    )
    name = _text(say.get("ranking")) or _text(say.get("id"))
    return Entry(row, prompt, pictures, (Vote(0, 1, choice, name, share),))


def _list(
    layout: Layout,
    picture: Callable[[Any, str], bytes],
    row: int,
    raw: Mapping[str, Any],
    prompt: str,
    say: Mapping[str, Any],
) -> Entry:
    """All pictures of a list, and all pairs of their ranks."""
    (column,) = layout.pictures
    found = _value(raw, column)
    if not isinstance(found, list | tuple) or not found:
        raise BadRow("missing_image", f"{column}: no list of pictures")
    name = _text(say.get("id"))
    pictures = tuple(Picture(picture(one, column), name=_file(one)) for one in found)
    votes: tuple[Vote, ...] = ()
    if "rank" in say and not blank(say["rank"]):
        ranks = say["rank"]
        if not isinstance(ranks, list | tuple):
            raise BadRow("bad_label", f"rank: {ranks!r:.60}, no list of ranks")
        votes = tuple(replace(vote, source_id=name) for vote in rank_votes(ranks, len(found)))
    elif judges(say) and len(found) == 2:
        choice, share = _choice(layout, say, [])
        votes = (Vote(0, 1, choice, name, share),)
    elif judges(say):
        raise BadRow("bad_label", f"{column}: a winner of {len(found)} pictures")
    return Entry(row, prompt, pictures, votes)


def _choice(
    layout: Layout, say: Mapping[str, Any], pictures: Sequence[Any]
) -> tuple[Choice | None, float | None]:
    for role, code in (("winner", layout.code), ("winner0", "0"), ("winner1", "1"), ("share", "share")):
        if role in say:
            value, column = say[role], layout.told[role]
            if role == "share" and blank(value) and layout.ranked:
                return "a", None  # nobody has counted votes of this pair
            if isinstance(value, str) and value and (named := _named(value, layout, pictures)):
                return named, None
            return winner(value, code, column)
    labels = [say.get("label_0"), say.get("label_1")]
    if not all(map(blank, labels)) or not layout.ranked:
        return shares(*counted(*labels))
    return "a", None


def _named(value: str, layout: Layout, pictures: Sequence[Any]) -> Choice | None:
    """The side whose column or whose own path a winner column names."""
    sides: tuple[Choice, Choice] = ("a", "b")
    for names in (layout.pictures, [name for name in pictures if isinstance(name, str)]):
        if len(names) == 2 and names[0] != names[1] and value in names:
            return sides[list(names).index(value)]
    return None


def _alone(layout: Layout, say: Mapping[str, Any]) -> float | None:
    """Where one picture stands by what was said of it alone."""
    for role in ALONE:
        value = say.get(role)
        if role not in say or blank(value):
            continue
        if role == "label":
            return judged(value, layout.told[role])
        found = number(value)
        if found is None:
            raise BadRow("bad_label", f"{layout.told[role]}: {value!r:.80} is no number")
        return found if role == "score" else -found
    return None


def _value(raw: Mapping[str, Any], name: str) -> Any:
    if name not in raw:
        raise BadRow("missing_column", f"no {name}")
    return raw[name]


def _file(value: Any) -> str | None:
    """What a cell calls the file of its picture: a path, or the path beside bytes."""
    name = value.get("path") if isinstance(value, Mapping) else value
    return name[:200] if isinstance(name, str) and name else None


def _text(value: Any) -> str | None:
    return None if blank(value) else str(value)[:200]
