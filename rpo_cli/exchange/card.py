"""The dataset card: a YAML header that makes the folder load, a page that says what is in it and why."""

import html
import math
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import yaml

from rpo_cli.adapters import is_adapter
from rpo_cli.exchange.dataset import PairNumbers, SplitFiles
from rpo_cli.model_files import is_single_file
from rpo_cli.single_file import single_file

if TYPE_CHECKING:
    from rpo_cli.exchange.places import Place

REASONS = {
    "edit_won": "the edit beat its original",
    "reversed": "the original beat its edit",
    "counter_lost": "the original beat its edit by an instruction of another prompt",
    "counter_won": "an edit that was to be the loser scores better",
    "seed_won": "one seed beat another",
    "given_won": "the given winner, against a picture of the policy",
    "loser_won": "the picture made to lose scores at least as well",
    "unscored": "a reward is missing for a side",
    "unchanged": "the edit changed too little",
    "below_floor": "it changed no more than its editor does when asked for nothing",
    "too_different": "the two pictures differ too much",
    "near_duplicate": "their perceptual hashes are too close",
    "inside_band": "the margin is too small to call",
    "rewards_disagree": "the rewards disagree on the winner",
    "pareto_tie": "no reward prefers a side clearly while none disagrees",
    "duplicate": "the same two pictures stand in another pair",
    "prompt_full": "the prompt has enough pairs with wider margins",
    "corrupt_image": "a picture cannot be read",
    "label_kept": "the label that came with the pair",
    "label_confirmed": "the rewards agree with the label that came with the pair",
    "relabelled": "the rewards contradict the label that came with the pair, or it had none",
    "tie": "its judges prefer neither",
    "unlabelled": "it came without a label",
    "reviewed": "reviewers judged it",
    "people_disagree": "reviewers prefer the other side",
    "people_tie": "reviewers prefer neither",
    "people_reject": "reviewers find neither of use",
}


def floor_lines(floors: Sequence[float]) -> list[str]:
    """What the editor changes by itself, at each of its guidances; nothing where that is not known."""
    told = ", ".join(f"{floor:.3g}" for floor in floors)
    text = (
        f"Asked for nothing, the editor changes a picture by {told} (mean difference of pixels, 0 to 1): "
        "an edit that changed no more is `below_floor`."
    )
    return [text] if floors else []


SIZES = (
    (1_000, "n<1K"),
    (10_000, "1K<n<10K"),
    (100_000, "10K<n<100K"),
    (1_000_000, "100K<n<1M"),
    (10_000_000, "1M<n<10M"),
)
TAGS = ("text-to-image", "preference", "image-editing", "diffusion-dpo", "synthetic", "rpo")
PICTURES = ("jpg_0", "jpg_1")
MARK = "<!-- rpo build "

COUNTER = (
    "In a pair of kind `counter` the edit was to be the loser: its `instruction` is one that a critique of "
    "another prompt gave, and no critique of this picture asked for it."
)
REVIEWED = "`human_label` is what most reviewers of a pair say; see `use_verdicts`"
UNITS = {
    "sd": "Margins are in standard deviations of each reward over the seeds of one prompt, a scale that "
    "belongs to this generator and these prompts.",
    "win-rate": "Margins are how often two seeds of one prompt differ by less than the pair does, with the "
    "sign of its difference; that belongs to this generator and these prompts.",
}
LIMITS = (
    "A label says which of two pictures these rewards prefer, not which one a person would choose.",
    "Where an edit was chosen from several attempts (`tries` > 1), the reward that chose it is flattered; "
    "the other rewards are the check.",
)


