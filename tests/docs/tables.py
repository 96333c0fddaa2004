"""The tables of rpo_cli/docs/methods.md, from the registry: `python -m tests.docs.tables` writes them.

Each stands between `<!-- table: NAME -->` and `<!-- end -->`.
"""

import re
from collections.abc import Callable, Iterator

from rpo_cli import registry
from rpo_cli.cli.list import item_of, names_of
from rpo_cli.recipes.training import NUMBERS, Number
from tests.docs.pages import DOCS

PAGE = DOCS / "methods.md"
SALESFORCE = "logits per 2 units of denoising error, errors as means over C,H,W (Salesforce's β)"


def methods(online: bool) -> Iterator[str]:
    """A row of every method on pairs, or of those that sample pictures of their own."""
    yield "| method | what it is | needs | β and its unit |"
    yield "|---|---|---|---|"
    for name in names_of("objectives"):
        if (name.name in registry.online_objectives) == online:
            needs = name.needs.partition("; beta in")[0]
            yield f"| `{name.name}` | {name.summary} | {needs} | {beta(name.name)} |"


def beta(name: str) -> str:
    told = str(item_of("objectives", name).get("beta", ""))
    if not told:
        return "none"
    number, _, unit = told.partition(" ")
    return f"{number}, {'S' if unit == SALESFORCE else unit}"


def numbers() -> Iterator[str]:
    """A row of every family, method and kind of tuning for which somebody has published numbers."""
    yield "| family | method | tuned | β | learning rate | warm-up | dropout | mirror | source |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for (family, method, full), row in NUMBERS.items():
        values = (row.beta, row.learning_rate, row.warmup, row.caption_dropout, row.flip)
        sources = "; ".join(dict.fromkeys(number.source for number in values if number is not None))
        cells = " | ".join(map(shown, values))
        yield f"| {family} | `{method}` | {'every weight' if full else 'LoRA'} | {cells} | {sources} |"


def shown(number: Number | None) -> str:
    if number is None:
        return "none"
    if isinstance(number.value, bool):
        return "yes" if number.value else "no"
    return f"{number.value:g}"


TABLES: dict[str, Callable[[], Iterator[str]]] = {
    "pairs": lambda: methods(False),
    "own pictures": lambda: methods(True),
    "numbers": numbers,
}


def filled(text: str) -> str:
    """A page with every table as it is now."""
    for name, table in TABLES.items():
        place = re.compile(rf"(<!-- table: {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        lines = "\n".join(table())
        text, count = place.subn(lambda found, lines=lines: f"{found[1]}\n{lines}\n\n{found[2]}", text)
        assert count == 1, f"{name}: {count} places in the page"
    return text


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
