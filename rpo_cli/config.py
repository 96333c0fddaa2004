"""The settings: frozen pydantic sections with their limits; `resolve.py` fills them from all sources.

To add a setting: add a field here with its limits and a description (it is the option's help and the line
in rpo.toml); if it can change a row, use it in the `settings` of that row's stage (`line/work/base.py`).
"""

import re
from typing import Any, Literal

from pydantic import Field, field_validator

from rpo_cli.sections import (
    Dtype,
    EditSettings,
    GenerateSettings,
    OnlineSettings,
    RoundSettings,
    ScoreSettings,
    Section,
    ServerSettings,
)
from rpo_cli.train_settings import TrainSettings

# of a call of a chat template what is not the template's: it is ours, or another template
OURS = {
    *("conversation", "messages", "chat_template", "tools", "documents", "add_generation_prompt"),
    *("continue_final_message", "tokenize", "padding", "truncation", "max_length", "return_tensors"),
    *("return_dict", "return_assistant_tokens_mask", "processor_kwargs", "load_audio_from_video"),
}
NUMBER = re.compile(r"\d+(\.\d+)?")
Device = Literal["auto", "cpu", "cuda", "mps"]


class RunSettings(Section):
    """`[run]`: what the whole line shares."""

    seed: int = Field(default=0, ge=0, lt=2**31, description="Every row's seed comes from it.")
    device: Device = Field(default="auto", description="auto: cuda, else mps, else cpu.")
    threads: int = Field(default=0, ge=0, description="CPU threads; 0: torch's own choice.")
    engine: str = Field(default="local", description="Who does the work.")
    workers: int | None = Field(
        default=None, ge=1, le=1024, description="Processes of a stage; default: one per GPU."
    )
    rows_per_part: int = Field(default=64, ge=1, le=100_000, description="Rows of one Parquet part.")
    accept_license: bool = Field(
        default=False, description="Work with weights whose licence forbids commercial use."
    )
    mix: bool = Field(
        default=False, description="Let embedded models judge other models' pictures, or the reverse."
    )


class PromptSettings(Section):
    """`[prompts]`: where prompts come from."""

    file: str | None = Field(default=None, description="txt (one a line), csv, tsv, json, jsonl, parquet.")
    dataset: str | None = Field(default=None, description="Any name `datasets.load_dataset` takes.")
    split: str = Field(default="train", description="Split of `dataset`.")
    column: str | None = Field(default=None, description="Column that holds the prompt.")
    encoding: str | None = Field(default=None, description="Of a text file that is not UTF-8.")
    delimiter: str | None = Field(
        default=None, description="Of a csv or tsv: a character, comma, semicolon, tab or pipe."
    )
    quoting: Literal["rfc4180", "none"] | None = Field(
        default=None, description="Of a csv or tsv; none: found by its own cells."
    )
    leave_out: tuple[str, ...] = Field(
        default=(), description="Files of prompts that are kept out, in any spelling (a benchmark's)."
    )
    limit: int | None = Field(default=None, ge=1, description="Only the first N prompts.")


class CritiqueSettings(ServerSettings):
    """`[critique]`: pictures to critiques and instructions."""

    critic: str | None = Field(default=None, description="Local folder or hub id of a VLM.")
    revision: str | None = Field(default=None, description="Branch, tag or commit on the hub.")
    backend: str = Field(default="transformers", description="How the critic runs.")
    template: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9_-]{1,64}$",
        description="What the critic is asked; none: general, of an embedded critic what it has learned.",
    )
    chat_template_kwargs: dict[str, bool | int | float | str] | None = Field(
        default=None, description="What the model's chat template takes, e.g. {enable_thinking = false}."
    )
    single_turn: bool = Field(default=False, description="Critique and instructions in one reply.")
    max_instructions: int = Field(default=3, ge=1, le=10, description="Most instructions for one picture.")
    max_words: int = Field(default=16, ge=1, le=100, description="Longest instruction, in words.")
    max_tokens: int = Field(default=512, ge=8, le=8192, description="Longest reply, in tokens.")
    attempts: int = Field(
        default=3, ge=1, le=20, description="Tries per picture: the first greedy, the rest sampled."
    )
    batch_size: int = Field(default=8, ge=1, le=4096, description="Rows in one call of the model.")
    dtype: Dtype = Field(default="float32", description="Of the model's weights and activations.")

    @field_validator("chat_template_kwargs")
    @classmethod
    def _none_of_ours(cls, values: dict[str, Any] | None) -> dict[str, Any] | None:
        if wrong := sorted(name for name in values or () if not name.isidentifier() or name in OURS):
            raise ValueError(f"{', '.join(wrong)}: not for a chat template")
        return values or None