@dataclass(frozen=True)
class Facts:
    """Everything the card says.

    Attributes:
        build: fingerprint of the inputs, kept in the card to know an unchanged build.
        pairs: of every candidate, dropped ones too.
        models: role → name and identity.
        counts: what there is of each table, in the order of the line.
        rejects: stage → reason → rows.
        sources: where prompts came from → prompts.
        scales: reward → (standard deviation that margins are in, what it was taken over).
        settings: name → value of the pair settings.
        notes: what the preset has to say about itself.
        imports: source, format and license of each source of imported rows.
        floors: what the editor changes when asked for nothing, by its guidances.
    """

    build: str
    pairs: PairNumbers
    splits: Sequence[SplitFiles]
    columns: pa.Schema
    models: Mapping[str, str]
    counts: Mapping[str, int]
    rejects: Mapping[str, Mapping[str, int]]
    sources: Mapping[str, int]
    scales: Mapping[str, tuple[float, str]]
    settings: Mapping[str, Any]
    notes: Sequence[str] = ()
    license: str = "unknown"
    imports: Sequence[Mapping[str, str]] = ()
    floors: Sequence[float] = ()


def render(facts: Facts) -> str:
    """The whole card; equal facts give equal text."""
    parts = [
        f"---\n{header(facts)}---",
        *_summary(facts),
        *_origin_lines(facts),
        *_imported(facts),
        *_pair_counts(facts),
        *_margins(facts),
        *_splits(facts),
        *_limits(facts),
        f"{MARK}{' '.join([facts.build, *(name for split in facts.splits for name in split.files)])} -->",
    ]
    return "\n\n".join(parts) + "\n"


def built(card: str) -> tuple[str, tuple[str, ...]]:
    """The build that a card belongs to and its data files, from the card's last line; ("", ()) if none."""
    last = card.rstrip("\n").rpartition("\n")[2]
    if not (last.startswith(MARK) and last.endswith(" -->")):
        return "", ()
    build, *files = last.removeprefix(MARK).removesuffix(" -->").split()
    return build, tuple(files)


def header(facts: Facts) -> str:
    """YAML for the hub and for `datasets`: two configs over the same files, the one with bytes first."""
    total = sum(split.rows for split in facts.splits)
    files = [{"split": split.split, "path": split.pattern} for split in facts.splits]
    configs = [
        {"config_name": "pickapic", "default": True, "data_files": files},
        {"config_name": "viewer", "data_files": [dict(entry) for entry in files]},
    ]
    info = [
        {
            "config_name": "pickapic",
            "features": [feature(field, "binary") for field in facts.columns],
            **_sizes(facts),
        },
        {
            "config_name": "viewer",
            "features": [feature(field, "image") for field in facts.columns],
            **_sizes(facts),
        },
    ]
    said: dict[str, Any] = {
        "license": facts.license,
        "pretty_name": "Rich preference pairs",
        "task_categories": ["text-to-image"],
        "annotations_creators": ["machine-generated", *(["found"] if facts.imports else [])],
        "tags": list(TAGS),
        "size_categories": [next((name for bound, name in SIZES if total < bound), "n>10M")],
    }
    if facts.splits:
        said |= {"configs": configs, "dataset_info": info}
    return yaml.safe_dump(said, sort_keys=False, allow_unicode=True, width=1000)


def feature(field: pa.Field, picture: str) -> dict[str, Any]:
    """One column in the words of `datasets`' YAML."""
    if field.name in PICTURES:
        return {"name": field.name, "dtype": picture}
    if pa.types.is_struct(field.type):
        return {"name": field.name, "struct": [feature(inner, picture) for inner in field.type]}
    if pa.types.is_list(field.type):
        return {"name": field.name, "list": str(field.type.value_type)}
    return {"name": field.name, "dtype": {"double": "float64"}.get(str(field.type), str(field.type))}


def _sizes(facts: Facts) -> dict[str, Any]:
    splits = [{"name": s.split, "num_bytes": s.bytes, "num_examples": s.rows} for s in facts.splits]
    size = sum(split.bytes for split in facts.splits)
    return {"splits": splits, "download_size": size, "dataset_size": size}


