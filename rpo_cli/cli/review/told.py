"""`rpo review --summary` as text."""

from typing import TYPE_CHECKING

from rpo_cli.cli.output import table

if TYPE_CHECKING:
    from rpo_cli.line.review.agreement import ReviewSummary, Share


def summary_text(found: "ReviewSummary") -> str:
    """A table of reviewers, one of their agreement with the labels, one of each two of them."""
    heads = ("reviewer", "pairs", "a side", "tie", "no use", "same again, swapped", "left preferred")
    rows = [
        (
            who.name,
            who.judged,
            *(who.choices.get(choice, 0) for choice in ("side", "tie", "reject")),
            _share(who.consistent),
            _share(who.left),
        )
        for who in found.reviewers
    ]
    kinds = [
        (who.name, kind, share.cases, _share(share))
        for who in found.reviewers
        for kind, share in who.agreement.items()
    ]
    parts = [
        table(heads, rows),
        table(("reviewer", "kind of pair", "pairs", "agrees with the label"), kinds) if kinds else "",
        "no pair has two reviewers yet: kappa needs them"
        if not found.kappas
        else table(
            ("reviewers", "pairs", "same verdict", "Cohen's kappa"),
            [
                (f"{k.first} and {k.second}", k.pairs, f"{k.same:.3f}", _share(k.kappa, cases=False))
                for k in found.kappas
            ],
        ),
        "Shares with 95 % intervals: of one reviewer Wilson's, of labels and kappa bootstrap over prompts.",
    ]
    return "\n\n".join(part for part in parts if part)


def _share(share: "Share | None", *, cases: bool = True) -> str:
    if share is None:
        return "–"
    of = f" of {share.cases:,}" if cases else ""
    return f"{share.value:.3f} [{share.low:.3f}, {share.high:.3f}]{of}"
