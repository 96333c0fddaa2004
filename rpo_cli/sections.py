"""The base of all sections of the settings, and some of them; `config.py` holds the others."""

import re
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

Dtype = Literal["float32", "float16", "bfloat16"]
Baseline = Literal["running", "prompt", "batch"]
FUNCTION = re.compile(r"[A-Za-z][\w.-]{0,63}=[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", re.ASCII)


class Section(BaseModel):
    """Base of all sections: frozen, a misspelt key is an error, and so is a number that is none."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class GenerateSettings(Section):
    """`[generate]`: prompts to pictures."""

    generator: str | None = Field(default=None, description="Local folder or hub id.")
    revision: str | None = Field(default=None, description="Branch, tag or commit on the hub.")
    backend: str = Field(
        default="auto", description="See `rpo list generators`; auto: what the model's own files say."
    )
    images_per_prompt: int = Field(
        default=2, ge=1, le=1000, description="Pictures per prompt, each of its own seed."
    )
    steps: int | None = Field(
        default=None, ge=1, le=1000, description="Denoising steps; none: the backend's."
    )
    guidance: float | None = Field(
        default=None, ge=0, description="Classifier-free guidance scale; none: the backend's."
    )
    negative_prompt: str | None = Field(default=None, description="What to keep away from.")
    width: int | None = Field(
        default=None, ge=8, le=8192, multiple_of=8, description="Pixels; none: the model's."
    )
    height: int | None = Field(
        default=None, ge=8, le=8192, multiple_of=8, description="Pixels; none: the model's."
    )
    scheduler: str | None = Field(default=None, description="diffusers class; none: the model's.")
    lora: str | None = Field(default=None, description="Adapter folder to generate with.")
    denoiser: str | None = Field(
        default=None, description="Fully tuned UNet or transformer folder, in place of the model's own."
    )
    strengths: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field(
        default=(), description="Of noise put on given winners, one drawn for each picture (pairs: sapo)."
    )
    batch_size: int = Field(default=8, ge=1, le=4096, description="Rows in one call of the model.")
    dtype: Dtype = Field(default="float32", description="Of the model's weights and activations.")


class EditSettings(Section):
    """`[edit]`: instructions to edited pictures."""

    editor: str | None = Field(default=None, description="Local folder or hub id.")
    revision: str | None = Field(default=None, description="Branch, tag or commit on the hub.")
    backend: str = Field(
        default="auto", description="See `rpo list editors`; auto: what the model's own files say."
    )
    mode: Literal["joined", "each", "sequence"] = Field(
        default="joined", description="All instructions in one edit, one edit each, or in sequence."
    )
    edits_per_image: int = Field(
        default=1, ge=1, le=100, description="Tries per picture and instruction, by seed."
    )
    counter_edits: int = Field(
        default=0,
        ge=0,
        le=100,
        description="More edits per picture, by instructions of other prompts' critiques: to be losers.",
    )
    floor_pictures: int = Field(
        default=16,
        ge=0,
        le=1000,
        description="Pictures edited under an empty instruction; an edit that changed no more is no pair.",
    )
    steps: int | None = Field(
        default=None, ge=1, le=1000, description="Denoising steps; none: the backend's."
    )
    guidance: tuple[float, ...] | None = Field(
        default=None, min_length=1, description="Of the text; several: a grid; none: the backend's."
    )
    image_guidance: tuple[float, ...] | None = Field(
        default=None,
        min_length=1,
        description="Of the picture, >= 1; several: a grid; none: the backend's.",
    )
    controlnet: str | None = Field(
        default=None, description="ControlNet folder or hub id, beside a Stable Diffusion 1.x editor."
    )
    control_scale: float | None = Field(
        default=None, ge=0, le=10, description="Of the ControlNet; none: the backend's."
    )
    strength: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="Share of the noise added to the picture; none: 0.8.",
    )
    area: int | None = Field(
        default=None, ge=1024, le=2**24, description="Pixels at which the editor works; none: its own."
    )
    scheduler: str | None = Field(default=None, description="diffusers class; none: the model's.")
    batch_size: int = Field(default=8, ge=1, le=4096, description="Rows in one call of the model.")
    dtype: Dtype = Field(default="float32", description="Of the model's weights and activations.")
    # of an editor behind a server; the first two count only as an option or in the user's own --config
    editor_url: tuple[str, ...] = Field(
        default=(),
        description="Server of OpenAI's images API, http://HOST:PORT/v1; several share the work.",
    )
    key_variable: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}$",
        description="Name of the environment variable that holds the servers' key.",
    )
    in_flight: int = Field(default=4, ge=1, le=1024, description="Requests at a time.")
    timeout: float = Field(default=300.0, gt=0, le=86400, description="Seconds for one edit.")
    tries: int = Field(default=6, ge=1, le=100, description="Tries of a request that gets no answer.")

    @field_validator("image_guidance")
    @classmethod
    def _at_least_one(cls, values: tuple[float, ...] | None) -> tuple[float, ...] | None:
        if any(value < 1 for value in values or ()):
            raise ValueError("every image guidance must be >= 1")
        return values


class OnlineSettings(Section):
    """`[online]`: how methods that learn from trajectories of their own sample and judge them."""

    steps: int | None = Field(
        default=None, ge=1, le=1000, description="Denoising steps of a picture; none: generate.steps."
    )
    guidance: float | None = Field(
        default=None, ge=0, description="Of sampling and of learning; none: generate.guidance."
    )
    eta: float = Field(default=1.0, gt=0, le=1, description="Noise of a DDIM step; 1: as much as DDPM's.")
    images_per_prompt: int = Field(default=4, ge=2, le=1000, description="Pictures of a prompt, by seed.")
    prompts_per_round: int = Field(default=8, ge=1, description="Prompts that a round samples.")
    inner_epochs: int = Field(default=1, ge=1, le=100, description="Uses of every picture in its round.")
    taught_steps: int | None = Field(
        default=None, ge=1, description="Denoising steps that teach, drawn anew each use; none: all."
    )
    rewards: tuple[str, ...] = Field(default=(), description="Names among score.rewards; none: all.")
    baseline: Baseline | None = Field(
        default=None, description="What a reward is compared with; running: the prompt's last ones."
    )
    baseline_size: int = Field(
        default=16, ge=2, le=10_000, description="Rewards of a prompt that a running baseline keeps."
    )
    advantage_clip: float | None = Field(
        default=None, gt=0, description="Advantages are held within +- this."
    )
    min_margin: float | None = Field(
        default=None, ge=0, description="Least gap of a pair, in standard deviations over start seeds."
    )


class ServerSettings(Section):
    """Of `[critique]`: how the server of a critic, or of a reward that asks a VLM, is reached."""

    # those that say whom to trust count only as an option or in the user's own --config
    critic_url: tuple[str, ...] = Field(
        default=(), description="OpenAI-compatible server, http://HOST:PORT/v1; several share the work."
    )
    key_variable: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}$",
        description="Name of the environment variable that holds the servers' key.",
    )
    server_python: str | None = Field(
        default=None, description="Python that has vLLM, for vllm-server; none: this one."
    )
    server_args: tuple[str, ...] = Field(
        default=(), description="More options of the vLLM server, e.g. --max-model-len=8192."
    )
    server_seconds: float = Field(default=900.0, gt=0, description="Until the server must be up.")
    in_flight: int = Field(default=16, ge=1, le=1024, description="Requests at a time.")
    timeout: float = Field(default=300.0, gt=0, le=86400, description="Seconds for one reply.")
    tries: int = Field(default=6, ge=1, le=100, description="Tries of a request that gets no answer.")
    max_requests: int | None = Field(
        default=None, ge=1, description="Most requests to the critic's servers in one command."
    )
    max_tokens_total: int | None = Field(
        default=None,
        ge=1,
        description="Most tokens of questions and replies in one command; servers count them.",
    )


class RoundSettings(Section):
    """`[rounds]`: what a round of generate, score, build-pairs and train is like (`train.rounds`)."""

    images_per_prompt: int | None = Field(
        default=None, ge=1, le=1000, description="Pictures of a prompt and round; none: 4, of a winner 2."
    )
    reference: Literal["base", "previous"] | None = Field(
        default=None, description="Of each round: the model, or the policy of the round before."
    )
    min_margin: float | None = Field(
        default=None,
        ge=0,
        description="Less is noise of the start seed; none: 1 of its deviations, for sapo 0.",
    )
    strengths: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field(
        default=(0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
        min_length=1,
        description="Of the noise that sapo puts on winners, one drawn for each loser.",
    )
    buffer: int = Field(default=2000, ge=0, description="Losers of earlier rounds that sapo keeps.")


class ScoreSettings(Section):
    """`[score]`: rewards of originals and edits."""

    rewards: tuple[str, ...] = Field(default=(), description="NAME=FOLDER_OR_HUB_ID, e.g. clip=...")
    functions: tuple[str, ...] = Field(
        default=(), description="NAME=MODULE:FUNCTION, rewards of your own; --set or --config only."
    )
    backend: str = Field(
        default="transformers", description="Of rewards that ask a VLM: see `rpo list critics`."
    )
    python: str | None = Field(
        default=None, description="Python that runs hpsv3 in a process of its own; not set: this one."
    )
    batch_size: int = Field(default=16, ge=1, le=4096, description="Rows in one call of the model.")
    dtype: Dtype = Field(default="float32", description="Of the model's weights and activations.")

    @field_validator("rewards")
    @classmethod
    def _name_and_model(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        if any("" in value.partition("=") for value in values):
            raise ValueError("every reward must be NAME=FOLDER_OR_HUB_ID")
        if len({value.partition("=")[0] for value in values}) < len(values):
            raise ValueError("every reward must have a name of its own")
        return values

    @field_validator("functions")
    @classmethod
    def _name_and_place(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        if not all(FUNCTION.fullmatch(value) for value in values):
            raise ValueError("every function must be NAME=MODULE:FUNCTION")
        if len({value.partition("=")[0] for value in values}) < len(values):
            raise ValueError("every function must have a name of its own")
        return values

    @property
    def named(self) -> tuple[tuple[str, str], ...]:
        """(name, model) of every reward, (name, "module:function") of every function."""
        parts = (value.partition("=") for value in (*self.rewards, *self.functions))
        return tuple((name, model) for name, _, model in parts)
