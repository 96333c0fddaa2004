"""Two tables of a report: what is there twice, and the scores that critiques gave by aspect."""

from collections import Counter
from collections.abc import Mapping

from rpo_cli.report.evaluated import Table
from rpo_cli.report.figures import DISTANCES, Tally

MARKS = (1, 2, 3, 4, 5)  # of a rubric: bad to good


def duplicates(tally: Tally, pictures: int, different: int) -> Table:
    """Equal pictures and pairs, and how alike the two pictures of a candidate are.

    Args:
        pictures: of the run, originals and edits; `different`: those among them that differ in a byte.
    """
    rows = [
        ("pictures", f"{pictures:,}"),
        ("of them equal to another", f"{pictures - different:,}"),
        ("candidates of the same two pictures as another", f"{tally.twins:,}"),
    ]
    rows += [
        (
            f"candidates whose pictures are {low} to {high} of 64 bits apart",
            f"{tally.distances[low, high]:,}",
        )
        for low, high in DISTANCES
    ]
    return Table("Duplicates: exact, and by the distance of perceptual hashes", 1, ("of", "count"), rows)


def aspect_scores(scores: Mapping[str, Counter[float]]) -> Table:
    """Aspect → how often each mark was given, and the mean; marks between two count with the nearer."""
    rows = []
    for aspect, found in sorted(scores.items()):
        marks: Counter[int] = Counter()
        for score, count in found.items():
            marks[min(max(round(score), MARKS[0]), MARKS[-1])] += count
        mean = sum(score * count for score, count in found.items()) / found.total()
        rows.append((aspect, f"{found.total():,}", f"{mean:.2f}", *(f"{marks[mark]:,}" for mark in MARKS)))
    head = ("aspect", "critiques", "mean", *map(str, MARKS))
    return Table("Scores of the critiques by aspect, from 1 (bad) to 5", 1, head, rows)
