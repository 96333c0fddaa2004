"""Which columns of a table mean what, by the user's word or their names; its rows as entries."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from rpo_cli.errors import UsageError, nearest
from rpo_cli.exchange.importers.labels import (
    TELLS,
    Code,
    blank,
    code_of,
    counted,
    number,
    rank_votes,
    shares,
    verdict_of,
    winner,
)
from rpo_cli.exchange.incoming import Choice, Entry, Options, Picture, Vote, prompt_of
from rpo_cli.exchange.raw_rows import BadRow

PROMPTS = ("prompt", "caption", "text", "original_prompt")
# (first, second, is the first the winner unless labels say otherwise)
PAIRS = (
    ("chosen", "rejected", True),
    ("chosen_file_name", "rejected_file_name", True),
    ("winner", "loser", True),
    ("win", "lose", True),
    ("image_0_file_name", "image_1_file_name", False),
    ("jpg_0", "jpg_1", False),
    ("image_0", "image_1", False),
)
SINGLES = ("file_name", "image", "image_path", "jpg", "path")
MANY = ("images",)
# what `--map ROLE=COLUMN` may name, and what a column of that role holds
ROLES = {
    "caption": "the prompt",
    "image": "one picture, or its path",
    "images": "a list of pictures, or of their paths",
    "chosen": "the first picture, which is better unless winner, label_0 or share says otherwise",
    "rejected": "the second picture",
    "a": "the first picture",
    "b": "the second picture",
    "winner": "which is better: left/right, a/b, 0/1, or the share of votes for the first",
    "winner0": "which is better: 0 the first, 1 the second",
    "winner1": "which is better: 1 the first, 2 the second",
    "share": "the share of votes for the first, 0 to 1",
    "label_0": "1 where the first is better, 0 where the second is, a share, or a count of votes",
    "label_1": "the same of the second",
    "rank": "of a list of pictures: their ranks; of one picture: its rank; 1 is best",
    "score": "of one picture: a number, better ones higher",
    "label": "of one picture: good or bad",
    "model": "what made the picture",
    "model_a": "what made the first",
    "model_b": "what made the second",
    "id": "what the source calls the row",
}
SAME = {"prompt": "caption", "text": "caption", "left": "a", "right": "b", "first": "a", "second": "b"}
# a comma that ends a column's name: another role, or what is meant as one, follows
NEXT = re.compile(r",(?=[^,=]*=)|,\s*$")
JUDGES = ("winner", "winner0", "winner1", "share", "label_0", "label_1")
OF_TWO = (*JUDGES, "model_a", "model_b", "id")
OF_ONE = ("label", "score", "rank", "model", "id")
OF_MANY = (*JUDGES, "rank", "id")


@dataclass(frozen=True)
class Layout:
    """Columns of the prompt and of pictures, and of what was said of them.

    Attributes:
        pictures: one column or two.
        many: the one column holds a list of pictures.
        ranked: the first of two is better unless a judgement says otherwise.
        told: role → column, of those of ROLES that say more.
        code: how the winner column is written.
        missing: what was not found.
    """

    prompt: str
    pictures: tuple[str, ...]
    many: bool = False
    ranked: bool = False
    told: Mapping[str, str] = field(default_factory=dict)
    code: Code = "words"
    missing: tuple[str, ...] = ()

    @property
    def used(self) -> list[str]:
        """The columns that an entry is made of."""
        return list(dict.fromkeys([self.prompt, *self.pictures, *self.told.values()]))

    def columns(self, present: Sequence[str]) -> list[str]:
        """The columns of `present` that an entry is made of."""
        return [name for name in self.used if name in present]

    def unused(self, present: Iterable[str]) -> list[str]:
        """The columns of `present` that no entry is made of."""
        return [name for name in present if name not in self.used]


def read_map(texts: Iterable[str]) -> dict[str, str]:
    """Role → column of `--map ROLE=COLUMN,ROLE=COLUMN` options.

    Raises:
        UsageError: a role that is none, or named twice.
    """
    found: dict[str, str] = {}
    for part in (part for text in texts for part in NEXT.split(text)):
        role, equals, column = part.partition("=")
        role = SAME.get(role.strip(), role.strip())
        if not equals or not column.strip() or role not in ROLES:
            raise UsageError(
                f"--map {part}: not ROLE=COLUMN{nearest(role, list(ROLES))}",
                f"a role is one of {', '.join(ROLES)}",
            )
        if role in found:
            raise UsageError(f"--map: {role} is named twice: {found[role]}, {column}", "name it once")
        found[role] = column.strip()
    return found


def layout_of(pictures: Sequence[str], others: Sequence[str], options: Options | None = None) -> Layout:
    """What the columns of a table mean: what the user says, else by their names.

    Args:
        pictures: names of columns that may hold a picture or its path.
        others: the rest.

    Raises:
        UsageError: a column that the user names is not there.
    """
    options = options or Options()
    named = list(dict.fromkeys([*others, *pictures]))
    for role, column in options.columns.items():
        if named and column not in named:
            raise UsageError(
                f"--map {role}={column}: no such column; the source has: {', '.join(named)}"
                f"{nearest(column, named)}",
                "name a column of the source",
            )
    given = dict(options.columns)
    prompt = given.pop("caption", None) or options.column
    prompt = prompt or next((name for name in PROMPTS if name in named), "")
    lacks = [] if prompt in named else [prompt or f"prompt (one of {', '.join(PROMPTS)})"]
    found = _pictures(pictures, given)
    if found.pictures:
        _fitting(found, given)
    told = _columns_beside(named, given, found)
    if not found.pictures:
        lacks.append(
            f"picture (one of {', '.join(SINGLES)}, or a pair such as chosen and rejected; "
            "or --map image=COLUMN)"
        )
    elif len(found.pictures) == 2 and not found.ranked and not has_verdicts(told):
        lacks.append("label_0")
    return replace(found, prompt=prompt, told=told, missing=tuple(lacks))


def _fitting(found: Layout, given: Mapping[str, str]) -> None:
    """Refuse roles that say nothing of the pictures that were found, and two that say the same."""
    one = len(found.pictures) == 1
    part = OF_MANY if found.many else OF_ONE if one else OF_TWO
    if idle := [role for role in given if role not in part]:
        pictures = " and ".join(found.pictures)
        raise UsageError(
            f"--map {', '.join(f'{role}={given[role]}' for role in idle)}: no role beside {pictures}",
            f"there, a column is {', '.join(['caption', *part])}",
        )
    groups = [{role} for role in ("winner", "winner0", "winner1", "share", "rank", "score", "label")]
    said = [group for group in [*groups, {"label_0", "label_1"}] if group & given.keys()]
    if len(said) > 1:
        roles = ", ".join(role for role in given if any(role in group for group in said))
        raise UsageError(f"--map: {roles} say which picture is better", "name one of them")
    if len(found.pictures) == 2 and found.pictures[0] == found.pictures[1]:
        raise UsageError(f"--map: both pictures are column '{found.pictures[0]}'", "name two columns")


def _pictures(present: Sequence[str], given: dict[str, str]) -> Layout:
    """The columns of pictures."""
    for first, second, ranked in (("chosen", "rejected", True), ("a", "b", False)):
        if first in given or second in given:
            pair = tuple(given.pop(role) for role in (first, second) if role in given)
            return Layout("", pair if len(pair) == 2 else (), ranked=ranked)
    for role in ("images", "image"):
        if role in given:
            return Layout("", (given.pop(role),), many=role == "images")
    for first, second, ranked in PAIRS:
        if first in present and second in present:
            return Layout("", (first, second), ranked=ranked)
    for names, many in ((SINGLES, False), (MANY, True)):
        if one := next((name for name in names if name in present), None):
            return Layout("", (one,), many=many)
    return Layout("", ())


def _columns_beside(named: Sequence[str], given: Mapping[str, str], found: Layout) -> dict[str, str]:
    """The columns beside the pictures: those that the user names, and those known by name."""
    told = dict(given)
    if len(found.pictures) == 2:
        known = {name: name for name in ("label_0", "label_1")} if not has_verdicts(told) else {}
        if found.ranked and not has_verdicts(told):
            known |= {"share": "share"}  # of the votes for the chosen one, as our exports tell it
        known |= {"model_a": "model_0", "model_b": "model_1"}
        known |= {"uid_a": "image_0_uid", "uid_b": "image_1_uid", "ranking": "ranking_id", "id": "id"}
    else:
        known = {"uid_a": "image_0_uid", "id": "id", "model": "model"}
    for role, column in known.items():
        if column in named and column not in found.pictures:
            told.setdefault(role, column)
    return told


def has_verdicts(told: Mapping[str, str]) -> bool:
    """Whether a column says which of two pictures is better."""
    return any(role in told for role in JUDGES)


def coded(layout: Layout, values: Callable[[str], Iterable[Any]]) -> tuple[Layout, str]:
    """The layout with how its winner column is written, and a line that says so.

    Args:
        values: a column → all of its values.

    Raises:
        UsageError: numbers that could be read in two ways.
    """
    column = layout.told.get("winner")
    if column is None:
        return layout, ""
    code = code_of(column, values(column))
    return replace(layout, code=code), f"column '{column}' is read as {TELLS[code]}"


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
    elif has_verdicts(say) and len(found) == 2:
        choice, share = _choice(layout, say, [])
        votes = (Vote(0, 1, choice, name, share),)
    elif has_verdicts(say):
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
            return verdict_of(value, layout.told[role])
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
