"""The rows of a run directory, one frozen pydantic model a table, and the keys and seeds of rows.

A key is a hash of everything that determines the row, never a counter.
"""

import hashlib
import json
from collections.abc import Callable
from json.encoder import encode_basestring
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

KEY_VERSION = 1  # raised only where every key must become another
# made once: keys are many, and `json.dumps` would make an encoder for each
_JSON = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal values give equal text."""
    return _JSON.encode(value)


def content_key(*parts: Any) -> str:
    """The key of a row: 32 hex digits of SHA-256 over the canonical JSON of `parts`."""
    return hashlib.sha256(canonical_json([KEY_VERSION, *parts]).encode()).hexdigest()[:32]


HOLE: Any = object()  # in `template`: a part that every row has its own of


def template(*parts: Any) -> Callable[..., bytes]:
    """Keys of many rows that differ in their HOLEs: a function of those parts → 16 bytes.

    `template(*parts)(*own).hex()` is `content_key` of the parts with `own` in the holes; what all rows have
    in common is encoded once.
    """
    digest = _digests(KEY_VERSION, *parts)
    return lambda *own: digest(*own)[:16]


def seed_template(run_seed: int, *parts: Any) -> Callable[..., int]:
    """The same of `row_seed`."""
    digest = _digests(run_seed, *parts)
    return lambda *own: _seed_of(digest(*own))


def _digests(first: int, *parts: Any) -> Callable[..., bytes]:
    """SHA-256 over the canonical JSON of a list whose HOLEs are filled at every call."""
    texts, fixed = [], f"[{first}"
    for part in parts:
        if part is HOLE:
            texts.append(f"{fixed},")
            fixed = ""
        else:
            fixed += f",{canonical_json(part)}"
    end = f"{fixed}]"

    def digest(*own: Any) -> bytes:
        said = "".join([text + _encoded(value) for text, value in zip(texts, own, strict=True)])
        return hashlib.sha256((said + end).encode()).digest()

    return digest


def _encoded(value: Any) -> str:
    """What `canonical_json` gives, of the usual kinds without its detours."""
    kind = type(value)
    if kind is str:
        return encode_basestring(value)
    if kind is int:
        return repr(value)
    return f"[{','.join(map(_encoded, value))}]" if kind is tuple else canonical_json(value)


def seen_as(sha256: str, decoding: str | None) -> str:
    """What a key says of a picture: its bytes, and how they are decoded where colours are converted."""
    return sha256 if decoding is None else f"{sha256} {decoding}"


def row_seed(run_seed: int, *parts: Any) -> int:
    """A row's own seed in [0, 2**31), from the run's seed and what the row is; never from a counter."""
    return _seed_of(hashlib.sha256(canonical_json([run_seed, *parts]).encode()).digest())


def _seed_of(digest: bytes) -> int:
    return int.from_bytes(digest[:4], "big") >> 1


FORMAT_VERSION = 4  # of run.json; an older run is read, see `line/formats.py`
PART_VERSION = 2  # of the parts of tables
EDITED = ("edit", "counter")  # kinds of pair whose side b is an edit of side a
TRUNCATED = "tokenizer → tokens beyond what its text encoder reads; None: all is read, or it is not known"


class Row(BaseModel):
    """Base of all rows: frozen, and a wrong field is an error. The first field is the key."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    table: ClassVar[str]

    @property
    def key(self) -> str:
        return str(getattr(self, next(iter(type(self).model_fields))))


class ImageData(BaseModel):
    """An encoded image in the layout that `datasets` reads as an Image feature."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    bytes: bytes
    path: str | None = None


class Prompt(Row):
    table = "prompts"
    prompt_id: str
    prompt: str
    source: str = Field(description="where the prompt came from: a file name, a dataset, 'option'")


class Image(Row):
    """A generated or imported picture."""

    table = "images"
    image_id: str
    prompt_id: str
    prompt: str
    index: int = Field(description="counts the images of one prompt; of an import: the source's row")
    seed: int
    sha256: str = Field(description="of the encoded bytes; downstream keys hash this, not the id")
    width: int
    height: int
    image: ImageData
    batch_size: int = Field(description="the batch shape that was computed, padding included")
    settings: str = Field(description="canonical JSON of every setting that is in the key")
    environment: str = Field(description="canonical JSON: library versions, device; not in the key")
    kind: Literal["generated", "import"] = "generated"
    source_id: str | None = Field(default=None, description="what its source calls an imported picture")
    source_model: str | None = Field(default=None, description="what its source says has made it")
    against: str | None = Field(default=None, description="sha256 of the winner that it is to lose to")
    decoding: str | None = Field(default=None, description="how its colours become sRGB, if they are not")
    profile: str | None = Field(default=None, description="another colour profile in its file, if any")
    several: bool | None = Field(default=None, description="its file holds more frames or pages")
    truncated: dict[str, float] | None = Field(default=None, description=TRUNCATED)


class Flaw(BaseModel):
    """One thing in the picture that does not match its prompt or is badly made."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    aspect: str
    detail: str


