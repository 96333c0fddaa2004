"""One picture of a run: a few pairs, each from prompt to verdict, and where an edit changed its picture."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from PIL import Image, ImageChops, ImageDraw, ImageFilter
from PIL.Image import Image as Picture

from rpo_cli.records import EDITED, Pair
from rpo_cli.visuals.canvas import Box, Style, place, rounded, width_of, write

SIDE = 512  # pictures are shown at most this large
SMALLEST = 192  # smaller pictures are enlarged, so that the line does not hide what it surrounds
LOUD = 32  # of 255: a difference in brightness or colour that one sees


def fitted(picture: Picture, side: int = SIDE) -> Picture:
    """The picture, shrunk to at most `side` pixels; never enlarged."""
    if max(picture.size) <= side:
        return picture
    scale = side / max(picture.size)
    return picture.resize(
        (max(1, round(picture.width * scale)), max(1, round(picture.height * scale))),
        Image.Resampling.LANCZOS,
    )


def changed(a: Picture, b: Picture) -> tuple[Picture, float]:
    """The second picture in pale grey with the region where |a - b| is large outlined in black and white.

    Black and white, because such a line is seen on every picture, by everyone, and in print.

    Returns:
        The drawing, and the share of pixels inside the line, in [0, 1].
    """
    a, b = fitted(a), fitted(b)
    if a.size != b.size:
        a = a.resize(b.size, Image.Resampling.BICUBIC)
    factor = max(1, -(-SMALLEST // max(b.size)))
    size = (b.width * factor, b.height * factor)
    region = _region(a, b)
    share = region.histogram()[255] / (b.width * b.height)
    region = region.resize(size, Image.Resampling.NEAREST)
    page = Image.blend(b.convert("L").convert("RGB"), Image.new("RGB", b.size, "white"), 0.35)
    page = page.resize(size, Image.Resampling.NEAREST)
    wide = _grown(region, 7)
    page.paste("white", mask=ImageChops.subtract(wide, region))
    page.paste("black", mask=ImageChops.subtract(_grown(region, 5), _grown(region, 3)))
    return page, share


def _region(a: Picture, b: Picture) -> Picture:
    """255 where any channel differs loudly, after a small blur that silences single pixels."""
    difference = ImageChops.difference(a.convert("RGB"), b.convert("RGB"))
    red, green, blue = difference.split()
    loudest = ImageChops.lighter(ImageChops.lighter(red, green), blue)
    radius = max(1, max(b.size) // 128)
    mask = loudest.filter(ImageFilter.BoxBlur(radius)).point(
        [255 * (value >= LOUD) for value in range(256)]
    )
    return _grown(mask, 3)


def _grown(mask: Picture, size: int) -> Picture:
    return mask.filter(ImageFilter.MaxFilter(size))


# reason → how the verdict is told
VERDICTS = {
    "edit_won": "edit wins",
    "seed_won": "better seed wins",
    "reversed": "reversed: original wins",
    "counter_lost": "original beats counter-edit",
    "counter_won": "dropped: counter-edit leads",
    "unchanged": "dropped: nothing changed",
    "below_floor": "dropped: no more than unasked",
    "too_different": "dropped: changed too much",
    "near_duplicate": "dropped: near-duplicate",
    "inside_band": "dropped: too close to call",
    "rewards_disagree": "dropped: rewards disagree",
    "pareto_tie": "dropped: no reward is clear",
    "duplicate": "dropped: seen already",
    "prompt_full": "dropped: enough of this prompt",
    "unscored": "dropped: not scored",
    "corrupt_image": "dropped: unreadable",
    "label_kept": "its label is kept",
    "label_confirmed": "rewards agree with its label",
    "relabelled": "relabelled by rewards",
    "tie": "dropped: a tie of its judges",
    "unlabelled": "dropped: came without a label",
    "reviewed": "reviewers decided",
    "people_disagree": "dropped: reviewers disagree",
    "people_tie": "dropped: a tie to reviewers",
    "people_reject": "dropped: of no use to reviewers",
}
# kind of pair → how its sides are called, and what the pair is where no critique asked for it
SIDES = {
    "edit": ("ORIGINAL", "EDIT"),
    "counter": ("ORIGINAL", "COUNTER-EDIT"),
    "seeds": ("SEED A", "SEED B"),
}
AHEAD = {
    "edit": ("the original", "the edit"),
    "counter": ("the original", "the edit"),
    "seeds": ("seed A", "seed B"),
}
WITHOUT = {
    "counter": "the picture, and an edit that its critique did not ask for: meant to lose",
    "seeds": "two pictures of one prompt, best and worst by the rewards",
    "human": "two imported pictures that people have compared",
    "import": "two imported pictures with a label of unknown origin",
}
PAPER, CARD, EDGE, RULE = "#F4F2EE", "#FFFFFF", "#E4E0D8", "#EDEAE3"
INK, SOFT, FAINT = "#1F2328", "#57606A", "#8C939A"
GREEN, AMBER, GREY = "#1A7F4B", "#B4690E", "#7A828A"
GREEN_TINT, AMBER_TINT, GREY_TINT = "#E3F3EA", "#FBEEDC", "#EDEEF0"

TITLE, SUBTITLE = Style(30, INK), Style(16, SOFT)
LABEL, SMALL = Style(13, FAINT), Style(14, SOFT)
PROMPT, FLAW, ASK = Style(19, INK, 7), Style(16, INK, 2), Style(17, INK, 2)
BARS = 3
BY_HASH = "Pairs are picked by hash, not by hand."

MARGIN, GAP, PAD = 36, 14, 22
PICTURE = 192
FRAME = 5
COLUMNS = (212, PICTURE + 2 * FRAME, 356, PICTURE + 2 * FRAME, 288)
SPACE = 28
WIDTH = 2 * MARGIN + 2 * PAD + sum(COLUMNS) + SPACE * (len(COLUMNS) - 1)
ROW = PICTURE + 2 * FRAME + 2 * PAD + 20
HEAD, FOOT = 118, 46
REACH = 4.0  # margins beyond this many standard deviations end at the edge of their bar


class Scored(NamedTuple):
    """What the choice of pairs looks at: light columns of `pairs`."""

    pair_id: str
    pair_kind: str
    prompt: str
    verdict: str
    reason: str


@dataclass(frozen=True)
class SheetRow:
    """A pair with what the sheet shows of it; `flaws` are "aspect: detail"."""

    pair: Pair
    a: Picture
    b: Picture
    critique: str
    flaws: tuple[str, ...]


def choose(pairs: Iterable[Scored], limit: int = 8) -> list[Scored]:
    """Up to `limit` pairs, about half won by the edit, a quarter reversed, a quarter dropped.

    Within each, one reason and one prompt after the other, by pair_id. Pairs of edits come before pairs of
    seeds. Where one kind is short, the others take its room.
    """
    rank_of = dict(zip(EDITED, range(len(EDITED)), strict=True))
    ordered = sorted(pairs, key=lambda pair: (rank_of.get(pair.pair_kind, len(EDITED)), pair.pair_id))
    groups: dict[str, list[Scored]] = defaultdict(list)
    for pair in ordered:
        groups[_outcome(pair)].append(pair)
    queues = {kind: _varied(found) for kind, found in groups.items()}
    turns = ("won", "reversed", "won", "dropped")
    chosen: list[Scored] = []
    while len(chosen) < limit and any(queues.values()):
        for kind in turns:
            if queues.get(kind) and len(chosen) < limit:
                chosen.append(queues[kind].pop(0))
    rank = ("won", "reversed", "dropped")
    return sorted(chosen, key=lambda pair: rank.index(_outcome(pair)))


def _outcome(pair: Scored | Pair) -> str:
    if pair.verdict == "dropped":
        return "dropped"
    return "reversed" if pair.reason in ("reversed", "counter_lost") else "won"


def _varied(pairs: Sequence[Scored]) -> list[Scored]:
    """The same pairs, new reasons and prompts first."""
    seen: dict[str, int] = defaultdict(int)
    keyed = []
    for number, pair in enumerate(pairs):
        keyed.append((seen[pair.reason] + seen[pair.prompt], number, pair))
        seen[pair.reason] += pair.verdict == "dropped"
        seen[pair.prompt] += 1
    return [pair for _, _, pair in sorted(keyed, key=lambda item: item[:2])]


def draw(
    rows: Sequence[SheetRow], *, title: str, counts: Mapping[str, int], picked: str = BY_HASH
) -> Picture:
    """The sheet.

    Args:
        title: names the run.
        counts: what the run made, in order: "images" → 96, ...
        picked: how the pairs were chosen, in a sentence.
    """
    height = HEAD + len(rows) * (ROW + GAP) + FOOT
    page = Image.new("RGB", (WIDTH, height), PAPER)
    _head(page, title, counts)
    for number, row in enumerate(rows):
        _row(page, Box(MARGIN, HEAD + number * (ROW + GAP), WIDTH - 2 * MARGIN, ROW), row)
    _foot(page, Box(MARGIN, height - FOOT, WIDTH - 2 * MARGIN, FOOT), picked)
    return page


def _head(page: Picture, title: str, counts: Mapping[str, int]) -> None:
    write(page, Box(MARGIN, 30, WIDTH // 2, 44), title, TITLE)
    text = "   ·   ".join(f"{count:,} {name}" for name, count in counts.items())
    write(page, Box(MARGIN, 74, WIDTH // 2 + 160, 24), text, SUBTITLE)
    x = WIDTH - MARGIN
    for tint, colour, name in reversed(
        (
            (GREEN_TINT, GREEN, "edit wins"),
            (AMBER_TINT, AMBER, "original wins"),
            (GREY_TINT, GREY, "dropped"),
        )
    ):
        x -= _pill(page, x, 74, name, tint, colour, from_right=True) + 10


def _pill(
    page: Picture, x: int, y: int, text: str, tint: str, colour: str, *, from_right: bool = False
) -> int:
    style = Style(15, colour)
    width = width_of(text, style) + 24
    left = x - width if from_right else x
    rounded(page, Box(left, y, width, 26), 13, tint)
    write(page, Box(left + 12, y + 3, width - 12, 22), text, style)
    return width


def _row(page: Picture, box: Box, row: SheetRow) -> None:
    rounded(page, box, 14, EDGE)
    rounded(page, box.inset(1), 13, CARD)
    x, y, height = box.x + PAD, box.y + PAD, box.height - 2 * PAD
    cells = []
    for width in COLUMNS:
        cells.append(Box(x, y, width, height))
        x += width + SPACE
    pair = row.pair
    _labelled(page, cells[0], "PROMPT", pair.prompt, PROMPT)
    names = SIDES.get(pair.pair_kind, ("PICTURE A", "PICTURE B"))
    _side(page, cells[1], row.a, names[0], pair.winner == "a", pair)
    _critique(page, cells[2], row)
    _side(page, cells[3], row.b, names[1], pair.winner == "b", pair)
    _verdict(page, cells[4], pair)


def _labelled(page: Picture, box: Box, label: str, text: str, style: Style) -> int:
    """A small label and its text under it; returns the height of both."""
    write(page, Box(box.x, box.y, box.width, 20), label, LABEL)
    used = write(page, Box(box.x, box.y + 21, box.width, max(1, box.height - 21)), text, style)
    return 21 + used


def _colours(pair: Pair) -> tuple[str, str]:
    """Ink and tint of a verdict."""
    return {
        "won": (GREEN, GREEN_TINT),
        "reversed": (AMBER, AMBER_TINT),
        "dropped": (GREY, GREY_TINT),
    }[_outcome(pair)]


def _side(page: Picture, box: Box, picture: Picture, label: str, won: bool, pair: Pair) -> None:
    colour, _ = _colours(pair)
    write(page, Box(box.x, box.y, box.width, 20), label, Style(13, colour if won else FAINT))
    if won:
        word = Style(13, colour)
        width = width_of("winner", word)
        write(page, Box(box.x + box.width - width - 2, box.y, width + 2, 20), "winner", word)
    frame = Box(box.x, box.y + 20, box.width, box.width)
    rounded(page, frame, 12, colour if won else EDGE)
    edge = FRAME if won else 1
    rounded(page, frame.inset(edge), 12 - edge, CARD)
    place(page, frame.inset(FRAME), picture, 7)


def _critique(page: Picture, box: Box, row: SheetRow) -> None:
    """Flaws as a list, or the critique's text where it names none; the instruction in a box below."""
    kind = row.pair.pair_kind
    bottom = box.y + box.height
    ask = Box(box.x, bottom - 96, box.width, 96)
    if kind == "counter" or kind not in WITHOUT:
        rounded(page, ask, 10, PAPER)
        label = "INSTRUCTION OF ANOTHER PROMPT" if kind == "counter" else "INSTRUCTION"
        _labelled(page, ask.inset(12), label, row.pair.instruction or "none", ASK)
    if kind in WITHOUT:
        _labelled(page, box, "PAIR", WITHOUT[kind], FLAW)
        return
    write(page, Box(box.x, box.y, box.width, 20), "CRITIQUE", LABEL)
    top, room = box.y + 23, ask.y - 10
    for flaw in row.flaws or (row.critique or "nothing to mend",):
        if top + FLAW.line_height > room:
            return
        rounded(page, Box(box.x, top + 7, 7, 7), 3, FAINT)
        top += 5 + write(page, Box(box.x + 16, top, box.width - 16, room - top), flaw, FLAW)


