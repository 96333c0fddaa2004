"""The options that say which pairs are meant, for every command that takes a filter of pairs."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rpo_cli.line.dataset.pair_filter import PairFilter

Prompt = Annotated[
    str | None,
    typer.Option(metavar="TEXT", help="Pairs with this in their prompt, in any case.", show_default=False),
]
Flaw = Annotated[
    str | None,
    typer.Option(
        metavar="TEXT",
        help="Pairs with this in a flaw that the critique names, or in the instruction, in any case.",
        show_default=False,
    ),
]
Kind = Annotated[
    str | None,
    typer.Option(
        metavar="KIND",
        help="Pairs of this kind: edit, counter, seeds, self, import or human.",
        show_default=False,
    ),
]
Reward = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Pairs that this reward compares; margins are then its own, else the mean of all rewards.",
        show_default=False,
    ),
]
MarginBelow = Annotated[
    float | None,
    typer.Option(
        metavar="X",
        help="Pairs with a smaller margin: the lead of side b (the edit), below 0 if a leads.",
        show_default=False,
    ),
]
MarginAbove = Annotated[
    float | None, typer.Option(metavar="X", help="Pairs with a larger margin.", show_default=False)
]
Gate = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Pairs that this gate dropped, as `rpo status` names it; or accepted, dropped, reversed, ...",
        show_default=False,
    ),
]


def filter_of(params: Mapping[str, Any]) -> "PairFilter":
    """The filter that a command's options make.

    Raises:
        UsageError: a kind that there is none of, or bounds between which there is no margin.
    """
    from rpo_cli.line.dataset.pair_filter import PairFilter

    return PairFilter(
        prompt=params["prompt"] or "",
        flaw=params["flaw"] or "",
        kind=params["kind"],
        reward=params["reward"],
        margin_below=params["margin_below"],
        margin_above=params["margin_above"],
        gate=params["gate"],
    )


def none_matches(asked: "PairFilter", total: int) -> str:
    """What is said when the filter asks for a pair that is not there."""
    return f"no pair matches ({asked.words}); {total:,} pairs in all"
