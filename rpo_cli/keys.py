"""Keys and seeds of rows: hashes of what determines them, never counters."""

import hashlib
import json
from typing import Any

KEY_VERSION = 1  # raised only where every key must become another
# made once: keys are many, and `json.dumps` would make an encoder for each
_JSON = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal values give equal text."""
    return _JSON.encode(value)


def content_key(*parts: Any) -> str:
    """The key of a row: 32 hex digits of SHA-256 over the canonical JSON of `parts`."""
    return hashlib.sha256(canonical_json([KEY_VERSION, *parts]).encode()).hexdigest()[:32]


def seen_as(sha256: str, decoding: str | None) -> str:
    """What a key says of a picture: its bytes, and how they are decoded where colours are converted."""
    return sha256 if decoding is None else f"{sha256} {decoding}"


def row_seed(run_seed: int, *parts: Any) -> int:
    """A row's own seed in [0, 2**31), from the run's seed and what the row is; never from a counter."""
    digest = hashlib.sha256(canonical_json([run_seed, *parts]).encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1
