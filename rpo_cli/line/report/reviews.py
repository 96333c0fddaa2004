"""What people said of the pairs, as a report tells it: tables with intervals."""

from rpo_cli.line.review.agreement import Share, summary_of
from rpo_cli.store import Store
from rpo_cli.visuals.evaluated import Table


def review_tables(store: Store) -> list[Table]:
    """Reviewers, their agreement with the labels by kind of pair, and with each other."""
    found = summary_of(store)
    if found is None:
        return []
    choices = ("side", "tie", "reject")
    people = [
        (
            who.name,
            f"{who.judged:,}",
            *(f"{who.choices.get(choice, 0):,}" for choice in choices),
            _told(who.consistent),
            _told(who.left),
        )
        for who in found.reviewers
    ]
    kinds = [
        (who.name, kind, f"{share.cases:,}", _told(share))
        for who in found.reviewers
        for kind, share in who.agreement.items()
    ]
    both = [
        (f"{two.first} and {two.second}", f"{two.pairs:,}", f"{two.same:.3f}", _told(two.kappa))
        for two in found.kappas
    ]
    heads = ("reviewer", "pairs", "a side", "tie", "no use", "same again, swapped", "left preferred")
    tables = [
        Table(
            "Verdicts of reviewers who saw the pairs blind; 95 % intervals in brackets", 1, heads, people
        ),
        Table("How often they prefer the label's side", 2, ("reviewer", "kind", "pairs", "share"), kinds),
        Table(
            "Two reviewers on the same pairs; kappa is 0 at chance, 1 at full agreement",
            1,
            ("reviewers", "pairs", "same verdict", "Cohen's kappa"),
            both,
        ),
    ]
    return [table for table in tables if table.rows]


def _told(share: Share | None) -> str:
    return (
        "–" if share is None else f"{share.value:.3f} [{share.low:.3f},\N{NO-BREAK SPACE}{share.high:.3f}]"
    )
