"""Settings: frozen pydantic sections, read from TOML and options, every mistake reported at once.

Order, later wins: default < preset < RUN/rpo.toml < options of earlier commands on the run (from its
run.json: they describe the rows that are there) < --config < option. The origin of each value is kept
and written into run.json. To add a setting: add a field here; if it can change a row, use it in the
`settings` of that row's stage.
"""

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from rpo_cli import registry
from rpo_cli.errors import SettingsError, UsageError, nearest

Device = Literal["auto", "cpu", "cuda", "mps"]
Dtype = Literal["float32", "float16", "bfloat16"]


class Section(BaseModel):
    """Base of all sections: frozen, and a misspelt key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class RunSettings(Section):
    """`[run]`: what the whole line shares."""

    seed: int = Field(default=0, ge=0, lt=2**31, description="Every row's seed comes from it.")
    device: Device = Field(default="auto", description="auto: cuda, else mps, else cpu.")
    threads: int = Field(default=0, ge=0, description="CPU threads; 0: torch's own choice.")
    engine: str = Field(default="local", description="See `rpo list engines`.")
    rows_per_part: int = Field(default=64, ge=1, le=100_000, description="Rows of one Parquet part.")


class PromptSettings(Section):
    """`[prompts]`: where prompts come from."""

    file: str | None = Field(default=None, description="txt (one a line), tsv, csv, jsonl, parquet.")
    dataset: str | None = Field(default=None, description="Any name `datasets.load_dataset` takes.")
    split: str = Field(default="train", description="Split of `dataset`.")
    column: str | None = Field(default=None, description="Column that holds the prompt.")
    limit: int | None = Field(default=None, ge=1, description="Only the first N prompts.")


class GenerateSettings(Section):
    """`[generate]`: prompts to pictures."""

    generator: str | None = Field(default=None, description="Local folder or hub id.")
    revision: str | None = Field(default=None, description="Branch, tag or commit on the hub.")
    images_per_prompt: int = Field(default=2, ge=1, le=1000)
    steps: int = Field(default=50, ge=1, le=1000, description="Denoising steps.")
    guidance: float = Field(default=7.5, ge=0, description="Classifier-free guidance scale.")
    negative_prompt: str | None = None
    width: int | None = Field(default=None, ge=8, le=8192, description="Pixels; none: the model's.")
    height: int | None = Field(default=None, ge=8, le=8192, description="Pixels; none: the model's.")
    scheduler: str | None = Field(default=None, description="diffusers class; none: the model's.")
    lora: str | None = Field(default=None, description="Adapter folder to generate with.")
    batch_size: int = Field(default=8, ge=1, le=4096)
    dtype: Dtype = "float32"


class CritiqueSettings(Section):
    """`[critique]`: pictures to critiques and instructions."""

    critic: str | None = Field(default=None, description="Local folder or hub id of a VLM.")
    revision: str | None = None
    backend: str = Field(default="transformers", description="See `rpo list critics`.")
    template: str = Field(
        default="rpo", pattern=r"^[A-Za-z0-9_-]{1,64}$", description="See `rpo list templates`."
    )
    single_turn: bool = Field(default=False, description="Critique and instructions in one reply.")
    max_instructions: int = Field(default=3, ge=1, le=10)
    max_words: int = Field(default=16, ge=1, le=100, description="Longest instruction, in words.")
    max_tokens: int = Field(default=512, ge=8, le=8192, description="Of one reply.")
    attempts: int = Field(default=3, ge=1, le=20, description="1 greedy, the rest sampled.")
    batch_size: int = Field(default=8, ge=1, le=4096)
    dtype: Dtype = "float32"


class EditSettings(Section):
    """`[edit]`: instructions to edited pictures."""

    editor: str | None = Field(default=None, description="Local folder or hub id.")
    revision: str | None = None
    backend: str = Field(default="instruct-pix2pix", description="See `rpo list editors`.")
    mode: Literal["joined", "each", "sequence"] = Field(
        default="joined", description="All instructions in one edit, one edit each, or in sequence."
    )
    edits_per_image: int = Field(default=1, ge=1, le=100, description="Attempts, by seed.")
    steps: int = Field(default=50, ge=1, le=1000)
    guidance: tuple[float, ...] = Field(default=(7.5,), min_length=1, description="Text, a grid.")
    image_guidance: tuple[float, ...] = Field(default=(1.5,), min_length=1, description=">= 1, a grid.")
    scheduler: str | None = None
    batch_size: int = Field(default=8, ge=1, le=4096)
    dtype: Dtype = "float32"

    @field_validator("image_guidance")
    @classmethod
    def _at_least_one(cls, values: tuple[float, ...]) -> tuple[float, ...]:
        if any(value < 1 for value in values):
            raise ValueError("every image guidance must be >= 1")
        return values


class ScoreSettings(Section):
    """`[score]`: rewards of originals and edits."""

    rewards: tuple[str, ...] = Field(default=(), description="NAME=FOLDER_OR_HUB_ID, e.g. clip=...")
    batch_size: int = Field(default=16, ge=1, le=4096)
    dtype: Dtype = "float32"


class PairSettings(Section):
    """`[pairs]`: verdicts and gates. Margins are in standard deviations of each reward."""

    strategy: Literal["edits", "seeds", "all"] = "edits"
    min_margin: float = Field(default=0.5, ge=0, description="tau: the band in which no side wins.")
    min_agreement: float = Field(default=1.0, ge=0, le=1, description="Share of rewards agreeing.")
    min_change: float = Field(default=0.002, ge=0, le=1, description="Mean |a - b|; less: dropped.")
    max_change: float = Field(default=0.5, ge=0, le=1, description="Mean |a - b|; more: dropped.")
    min_hash_distance: int = Field(default=0, ge=0, le=64, description="Of the perceptual hashes.")
    select_by: str | None = Field(
        default=None, description="Reward that chooses among attempts; none: the first."
    )
    keep_reversed: bool = Field(default=True, description="Pairs whose edit lost stay, labelled so.")
    max_pairs_per_prompt: int | None = Field(default=None, ge=1)
    val_fraction: float = Field(default=0.1, ge=0, lt=1, description="Share of prompts, by hash.")


class TrainSettings(Section):
    """`[train]`: pairs to an adapter or a UNet."""

    method: str = Field(default="dpo", description="See `rpo list objectives`.")
    model: str | None = Field(default=None, description="None: the generator of the run.")
    name: str = Field(default="default", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    beta: float = Field(default=5000.0, gt=0, description="Salesforce's: mean over C,H,W and the 1/2.")
    full: bool = Field(default=False, description="Tune every weight of the UNet instead of LoRA.")
    rank: int = Field(default=16, ge=1, le=1024, description="Of the LoRA.")
    learning_rate: float = Field(default=1e-4, gt=0)
    warmup_steps: int = Field(default=10, ge=0)
    steps: int = Field(default=200, ge=1)
    global_batch: int = Field(default=16, ge=1, description="Pairs per optimiser step.")
    batch_size: int = Field(default=16, ge=1, description="Pairs per forward pass.")
    weight_decay: float = Field(default=1e-2, ge=0)
    max_grad_norm: float = Field(default=1.0, gt=0)
    caption_dropout: float = Field(default=0.0, ge=0, lt=1)
    flip: bool = Field(default=False, description="Random mirror, the same for both sides.")
    gradient_checkpointing: bool = False
    dtype: Dtype = "float32"
    save_every: int = Field(default=50, ge=1, description="Optimiser steps between checkpoints.")
    validate_every: int = Field(default=50, ge=1)
    seed: int | None = Field(default=None, ge=0, description="None: the run's.")


class Settings(Section):
    """All of rpo.toml."""

    run: RunSettings = RunSettings()
    prompts: PromptSettings = PromptSettings()
    generate: GenerateSettings = GenerateSettings()
    critique: CritiqueSettings = CritiqueSettings()
    edit: EditSettings = EditSettings()
    score: ScoreSettings = ScoreSettings()
    pairs: PairSettings = PairSettings()
    train: TrainSettings = TrainSettings()


Origins = dict[str, str]
RUN_FILE = "RUN/rpo.toml"


@dataclass(frozen=True)
class Resolved:
    """Settings with the origin of every value: "default", "preset shapes", a file, "option", ...

    `notes` are sentences of the preset that the dataset card must carry.
    """

    settings: Settings
    origins: Origins
    preset: str
    notes: tuple[str, ...] = ()

    def told(self) -> dict[str, Any]:
        """What commands were told by option or --config, as dotted names: the next command keeps to it."""
        kept = ("default", f"preset {self.preset}", RUN_FILE)
        values = self.settings.model_dump(mode="json")
        told = {name: origin for name, origin in self.origins.items() if origin not in kept}
        return {name: values[(path := name.split("."))[0]][path[1]] for name in told}


def read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UsageError(f"{path}: no such file", "check the path given to --config") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not valid TOML: {error}", "see `rpo init` for an example") from error


def resolve(
    options: Mapping[str, Any],
    *,
    preset: str | None = None,
    run_file: Path | None = None,
    config_file: Path | None = None,
    earlier: Mapping[str, Any] | None = None,
    earlier_preset: str | None = None,
) -> Resolved:
    """Layer all sources and check the result once.

    Args:
        options: dotted name → value; None means not given.
        earlier: dotted name → value of options that earlier commands on this run were given.
        earlier_preset: the preset those commands ran with; counts when nothing else names one.
        preset: name of a preset; a `preset = "..."` line in a file counts too; "shapes" at last.

    Raises:
        SettingsError: every wrong key and value of every source.
    """
    files = [path for path in (run_file, config_file) if path is not None]
    tables = [(RUN_FILE if path == run_file else str(path), read_toml(path)) for path in files]
    first = 1 if run_file is not None else 0
    named = next((table["preset"] for _, table in reversed(tables) if "preset" in table), None)
    chosen = preset or named or earlier_preset or "shapes"
    preset_table = dict(registry.load("presets", chosen)())
    notes = tuple(preset_table.pop("notes", ()))
    layers: list[tuple[str, dict[str, Any]]] = [
        (f"preset {chosen}", preset_table),
        *_without_preset(tables[:first]),
        ("earlier option", _nested(earlier or {})),
        *_without_preset(tables[first:]),
        ("option", _nested({k: v for k, v in options.items() if v is not None})),
    ]
    merged: dict[str, dict[str, Any]] = {}
    origins: Origins = dict.fromkeys(setting_names(), "default")
    for origin, layer in layers:
        for dotted, value in _flatten(layer):
            origins[dotted] = origin
            section, _, key = dotted.partition(".")
            if key:
                merged.setdefault(section, {})[key] = value
            else:
                merged[section] = value
    return Resolved(_validate(merged, origins), origins, chosen, notes)


def _without_preset(tables: list[tuple[str, dict[str, Any]]]) -> list[tuple[str, dict[str, Any]]]:
    return [(name, {k: v for k, v in table.items() if k != "preset"}) for name, table in tables]


def setting_names() -> list[str]:
    return [
        f"{section}.{key}"
        for section, field in Settings.model_fields.items()
        for key in _fields_of(field.annotation)
    ]


def _fields_of(section: Any) -> Mapping[str, Any]:
    fields: Mapping[str, Any] = section.model_fields
    return fields


def _nested(dotted: Mapping[str, Any]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for name, value in dotted.items():
        section, _, key = name.partition(".")
        nested.setdefault(section, {})[key] = value
    return nested


def _flatten(table: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for section, value in table.items():
        if isinstance(value, Mapping):
            yield from ((f"{section}.{key}", inner) for key, inner in value.items())
        else:
            yield section, value


def _validate(merged: Mapping[str, Any], origins: Origins) -> Settings:
    try:
        settings = Settings.model_validate(merged)
    except ValidationError as error:
        problems = [_problem(item, origins) for item in error.errors()]
        problems += _unknown_names(merged, origins)
        raise SettingsError("settings", sorted(set(problems)), "rpo init DIR shows every setting") from None
    if unknown := _unknown_names(merged, origins):
        raise SettingsError("settings", unknown, "rpo list shows what there is")
    return settings


def _problem(item: Mapping[str, Any], origins: Origins) -> str:
    name = ".".join(str(part) for part in item["loc"][:2])
    where = origins.get(name, origins.get(name.partition(".")[0], "settings"))
    if item["type"] == "extra_forbidden":
        choices = setting_names() if "." in name else list(Settings.model_fields)
        return f"{name}: no such setting{nearest(name, choices)} ({where})"
    return f"{name}: {item['msg'].lower()}, not {item['input']!r} ({where})"


# settings whose value is a name from the registry → its kind
NAMED: dict[str, str] = {
    "run.engine": "engines",
    "critique.backend": "critics",
    "edit.backend": "editors",
    "train.method": "objectives",
}


def _unknown_names(merged: Mapping[str, Any], origins: Origins) -> list[str]:
    problems = []
    for dotted, kind in NAMED.items():
        section, _, key = dotted.partition(".")
        value = merged.get(section, {}).get(key) if isinstance(merged.get(section), Mapping) else None
        if isinstance(value, str) and value not in (known := registry.names(kind)):
            problems.append(
                f"{dotted}: '{value}' is not one of: {', '.join(known)}"
                f"{nearest(value, list(known))} ({origins[dotted]})"
            )
    return problems
