"""Options that have another name now: the old one goes on working for one version, and says so."""

import sys

from rpo_cli.cli.output import write

# command → old option → the new one
OLD = {
    "import": {"--rows": "--limit"},
    "report": {"--shown": "--limit"},
    "train": {"--plan": "--dry-run"},
    "eval": {"--dataset": "--judge-labels", "--seeds": "--images-per-prompt"},
}


def up_to_date(command: str, words: list[str]) -> list[str]:
    """A command line with the new names; each old one is told on stderr, once."""
    table = OLD.get(command, {})
    last = words.index("--") if "--" in words else len(words)
    options = [word.partition("=") for word in words[:last]]
    for old in dict.fromkeys(name for name, _, _ in options if name in table):
        write(f"`{old}` is now `{table[old]}`; the old name goes in the next version\n", sys.stderr)
    return [table.get(name, name) + equals + value for name, equals, value in options] + words[last:]
