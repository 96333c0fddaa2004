"""The imported rows of a run: run.json names the groups of rows that take part in it."""

from rpo_cli.line.context import Line

STAGE = "import"


def import_groups(line: Line) -> set[str]:
    """The groups of rows that imports have made."""
    return set(line.store.read_manifest().get("imports", {}))


def imported(line: Line, table: str) -> set[str]:
    """Keys of the imported rows of a table."""
    groups = import_groups(line)
    if not groups:
        return set()
    parts = [part for part in line.store.parts(table) if part.group in groups]
    return {key for part in parts for key in line.store.part_keys(table, part)}


def people_said(line: Line) -> dict[tuple[str, str], str]:
    """(sha256 of a picture, prompt_id) → what imported feedback says of it; the first by key of several."""
    keys = imported(line, "critiques")
    columns = ["critique_id", "image_sha256", "prompt_id", "text"]
    rows = line.store.columns("critiques", columns).to_pylist() if keys else []
    rows = sorted(
        (row for row in rows if row["critique_id"] in keys), key=lambda row: str(row["critique_id"])
    )
    return {(row["image_sha256"], row["prompt_id"]): row["text"] for row in reversed(rows)}


def generates(line: Line) -> bool:
    """Whether pictures are wanted from a generator: always, but in a run of imports without own prompts."""
    if line.planned is not None or not import_groups(line):
        return True
    return "prompts" in line.store.read_manifest()


def labelled_only(line: Line) -> bool:
    """Whether every pair carries the label that it came with, so that nothing needs a score."""
    s = line.settings.pairs
    return s.strategy == "imported" and s.labels == "source" and bool(import_groups(line))


def rejects_of(line: Line) -> dict[str, int]:
    """Reason → rows that imports have rejected."""
    counts: dict[str, int] = {}
    rows = line.store.columns("rejects", ["stage", "reason"]).to_pylist()
    for row in rows:
        if row["stage"] == STAGE:
            counts[row["reason"]] = counts.get(row["reason"], 0) + 1
    return counts