class PairSettings(Section):
    """`[pairs]`: verdicts and gates. Margins are in standard deviations of each reward."""

    strategy: Literal["edits", "seeds", "all", "imported", "spin", "sapo"] = Field(
        default="edits",
        description="Original and edit, best and worst seed of a prompt, or both; imported pairs beside; "
        "spin and sapo: in rounds only.",
    )
    edits: Literal["all", "answers", "counter"] = Field(
        default="all",
        description="Which edits take part: answers to the picture's critique, counter-edits, or both.",
    )
    labels: Literal["source", "rewards", "none"] = Field(
        default="source", description="Whose label an imported pair carries; none: leave these pairs out."
    )
    min_margin: float = Field(
        default=0.5, ge=0, description="Least lead of a winner, in standard deviations (tau)."
    )
    min_agreement: float = Field(default=1.0, ge=0, le=1, description="Share of rewards that must agree.")
    calibration: Literal["sd", "win-rate"] = Field(
        default="sd",
        description="Unit of margins; win-rate: the share of differences between seeds that are smaller.",
    )
    selection: Literal["mean", "pareto"] = Field(
        default="mean", description="pareto: one reward is beyond min_margin and none disagrees at all."
    )
    reward_weights: tuple[str, ...] = Field(
        default=(), description="NAME=NUMBER, a reward's share in the mean; 0: no say. Others: 1."
    )
    min_change: float = Field(
        default=0.002, ge=0, le=1, description="Least mean difference of pixels, 0 to 1."
    )
    max_change: float = Field(default=0.5, ge=0, le=1, description="Greatest mean difference of pixels.")
    min_hash_distance: int = Field(
        default=0, ge=0, le=64, description="Least distance of perceptual hashes, in bits."
    )
    select_by: str | None = Field(
        default=None, description="Reward that chooses among attempts; none: the first."
    )
    keep_reversed: bool = Field(default=True, description="Pairs whose edit lost stay, labelled so.")
    max_pairs_per_prompt: int | None = Field(
        default=None, ge=1, description="More are dropped, smallest margin first."
    )
    val_fraction: float = Field(
        default=0.1, ge=0, lt=1, description="Share of prompts held out for validation."
    )
    use_verdicts: Literal["column", "filter", "override"] = Field(
        default="column",
        description="Verdicts of `rpo review`: told only, drop what they contradict, or be the label.",
    )

    @field_validator("reward_weights")
    @classmethod
    def _name_and_number(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        names = [value.partition("=")[0] for value in values]
        if any(not NUMBER.fullmatch(value.partition("=")[2]) for value in values) or "" in names:
            raise ValueError("every weight must be NAME=NUMBER, a number >= 0")
        if len(set(names)) < len(names):
            raise ValueError("every reward must have one weight")
        return values

    @property
    def weights(self) -> dict[str, float]:
        """Reward → weight, of those that have one."""
        parts = (value.partition("=") for value in self.reward_weights)
        return {name: float(number) for name, _, number in parts}


class Settings(Section):
    """All of rpo.toml."""

    run: RunSettings = RunSettings()
    prompts: PromptSettings = PromptSettings()
    generate: GenerateSettings = GenerateSettings()
    critique: CritiqueSettings = CritiqueSettings()
    edit: EditSettings = EditSettings()
    score: ScoreSettings = ScoreSettings()
    pairs: PairSettings = PairSettings()
    rounds: RoundSettings = RoundSettings()
    train: TrainSettings = TrainSettings()
    online: OnlineSettings = OnlineSettings()
