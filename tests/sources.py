"""What importers make of a source, for tests that ask nothing of a run."""

from rpo_cli.exchange.incoming import Bad, Entry, Options
from rpo_cli.line.imports.opening import _found as detect


def read(path, format=None, **options):
    """(format, entries and bad rows) of a source."""
    name, source = detect(path, format, Options(asked=format is not None, **options))
    return name, list(source.read(0))


def prompts(entries):
    return [entry.prompt for entry in entries if isinstance(entry, Entry)]


def reasons(entries):
    return {entry.row: entry.reason for entry in entries if isinstance(entry, Bad)}


def votes(entries):
    return [
        (vote.choice, vote.share) for entry in entries if isinstance(entry, Entry) for vote in entry.votes
    ]
