"""The list of breaks, lists/*.toml by floor: what it says, what must hold of it, what of it a commit draws.

To add one: `old` is text that stands once in `file`, within one line; `new` what stands there instead;
`tests` are the node ids that should fail. Keep `old` short, so that it outlives edits of its line.
Then `python -m tests.mutants --only NAME`. One test may catch several breaks; a slow one is a burden.
"""

import ast
import random
import tomllib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
LISTS = Path(__file__).with_name("lists")


@dataclass(frozen=True)
class Mutant:
    """One break of one line.

    Attributes:
        name: what the product does with it.
        file: the module, relative to the checkout.
        old: text that stands once in the file, within one line.
        new: what stands there instead.
        tests: node ids that should notice; a parameter may be named in brackets.
        hangs: whether a test that never ends counts as noticing.
    """

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]
    hangs: bool = False

    def broken(self, text: str) -> str:
        """The file's text with the break.

        Raises:
            ValueError: the entry no longer fits the file, or what it makes is no Python.
        """
        if "\n" in self.old + self.new or self.old == self.new:
            raise ValueError(f"{self.name}: a break changes one line")
        if (found := text.count(self.old)) != 1:
            raise ValueError(f"{self.name}: stands {found} times in {self.file}: {self.old!r}")
        changed = text.replace(self.old, self.new)
        try:
            ast.parse(changed)
        except SyntaxError as error:
            raise ValueError(f"{self.name}: makes no Python of {self.file}: {error}") from None
        return changed


def read(folder: Path = LISTS) -> list[Mutant]:
    """All floors, each in its file's order."""
    files = sorted(folder.glob("*.toml"))
    tables = [tomllib.loads(file.read_text(encoding="utf-8")) for file in files]
    entries = [entry for table in tables for entry in table["mutant"]]
    return [Mutant(**{**entry, "tests": tuple(entry["tests"])}) for entry in entries]


def problems(mutants: Sequence[Mutant], root: Path = ROOT) -> Iterator[str]:
    """What is wrong with the list: stale entries, tests that do not exist, names that stand twice."""
    for name, count in Counter(mutant.name for mutant in mutants).items():
        if count > 1:
            yield f"{name}: stands {count} times in the list"
    for mutant in mutants:
        try:
            mutant.broken((root / mutant.file).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            yield str(error)
        if not mutant.tests:
            yield f"{mutant.name}: names no test"
        for test in mutant.tests:
            if not _exists(test, root):
                yield f"{mutant.name}: no test {test}"


def _exists(test: str, root: Path) -> bool:
    file, _, function = test.partition("::")
    if not (root / file).is_file():
        return False
    names = {
        node.name
        for node in ast.parse((root / file).read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef)
    }
    return function.partition("[")[0] in names


def drawn(mutants: Sequence[Mutant], count: int, commit: str) -> list[Mutant]:
    """`count` of the list, by the hash of a commit: the same wherever that commit is tested."""
    return random.Random(commit).sample(list(mutants), min(count, len(mutants)))