def _summary(facts: Facts) -> list[str]:
    total = sum(split.rows for split in facts.splits)
    taken = "generated or imported" if facts.imports else "generated"
    voted = "see below who judged" if facts.imports else "no person voted"
    voted = REVIEWED if facts.counts.get("verdicts") else voted
    text = (
        f"{total:,} preference pairs for text-to-image models, made by `rpo`: pictures are {taken}, a "
        "critic says what is wrong with each and how to mend it, an editor mends it, and rewards decide "
        "whether the edit or the original is better. Each pair carries the critique, the instruction and "
        "the scores."
    )
    load = (
        "```python\n"
        "from datasets import load_dataset\n\n"
        'pairs = load_dataset("PATH")              # jpg_0, jpg_1 as bytes, as in Pick-a-Pic v2\n'
        'pictures = load_dataset("PATH", "viewer")  # the same files, decoded\n'
        "```"
    )
    columns = (
        "The winner is the side whose `label` is 1; it stands on either side by a fair coin thrown by the "
        "pair's id. `edited` is the side of the edit (empty for pairs of two seeds), `reversed` says that "
        "the edit lost, `margin` is winner minus loser, `provenance` is JSON. There are no ties. "
        f"`created_at` and the urls are empty, `user_id` is 0: {voted}."
    )
    if any(kind == "counter" for _, kind, _ in facts.pairs.counts):
        columns += f" {COUNTER}"
    return ["# Rich preference pairs", text, load, columns]


def _origin_lines(facts: Facts) -> list[str]:
    models = [(plain(role), code(name)) for role, name in facts.models.items()]
    counts = [(plain(table), f"{count:,}") for table, count in facts.counts.items()]
    rejects = [
        (plain(stage), code(reason), f"{count:,}")
        for stage, reasons in facts.rejects.items()
        for reason, count in sorted(reasons.items())
    ]
    sources = [(code(source), f"{count:,}") for source, count in sorted(facts.sources.items())]
    settings = [(code(name), code(value)) for name, value in facts.settings.items()]
    return [
        "## How it was made",
        _table(("role", "model"), models),
        _table(("stage", "rows"), counts),
        _table(("rejected in", "reason", "rows"), rejects) if rejects else "No row was rejected.",
        _table(("source of prompts", "prompts"), sources),
        _table(("setting", "value"), settings),
    ]


def _imported(facts: Facts) -> list[str]:
    """Other people's data that this dataset holds; nothing where there is none."""
    if not facts.imports:
        return []
    rows = [(code(item["source"]), code(item["format"]), code(item["license"])) for item in facts.imports]
    text = (
        "Pictures of these sources are in the pairs, and so are their judgements: `pair_kind` is `human` "
        "where people judged the pair and `import` where the source does not say who did; `human_label` is "
        "the side that people preferred. Their licences apply beside those of the models."
    )
    return ["## Imported data", _table(("source", "format", "licence"), rows), text]


def _pair_counts(facts: Facts) -> list[str]:
    rows = [
        (verdict, kind, code(reason), REASONS.get(reason, ""), f"{count:,}")
        for (verdict, kind, reason), count in sorted(facts.pairs.counts.items())
    ]
    table = _table(("verdict", "kind", "reason", "meaning", "pairs"), rows)
    return ["## Pairs", table, *floor_lines(facts.floors)]


def _margins(facts: Facts) -> list[str]:
    widths = sorted(facts.pairs.widths.items())
    margins = [(code(reason), f"{len(values):,}", *_quantiles(values)) for reason, values in widths]
    rewards = []
    for reward, (sd, basis) in facts.scales.items():
        sides = facts.pairs.scores.get(reward, ((), ()))
        means = [f"{math.fsum(values) / len(values):.4g}" if values else "" for values in sides]
        rewards.append((code(reward), *means, f"{sd:.4g}", plain(basis)))
    return [
        "## Margins and rewards",
        _table(("accepted because", "pairs", "min", "25 %", "median", "75 %", "max"), margins),
        _table(("reward", "mean of winners", "mean of losers", "scale", "taken over"), rewards),
    ]


def _quantiles(values: Sequence[float]) -> list[str]:
    return [f"{value:.2f}" for value in np.quantile(values, [0, 0.25, 0.5, 0.75, 1])]


