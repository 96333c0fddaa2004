"""Where a training begins that goes on from another one; `start.py` acts on it."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Start:
    """Where a training begins that goes on from another one.

    Attributes:
        adapter: LoRA folder of the policy's first weights; None: those of the model.
        reference: LoRA folder of what the loss is relative to; None: the model without adapters.
        identity: what tells it from every other start.
        keep_reference: write the reference as it is at the end to OUT/reference, for the next training.
    """

    adapter: Path | None
    reference: Path | None
    identity: str
    keep_reference: bool = False