def _verdict(page: Picture, box: Box, pair: Pair) -> None:
    colour, tint = _colours(pair)
    _pill(page, box.x, box.y, VERDICTS.get(pair.reason, pair.reason), tint, colour)
    if not pair.margins:  # no reward has scored it
        return
    number, style = f"{abs(pair.margin):.2f}", Style(28, colour)
    write(page, Box(box.x, box.y + 38, box.width, 40), number, style)
    beside = box.x + width_of(number, style) + 12
    ahead = AHEAD.get(pair.pair_kind, ("picture A", "picture B"))[pair.margin > 0]
    write(page, Box(beside, box.y + 52, box.x + box.width - beside, 20), f"sd for {ahead}", SMALL)
    for n, (name, margin) in enumerate(sorted(pair.margins.items())[:BARS]):
        _bar(page, Box(box.x, box.y + 90 + n * 46, box.width, 40), name, margin, pair)


def _bar(page: Picture, box: Box, name: str, margin: float, pair: Pair) -> None:
    """One reward: its name and scores, and its margin as a bar to the right (b) or left (a) of zero."""
    scores = f"{pair.rewards_a[name]:.3g} to {pair.rewards_b[name]:.3g}"
    width = width_of(scores, SMALL)
    write(page, Box(box.x, box.y, box.width - width - 10, 20), name, SMALL)
    write(page, Box(box.x + box.width - width, box.y, width + 1, 20), scores, SMALL)
    track = Box(box.x, box.y + 23, box.width, 10)
    rounded(page, track, 5, RULE)
    middle = track.x + track.width // 2
    length = round(min(abs(margin), REACH) / REACH * (track.width // 2))
    if length:
        left = middle if margin > 0 else middle - length
        rounded(page, Box(left, track.y, length, 10), min(5, length // 2), GREEN if margin > 0 else AMBER)
    ImageDraw.Draw(page).line((middle, track.y - 3, middle, track.y + 12), fill=SOFT, width=1)


def _foot(page: Picture, box: Box, picked: str) -> None:
    text = (
        f"{picked}  Margins are in standard deviations of a reward over the "
        f"seeds of one prompt; bars end at ±{REACH:.0f}."
    )
    write(page, Box(box.x, box.y + 6, box.width, 24), text, SMALL)
