"""What stood beside an imported pair in a dataset of rpo, told again in the next dataset."""

import json
from collections.abc import Iterable
from typing import Any

from rpo_cli.records import Pair, canonical_json

# of the pair as it was: kept where this run has no scores of its own
SCORED = ("agreement", "dispersion")
KEPT = ("instruction", "edit_strength", "tries", "reversed")


def with_rich(row: dict[str, Any], pair: Pair, b_stands: int) -> dict[str, Any]:
    """A row of the dataset with what its pair came with, where the run says nothing of its own.

    Args:
        b_stands: the side, 0 or 1, that side b of the pair stands on.
    """
    assert pair.rich is not None
    rich = json.loads(pair.rich)
    places = {"a": 1 - b_stands, "b": b_stands}
    told = dict(row)
    for letter, n in places.items():
        for name in ("critique", "flaws"):
            told[f"{name}_{n}"] = _first(row[f"{name}_{n}"], rich.get(f"{name}_{letter}"))
        if not pair.rewards_a:
            told[f"rewards_{n}"] = rich.get(f"rewards_{letter}") or {}
    told |= {name: rich[name] for name in KEPT if name in rich}
    if not pair.rewards_a:
        told |= {name: rich[name] for name in SCORED if name in rich}
        same = rich.get("winner") == pair.winner
        told["margin"] = (rich.get("margin", 0.0) if same else -rich.get("margin", 0.0)) or 0.0
    if "edited" in rich:
        told["edited"] = places[rich["edited"]]
    said = rich.get("human_label")
    told["human_label"] = _first(row["human_label"], str(places[said]) if said in places else said)
    before = {"imported": {**rich.get("provenance", {}), "pair_kind": rich.get("pair_kind")}}
    told["provenance"] = canonical_json({**json.loads(row["provenance"]), **before})
    return told


def _first(own: Any, theirs: Any) -> Any:
    return theirs if own is None else own


def rewards_of(pairs: Iterable[Pair]) -> set[str]:
    """Names of the rewards whose scores pairs of this run have only from a dataset."""
    found: set[str] = set()
    for pair in pairs:
        if pair.rich is not None and not pair.rewards_a:
            rich = json.loads(pair.rich)
            found |= set(rich.get("rewards_a") or {}) | set(rich.get("rewards_b") or {})
    return found
