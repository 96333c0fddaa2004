"""What stands beside a training: where it begins, what measures likeness, what scores its samples."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from rpo_cli.protocols import Reward


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


@dataclass(frozen=True)
class Embedder:
    """The CLIP model that tells how alike pictures are: folder or hub id, revision, hash or commit."""

    model: str
    revision: str | None
    identity: str


@dataclass(frozen=True)
class Rewards:
    """The rewards of a training, before they are loaded.

    Attributes:
        identities: name → everything that determines a score: model, template, number format.
        build: a torch device → the rewards by name, set up.
        batch_size: pictures in one call.
    """

    identities: Mapping[str, str]
    build: Callable[[str], Mapping[str, Reward]]
    batch_size: int
