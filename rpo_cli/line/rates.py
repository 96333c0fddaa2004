"""How fast each stage was when it last ran here: RUN/logs/rates.json, beside the rows and never in them."""

import json
import math

from rpo_cli.store import Store

PLACE = "logs/rates.json"


def keep_rate(store: Store, stage: str, rate: float) -> None:
    """Remember rows per second of a stage, e.g. "generate" or "score clip"."""
    known = {**rates(store), stage: float(f"{rate:.4g}")}
    store.files.write(PLACE, (json.dumps(known, indent=1, sort_keys=True) + "\n").encode())


def rates(store: Store) -> dict[str, float]:
    """Stage → rows per second; {} when none is known."""
    if not store.files.exists(PLACE):
        return {}
    try:
        found = json.loads(store.files.read(PLACE))
    except ValueError:
        return {}
    known = found if isinstance(found, dict) else {}
    return {
        str(stage): float(rate)
        for stage, rate in known.items()
        if isinstance(rate, int | float) and math.isfinite(rate) and rate > 0
    }


def rate_of(known: dict[str, float], stage: str) -> float | None:
    """Rows per second of a step; one that runs several models one after the other takes its mean pace."""
    mine = [rate for name, rate in known.items() if name.partition(" ")[0] == stage]
    return len(mine) / sum(1 / rate for rate in mine) if mine else None