def _splits(facts: Facts) -> list[str]:
    rows = [(split.split, f"{split.rows:,}", f"{len(split.files):,}") for split in facts.splits]
    text = "By prompt, on a hash of its normalised text: no prompt stands on both sides."
    if "validation" not in {split.split for split in facts.splits}:
        text += " No pair fell to the validation split."
    return ["## Splits", _table(("split", "pairs", "files"), rows), text]


def _limits(facts: Facts) -> list[str]:
    unit = UNITS[facts.settings.get("calibration", "sd")]
    limits = (LIMITS[0], unit, *LIMITS[1:], *map(plain, facts.notes))
    said = "\n".join(f"- {text}" for text in limits)
    unknown = (
        "The licence is not stated: it follows from the models and prompts above."
        if facts.license == "unknown"
        else f"Licence: {code(facts.license)}."
    )
    return ["## Known limits", said, unknown]


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def code(value: Any, limit: int = 120) -> str:
    """Untrusted text as a code span that nothing in it can leave."""
    text = _one_line(str(value), limit).replace("`", "'").replace("|", "\\|")
    return f"`{text}`" if text else ""


def plain(text: str, limit: int = 1000) -> str:
    """Text as words: no markup of any kind."""
    safe = html.escape(_one_line(text, limit), quote=False)
    return "".join(f"\\{char}" if char in "\\`*_[]|#!" else char for char in safe)


def _one_line(text: str, limit: int) -> str:
    """White space runs as one space; control, format and other unprintable characters gone; clipped."""
    visible = "".join(char if unicodedata.category(char)[0] != "C" else " " for char in text)
    line = " ".join(visible.split())
    return line if len(line) <= limit else f"{line[: limit - 1]}…"


# --- licences ------------------------------------------------------------------------------------------

MAX_CARD = 1_000_000
# known by name, because a hub id has no card at hand: as their cards stated when this was written (those of
# cosxl, FLUX.1 and Qwen2.5-VL-3B from memory); who is missing here is judged by a local folder's card, else
# unknown
NON_COMMERCIAL_MODELS = (
    "black-forest-labs/FLUX.1-dev",
    "black-forest-labs/FLUX.1-Kontext-dev",
    "black-forest-labs/FLUX.2-dev",
    "black-forest-labs/FLUX.2-klein-9B",
    "black-forest-labs/FLUX.2-klein-9b-kv",
    "black-forest-labs/FLUX.2-klein-base-9B",
    "Qwen/Qwen2.5-VL-3B-Instruct",
    "stabilityai/cosxl",
    "stabilityai/sd-turbo",
    "stabilityai/sdxl-turbo",
)
# identifiers of the hub's list, and words of those outside it, that allow no commercial use
_FORBIDS = re.compile(r"(^|[-_ ])(nc|research)([-_ ]|$)|non-?commercial", re.IGNORECASE)


def declared(folder: "Place") -> str | None:
    """The `license` in the YAML header of a folder's README.md; `license_name` where that is "other"."""
    card = folder / "README.md"
    if not card.is_file() or card.stat().st_size > MAX_CARD:
        return None
    text = card.read_text(encoding="utf-8", errors="replace")
    if not text.startswith("---\n"):
        return None
    try:
        header = yaml.safe_load(text[4:].partition("\n---")[0])
    except yaml.YAMLError:
        return None
    if not isinstance(header, dict):
        return None
    found = header.get("license")
    named = header.get("license_name") if found in ("other", None) else found
    return str(named or found)[:100] if named or found else None


def forbids_commerce(license: str | None) -> bool:
    """Whether a licence's identifier says that commercial use is not allowed."""
    return bool(license and _FORBIDS.search(license))


def model_licence(ref: str) -> str | None:
    """What a local folder's card declares, or what is known of a hub id; None where nothing is known."""
    known = {name.lower() for name in NON_COMMERCIAL_MODELS}
    if ref.lower() in known:
        return "non-commercial"
    if is_single_file(ref) and not is_adapter(Path(ref)):
        return model_licence(single_file(ref).source)  # of the models that it is one of
    return declared(Path(ref)) if Path(ref).is_dir() else None
