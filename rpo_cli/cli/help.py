"""Help in panels: about ten options in sight, all of them by --help-all. Plain text.

To add an option: its name into PANELS (else it stands under Advanced); of a command that has more than MOST
options also into IN_SIGHT, if an ordinary call gives it.
"""

import sys
from typing import Any, NamedTuple

from typer.core import TyperCommand

from rpo_cli.cli.output import write

ALL = "--help-all"
NAMES = ["-h", "--help"]
ARGUMENTS = "rpo arguments"  # where a call keeps its words, beside what typer keeps there
MOST = 12  # options in sight of one command
LAST = "Advanced"
# panel → options, the panels in the order in which they stand; "train-steps" is --steps of train alone
PANELS = {
    "Common": """
        help version json quiet preset config set unset name changed seed dry-run out install-completion
        show-completion
    """,
    "Data": """
        prompts column encoding delimiter quoting map limit dataset labels judge-labels generator critic
        editor reward model adapter mix images format split license withdraw until steps guidance
        image-guidance negative-prompt
        width height lora images-per-prompt template single-turn max-instructions mode edits-per-image
        counter-edits strength strategy edits min-margin min-agreement min-change max-change
        min-hash-distance select-by keep-reversed max-pairs-per-prompt val-fraction use-verdicts measure
        prompt flaw kind margin-below margin-above gate sort sheet
        public summary reviewer repeat prune compact key
    """,
    "Objective": """
        method beta beta-from suggest-beta link pair-weight label-smoothing soft-labels sft-weight
        group-size list-size clip ratio-base reference-every reference-draws embedder full rank
        text-encoder learning-rate train-steps sweep-steps rounds global-batch seeds
    """,
    "Hardware": """
        device workers threads processes engine batch-size dtype in-flight buckets shard probe
        prepare port host critic-url editor-url key-variable server-python token-env price-per-hour
    """,
    LAST: """
        backend reward-backend scheduler controlnet area attempts log export accept-license
        allow-training-prompts allow-missing retry-rejects rehash
    """,
}
PANEL_OF = {name: panel for panel, names in PANELS.items() for name in names.split()}
# command → what an ordinary call gives; the others show all that they have
IN_SIGHT = {
    "run": "prompts limit generator critic editor reward until device preset set dry-run",
    "plan": "prompts limit generator critic editor reward model until preset config set",
    "generate": "prompts limit generator images-per-prompt steps guidance batch-size device "
    "preset set dry-run",
    "import": "format split images column map limit withdraw preset set",
    "critique": "critic critic-url template single-turn max-instructions backend batch-size device "
    "preset set dry-run",
    "edit": "editor mode edits-per-image steps guidance image-guidance batch-size device "
    "preset set dry-run",
    "build-pairs": "reward strategy min-margin min-agreement select-by val-fraction use-verdicts device "
    "preset set dry-run",
    "pairs": "prompt flaw kind reward margin-below margin-above gate sort limit sheet json",
    "report": "prompt flaw kind reward margin-below margin-above gate limit out price-per-hour",
    "train": "method beta steps learning-rate rank dataset name batch-size device set dry-run",
    "sweep": "method beta learning-rate seeds steps name prompts reward measure set dry-run",
    "eval": "adapter prompts limit images-per-prompt guidance reward measure judge-labels name device set",
}


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


class Row(NamedTuple):
    """A line of help: the option, its panel, how it is typed, and what it says."""

    name: str
    panel: str
    typed: str
    text: str


class Command(TyperCommand):
    """A command whose help stands in panels."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Print the whole help where it is asked for, else read the line, old names of options too."""
        if ALL in (args[: args.index("--")] if "--" in args else args):
            ctx.meta[ALL] = True
            write(f"{self.get_help(ctx)}\n", sys.stdout)
            ctx.exit()
        return super().parse_args(ctx, up_to_date(str(self.name), args))

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the arguments, the panels, and how many options are out of sight."""
        arguments = [param for param in self.get_params(ctx) if param.param_type_name == "argument"]
        if records := [record for param in arguments if (record := param.get_help_record(ctx))]:
            with formatter.section("Arguments"):
                formatter.write_dl(records)
        found = rows(self, ctx)
        shown = found if ALL in ctx.meta else in_sight(str(self.name), found)
        width = min(30, max(len(row.typed) for row in shown))  # one for all panels
        for panel in PANELS:
            if lines := [(row.typed.ljust(width), row.text) for row in shown if row.panel == panel]:
                with formatter.section(panel):
                    formatter.write_dl(lines)
        if hidden := len(found) - len(shown):
            formatter.write_paragraph()
            formatter.write_text(f"{hidden} more: {ctx.command_path} {ALL}")


def rows(command: Any, context: Any) -> list[Row]:
    """Every option of a command that is not hidden, in its own order."""
    found = []
    for param in command.get_params(context):
        record = param.get_help_record(context) if param.param_type_name == "option" else None
        if record is not None:
            name = max(param.opts, key=len).lstrip("-")
            found.append(Row(name, panel_of(command.name, name), *record))
    return found


def panel_of(command: str, option: str) -> str:
    """Where an option stands; one that no table names is for those who look for it."""
    return PANEL_OF.get(f"{command}-{option}", PANEL_OF.get(option, LAST))


def in_sight(command: str, found: list[Row]) -> list[Row]:
    """What an ordinary call gives; all where that is little, or where nobody has said what that is."""
    if len(found) <= MOST or command not in IN_SIGHT:
        return found
    wanted = {*IN_SIGHT[command].split(), "help"}
    return [row for row in found if row.name in wanted]
