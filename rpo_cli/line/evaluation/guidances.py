"""An evaluation at several guidances: every model once a guidance, beside the base at the same one."""

import math
from collections.abc import Sequence
from dataclasses import replace

from rpo_cli.errors import UsageError
from rpo_cli.line.evaluation.models import BASE, Contender, Setting

AT = "@"  # of no label that a user may give


def checked_guidances(asked: Sequence[float], own: float | None) -> tuple[float | None, ...]:
    """The guidances to sample at, in order and once each; the run's own where none is asked for.

    Raises:
        UsageError: a negative or infinite one, or what is no number.
    """
    for guidance in asked:
        if not math.isfinite(guidance) or guidance < 0:
            raise UsageError(
                f"--guidance {guidance:g}: a guidance is a finite number, 0 or more", "--guidance 1.5"
            )
    return tuple(dict.fromkeys(asked)) or (own,)


def at_guidances(
    models: Sequence[Contender],
    settings: Sequence[Setting],
    guidances: Sequence[float | None],
    own: float | None,
) -> tuple[list[Contender], list[Setting]]:
    """Base and models at each guidance, and the lines of the table: the base first, at every guidance.

    What is sampled at `own`, the run's guidance, keeps its label (and so its pictures of an evaluation that
    named none); LABEL@2 is sampled at 2. The base at the first guidance has nothing beside it, at any other
    the base at the first.
    """
    every: list[Contender] = []
    table: list[Setting] = []
    for guidance in guidances:
        named = {BASE: _label(BASE, guidance, own)} | {
            m.label: _label(m.label, guidance, own) for m in models
        }
        options = {} if guidance is None else {"generate.guidance": guidance}
        base, first = named[BASE], table[0].label if table else None
        every.append(Contender(base, {**options}))
        every += [replace(m, label=named[m.label], options={**m.options, **options}) for m in models]
        table.append(Setting(base, (base,), beside=first, guidance=guidance))
        for setting in settings:
            members = tuple(named[member] for member in setting.members)
            table.append(Setting(_label(setting.label, guidance, own), members, base, guidance))
    return every, table


def is_base(setting: Setting) -> bool:
    """Whether a line of the table is the base itself, at some guidance."""
    return setting.label.partition(AT)[0] == BASE


def _label(label: str, guidance: float | None, own: float | None) -> str:
    return label if guidance == own else f"{label}{AT}{str(guidance).removesuffix('.0')}"