class Critique(Row):
    table = "critiques"
    critique_id: str
    image_id: str
    image_sha256: str = Field(description="of the picture; tables join on it, not on image_id")
    prompt_id: str
    prompt: str
    text: str = Field(description="the free-text critique (turn 1)")
    flaws: tuple[Flaw, ...]
    instructions: tuple[str, ...] = Field(description="0 to 3 short edits; empty: nothing is wrong")
    reply: str = Field(description="the raw reply that was parsed (turn 2)")
    attempt: int = Field(description="0 is the greedy first attempt")
    seed: int
    batch_size: int
    settings: str
    environment: str
    scores: dict[str, float] | None = Field(
        default=None, description="aspect → 1 (bad) to 5, of a style with a rubric"
    )
    cleaned: tuple[str, ...] | None = Field(
        default=None, description="what was cut away or left out, one word for each; None: nothing"
    )
    raw_text: str | None = Field(default=None, description="turn 1 as it came, where it was cleaned")


class Edit(Row):
    """One attempt to mend one picture, or (`purpose` counter) to make it worse, or (floor) neither.

    A counter-edit follows an instruction that a critique of another prompt gave. An edit of the floor
    follows an empty one: what it changes is what the editor changes by itself.
    """

    table = "edits"
    edit_id: str
    image_id: str
    image_sha256: str = Field(description="of the picture that was edited; tables join on it")
    critique_id: str = Field(description="of the picture; it did not ask for a counter-edit; floor: empty")
    prompt_id: str
    prompt: str
    instruction: str
    attempt: int = Field(description="counts attempts at one instruction: seed x guidance grid")
    guidance: float | None = Field(description="None: the editor takes none")
    image_guidance: float | None = Field(description="None: the editor takes none")
    seed: int
    sha256: str
    width: int
    height: int
    image: ImageData
    batch_size: int
    settings: str
    environment: str
    purpose: Literal["answer", "counter", "floor"] = "answer"
    truncated: dict[str, float] | None = Field(default=None, description=TRUNCATED)


class RewardScore(Row):
    table = "rewards"
    score_id: str
    subject: Literal["image", "edit"]
    subject_id: str = Field(description="image_id or edit_id")
    subject_sha256: str = Field(description="of the scored picture; tables join on it and prompt_id")
    prompt_id: str
    reward: str
    score: float
    batch_size: int
    settings: str
    environment: str
    truncated: bool | None = Field(
        default=None, description="the prompt had more tokens than the reward reads; None: not known"
    )
    spread: float | None = Field(
        default=None, description="standard deviation that the reward gives with its score; None: none"
    )


class Reject(Row):
    """A row that stopped, kept with its reason. Final for its key until `--retry-rejects`."""

    table = "rejects"
    key_of: str = Field(description="the key the row would have had")
    stage: str
    input_id: str = Field(description="key of the row it was to be made from")
    reason: str = Field(description="one of a few words: bad_reply, black_image, corrupt_image, ...")
    detail: str = Field(description="the raw reply or message, at most 2,000 characters")
    settings: str
    cleaned: tuple[str, ...] | None = Field(
        default=None, description="what was done to a reply before; see `Critique`"
    )


class Preference(Row):
    """Two imported pictures of one prompt and which of them their source prefers."""

    table = "preferences"
    preference_id: str
    prompt_id: str
    prompt: str
    a_id: str = Field(description="image_id of the first picture")
    b_id: str
    a_sha256: str
    b_sha256: str
    choice: Literal["a", "b", "tie"] | None = Field(description="None: not answered")
    judged_by: Literal["human", "source"] = Field(description="source: nobody knows who or what judged")
    row: int = Field(description="row of the source, from 0")
    source_id: str | None = Field(description="what the source calls this judgement")
    settings: str
    share: float | None = Field(
        default=None, description="of the votes that prefer a, where the source tells it"
    )
    standing: float | None = Field(
        default=None, description="of picture a alone (b is the same): better ones higher"
    )
    rich: str | None = Field(default=None, description="JSON: what stood beside it in a dataset of rpo")


