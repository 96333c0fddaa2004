"""What a training is made from: settings, data, model, places; where it begins; its embedder or rewards."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rpo_cli.config import OnlineSettings, TrainSettings
from rpo_cli.protocols import Reward

Prompts = Sequence[tuple[str, str]]  # (prompt_id, prompt)


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


@dataclass(frozen=True)
class TrainInputs:
    """What a training on a dataset is made from.

    Attributes:
        dataset: a dataset folder (data/train-*.parquet, data/validation-*.parquet), or one of pictures that
            were judged one by one (`data/singles.py`).
        model: diffusers folder or hub id; `model_identity` is its commit or weight hash.
        out: RUN/train/<name>. `cache`: RUN/cache.
        seed: of this training, whatever `settings.seed` says.
        device: a torch device string or "auto".
        threads: of the CPU, for each process; 0: as many as it has.
        embedder: for methods that compare pictures of several prompts.
        start: of a training that goes on from another one; None: from the model.
        dataset_identity: what tells the dataset from others; "": nothing is kept under it.
    """

    settings: TrainSettings
    dataset: Path
    model: str
    revision: str | None
    model_identity: str
    out: Path
    cache: Path
    seed: int
    device: str
    threads: int = 0
    embedder: Embedder | None = None
    start: Start | None = None
    dataset_identity: str = ""


@dataclass(frozen=True)
class OnlineInputs:
    """What a training on pictures of the policy's own is made from; other fields as of `TrainInputs`.

    Attributes:
        online: with `steps` and `guidance`.
        prompts: (prompt_id, prompt), in any order.
        prompts_identity: what tells prompts and negative prompt from others; "": nothing is kept under it.
    """

    settings: TrainSettings
    online: OnlineSettings
    prompts: Prompts
    rewards: Rewards
    model: str
    revision: str | None
    model_identity: str
    out: Path
    seed: int
    device: str
    negative_prompt: str = ""
    threads: int = 0
    prompts_identity: str = ""
