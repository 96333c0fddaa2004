"""The page of what was measured, and the tables that a bench writes into it between two marks."""

from pathlib import Path

PAGE = Path(__file__).parent / "README.md"


def marks(name: str) -> tuple[str, str]:
    return f"<!-- {name}: made by `make bench-{name}` -->", f"<!-- end of {name} -->"


def put(name: str, text: str) -> None:
    """Write `text` in the place of what stands between the marks of `name`."""
    begin, end = marks(name)
    before, rest = PAGE.read_text(encoding="utf-8").split(begin)
    PAGE.write_text(f"{before}{begin}\n\n{text}\n\n{end}{rest.split(end)[1]}", encoding="utf-8")


def between(name: str) -> str:
    """What stands there."""
    begin, end = marks(name)
    return PAGE.read_text(encoding="utf-8").split(begin)[1].split(end)[0].strip()
