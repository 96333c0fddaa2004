"""`rpo pairs`: find pairs, as a table, a document or a contact sheet."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.cells import cell_len, set_cell_size

from rpo_cli.cli import options as o
from rpo_cli.cli import pair_options as p
from rpo_cli.cli import step
from rpo_cli.cli.output import Mode, folded, table
from rpo_cli.text import printable

if TYPE_CHECKING:
    from rpo_cli.line.dataset.pair_filter import Found, FoundPair

ROWS = 20  # of a table, unless --limit says otherwise
NARROWEST = 10  # columns of a prompt or a flaw
HEADER = ("id", "kind", "won", "margin", "outcome", "prompt", "flaw")
LEGEND = "a: the original, or picture of lower index; b: the edit, or the other. A margin above 0: b leads"


def pairs(
    context: typer.Context,
    run: o.ExistingRun,
    prompt: p.Prompt = None,
    flaw: p.Flaw = None,
    kind: p.Kind = None,
    reward: p.Reward = None,
    margin_below: p.MarginBelow = None,
    margin_above: p.MarginAbove = None,
    gate: p.Gate = None,
    sort: Annotated[
        str,
        typer.Option(
            metavar="ORDER", help="id (a hash: no order), margin, -margin (smallest first) or prompt."
        ),
    ] = "id",
    limit: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=0,
            help="Pairs at most, 0: all; 20 unless given, --quiet: all.",
            show_default=False,
        ),
    ] = None,
    sheet: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Draw these pairs as one PNG, 100 at most.", show_default=False),
    ] = None,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Find RUN's pairs, those that were dropped too, by prompt, flaw, kind, margin or gate.

    Example: rpo pairs demo --gate inside_band --sort margin --sheet close.png
    """
    from rpo_cli.line.dataset.pair_filter import find  # pyarrow

    say = step.console(context)
    asked = p.filter_of(context.params)
    found = find(run, asked, sort=sort, limit=_most(limit, say.mode), sheet=sheet)
    essence = "\n".join(item.pair.pair_id for item in found.pairs)
    say.result(_document(found), _text(found), essence=essence)
    if found.pairs:
        say.hint(folded(LEGEND))


def _most(limit: int | None, mode: Mode) -> int | None:
    """Pairs at most. A list of bare ids has no place to say that it was cut, so it never is unasked."""
    if limit is None:
        return None if mode == "quiet" else ROWS
    return limit or None


def _document(found: "Found") -> dict[str, Any]:
    """Every field of every pair, its flaws, and how many there are beside those that are listed."""
    return {
        "run": found.path,
        "filter": {name: value for name, value in vars(found.asked).items() if value not in (None, "")},
        "sort": found.sort,
        "pairs_in_all": found.total,
        "matching": found.matching,
        "listed": len(found.pairs),
        "sheet": found.sheet if found.drawn else None,
        "drawn": found.drawn,
        "pairs": [
            {**item.pair.model_dump(mode="python"), "short_id": item.id, "flaws": item.flaws}
            for item in found.pairs
        ],
    }


def _text(found: "Found") -> str:
    """The table, how many pairs it leaves out, and where the sheet is."""
    if not found.pairs:
        return folded(p.none_matches(found.asked, found.total))
    lines = [listed(found), "", folded(_count(found))]
    if found.sheet is not None:
        missing = len(found.pairs) - found.drawn
        left_out = f"; {missing:,} with a picture that cannot be read left out" if missing else ""
        lines.append(f"sheet: {found.sheet if found.drawn else 'none'}, {found.drawn:,} pairs{left_out}")
    return "\n".join(lines)


def _count(found: "Found") -> str:
    """How many of the pairs are listed, and how to list all; nothing is cut off silently."""
    shown, match, total = len(found.pairs), found.matching, found.total
    more = f"; --limit {match} for all" if shown < match else ""
    if not found.asked:
        return f"{shown:,} of {total:,} pairs{more}"
    return f"{shown:,} of {match:,} pairs that match ({found.asked.words}), {total:,} in all{more}"


def listed(found: "Found") -> str:
    """A line per pair, no longer than the terminal's, or 80 columns in a file or pipe."""
    rows = [_row(item) for item in found.pairs]
    widths = [max(cell_len(row[place]) for row in [HEADER, *rows]) for place in range(len(HEADER))]
    taken = sum(widths[:-2]) + 2 * (len(HEADER) - 1)
    room = max(2 * NARROWEST, shutil.get_terminal_size().columns - 1 - taken)
    prompt = min(widths[-2], max(room // 2, room - widths[-1]))
    return table(HEADER, [[*row[:-2], cut(row[-2], prompt), cut(row[-1], room - prompt)] for row in rows])


def _row(item: "FoundPair") -> list[str]:
    """The cells of a pair, its two texts whole and on one line."""
    pair = item.pair
    outcome = "accepted" if pair.verdict == "accepted" else pair.reason
    if (pair.verdict, pair.reason) == ("accepted", "reversed"):
        outcome = "accepted, reversed"
    label = f"({pair.label})" if pair.label else ""  # of a pair without a winner
    margin = "" if item.margin is None else f"{item.margin:+.2f}"
    texts = (printable(" ".join(text.split())) for text in (pair.prompt, item.why))
    return [item.id, pair.pair_kind, pair.winner or label, margin, outcome, *texts]


def cut(text: str, cells: int) -> str:
    """The beginning of a text that fits into so many columns of a terminal, with a mark where it ends."""
    return text if cell_len(text) <= cells else f"{set_cell_size(text, cells - 1).rstrip()}…"
