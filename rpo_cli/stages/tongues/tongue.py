"""What a language is made of, to tell a sentence of no change from an order."""

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Tongue:
    """Patterns of one language; most stand at its beginning.

    Attributes:
        split: between clauses, beside punctuation.
        nothing: a clause that asks for no change, or says that all is well.
        doing: a clause that asks for a change.
        demand: words anywhere in a clause that ask for one.
        statement: a clause that begins so tells something, and is no order.
        remark: so the critic begins to speak of itself, or of the picture as a whole.
        saved: of the whole text: nothing but, no changes except.
        spoken: before the words of `nothing` these say that it is text to be written.
        anew: asks for another picture, which no editor makes.
    """

    split: str
    nothing: tuple[str, ...]
    doing: str
    demand: str
    statement: str
    remark: str
    saved: str
    spoken: str
    anew: str

    def is_nothing(self, clause: str) -> bool:
        found = (re.match(pattern, clause) for pattern in self.nothing)
        return any(one and not re.search(self.spoken, one[0]) for one in found)