class Claim(Row):
    """What one source of imported rows says from one of its rows on (`line/imports/ledger.py`).

    Of two claims of a source that start at the same row the one of the higher generation counts.
    """

    table = "claims"
    claim_id: str
    source: str = Field(description="id of the source in run.json")
    start: int = Field(description="the first row of the source that this speaks of")
    upto: int = Field(description="the rows before this one have been looked at")
    ended: bool = Field(description="the source has no rows beyond these")
    generation: int
    content: str = Field(description="hash of the files that the rows were read from; empty: not known")
    rows: tuple[int, ...] = Field(description="the rows of the source that were taken")
    digests: tuple[str, ...] = Field(description="of each of these rows: hash of the keys that it gave")
    prompts: tuple[str, ...] = Field(description="keys that the rows gave, each once, as those below")
    images: tuple[str, ...]
    critiques: tuple[str, ...]
    preferences: tuple[str, ...]
    rejects: tuple[str, ...]


class Comparison(Row):
    """How much two pictures differ. It hangs on nothing but their bytes, so it is kept between builds."""

    table = "comparisons"
    comparison_id: str
    prompt_id: str = Field(description="of the pair that it was measured for, so that rows lie in order")
    a_sha256: str
    b_sha256: str
    change: float = Field(description="see `Pair`")
    hash_distance: int


class Pair(Row):
    """A candidate pair with its gate values, verdict and reason; accepted ones make the dataset.

    Side a is the original (kinds edit and counter), the given winner (self) or the picture of lower index
    (other kinds).
    Kinds import and human are pairs that came with a label, of people (human) or of unknown origin.
    """

    table = "pairs"
    pair_id: str
    prompt_id: str
    prompt: str
    pair_kind: Literal["edit", "counter", "seeds", "self", "import", "human"]
    a_id: str = Field(description="image_id of side a")
    b_id: str = Field(description="edit_id (kinds edit, counter) or image_id of side b")
    a_sha256: str
    b_sha256: str
    critique_id: str | None = Field(description="that asked for the edit; None: none of this picture did")
    instruction: str | None
    tries: int = Field(description="how many attempts side b was chosen from")
    rewards_a: dict[str, float]
    rewards_b: dict[str, float]
    margins: dict[str, float] = Field(
        description="per reward, (b - a) / std over seeds of one prompt, or as a win rate"
    )
    margin: float = Field(description="mean of margins; > 0: b is better")
    agreement: float = Field(description="share of rewards whose sign is the margin's, in [0, 1]")
    dispersion: float | None = Field(description="in [0, 1], 1 = coin flip (arXiv:2405.14953)")
    change: float = Field(description="mean absolute pixel difference of a and b, in [0, 1]")
    hash_distance: int = Field(description="Hamming distance of 64-bit perceptual hashes")
    verdict: Literal["accepted", "dropped"]
    reason: str = Field(description="edit_won, reversed, counter_lost, ... or the gate that dropped it")
    winner: Literal["a", "b"] | None
    split: Literal["train", "validation"]
    duplicate_of: str | None = None
    label: Literal["a", "b", "tie"] | None = Field(
        default=None, description="of an imported pair: the majority of the judgements it came with"
    )
    share: float | None = Field(
        default=None, description="of an imported pair: the share of the judgements for a, in [0, 1]"
    )
    rich: str | None = Field(
        default=None, description="of an imported pair: JSON of what stood beside it in a dataset of rpo"
    )
    people: Literal["a", "b", "tie", "reject"] | None = Field(
        default=None, description="what most reviewers of `rpo review` say; None: nobody has judged it"
    )
    floor: float | None = Field(
        default=None,
        description="`change` that the editor of side b makes asked for nothing; None: unknown",
    )


class Verdict(Row):
    """An entry of a reviewer in `rpo review`: of one showing of a pair the last entry counts.

    Rows are never rewritten, so an undo is an entry of its own. There is no time in it, as in no row.
    """

    table = "verdicts"
    verdict_id: str
    pair_id: str
    choice: Literal["a", "b", "tie", "reject", "skip", "undo"] = Field(
        description="reject: neither picture is of use; undo: what was said of this showing counts no more"
    )
    reviewer: str
    number: int = Field(default=0, description="counts the entries of the reviewer")
    prompt_id: str = ""
    a_sha256: str = Field(default="", description="of the pictures that were judged; they outlive a pair")
    b_sha256: str = ""
    left: Literal["a", "b"] | None = Field(default=None, description="the side that stood on the left")
    repeat: bool = Field(default=False, description="the second showing of a pair, its sides swapped")


ROWS = (Prompt, Image, Critique, Edit, RewardScore, Reject, Preference, Claim, Comparison, Pair, Verdict)
TABLES: dict[str, type[Row]] = {row.table: row for row in ROWS}
