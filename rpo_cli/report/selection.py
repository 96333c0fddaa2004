"""Which pairs a report is about, when it is not all of them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Selection:
    """A filter in words, how many pairs match it, and how many the run has."""

    said: str
    matching: int
    total: int
