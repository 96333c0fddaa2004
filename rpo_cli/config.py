"""Every setting there is: frozen pydantic sections with their limits; `resolve.py` fills them.

Long because it is a table: one field a setting, each with its bounds and its sentence for `--help`.
"""

import re
from typing import Annotated, Any, Literal

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
    compile: bool = Field(
        default=False,
        description="torch.compile of the denoiser's repeated blocks: slow first batch; no gain on a CPU.",
    )


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
    in_flight: int | None = Field(
        default=None, ge=1, le=1024, description="Requests at a time; none: as many as its servers take."
    )
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


Layout = Literal["kohya", "merged"]
LoggerName = Literal["tensorboard", "trackio", "wandb"]
Link = Literal["logistic", "ipo", "modified-ipo", "slic", "cauchy", "exponential"]
Divergence = Literal["reverse-kl", "forward-kl", "jensen-shannon", "alpha"]
PairWeight = Literal["none", "dispersion", "margin", "smooth-margin", "agreement"]
SoftLabels = Literal["none", "margin", "agreement", "share"]
TimestepWeight = Literal["none", "snr", "min-snr"]
RatioBase = Literal["ref", "old"]
BetaFrom = Literal["salesforce", "diffusers-sd", "summed"]


class TrainSettings(Section):
    """`[train]`: pairs to an adapter or a UNet."""

    method: str = Field(default="dpo", description="The loss: `rpo list objectives`.")
    model: str | None = Field(default=None, description="What is tuned; none: the run's generator.")
    dataset: str | None = Field(
        default=None, description="Folder of pairs, or of judged pictures (kto); none: the run's dataset."
    )
    name: str = Field(
        default="default",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$",
        description="Folder of this training in RUN/train/.",
    )
    beta: float | None = Field(
        default=None, gt=0, description="None: the method's. Salesforce's: mean over C,H,W and the 1/2."
    )
    beta_from: BetaFrom | None = Field(
        default=None, description="Whose beta is given; diffusers-sd has no 1/2, summed sums over C,H,W."
    )
    full: bool = Field(default=False, description="Tune every weight of the UNet instead of LoRA.")
    rank: int = Field(default=16, ge=1, le=1024, description="Rank of the LoRA.")
    text_encoder: bool | None = Field(
        default=None,
        description="LoRA on the text encoders too (SD 1.x, 2.x, XL); captions encode as they go.",
    )
    learning_rate: float | None = Field(
        default=None, gt=0, description="Constant after the warm-up; none: the family's and method's."
    )
    warmup_steps: int | None = Field(
        default=None, ge=0, description="Linear, in optimiser steps; none: the family's and method's."
    )
    steps: int = Field(default=200, ge=1, description="Optimiser steps.")
    global_batch: int = Field(default=16, ge=1, description="Pairs per optimiser step.")
    batch_size: int = Field(default=16, ge=1, description="Pairs per forward pass.")
    processes: int = Field(default=1, ge=1, le=64, description="On this machine; one a GPU.")
    weight_decay: float = Field(default=1e-2, ge=0, description="Decoupled from the gradient.")
    optimiser: Literal["adamw", "adamw-8bit", "adafactor"] = Field(
        default="adamw", description="adamw-8bit: a quarter of the state; adafactor: hardly any."
    )
    max_grad_norm: float = Field(default=1.0, gt=0, description="Gradients are clipped to this norm.")
    caption_dropout: float | None = Field(
        default=None,
        ge=0,
        lt=1,
        description="Share of pairs without caption; none: the family's and method's.",
    )
    flip: bool | None = Field(
        default=None, description="Random mirror, the same for both sides; none: the family's and method's."
    )
    resolution: int | None = Field(default=None, ge=8, description="Pixels of a side; none: the model's.")
    buckets: bool = Field(default=False, description="Keep the pictures' shapes instead of squares.")
    size_condition: Literal["real", "target"] = Field(
        default="real", description="What SDXL is told of sizes; target: never larger nor cropped."
    )
    timestep_density: Literal["uniform", "logit-normal"] | None = Field(
        default=None, description="None: logit-normal for flow models, uniform for others."
    )
    timestep_shift: Literal["size"] | None = Field(
        default=None, description="size: shift noise as sampling does for the resolution (FLUX)."
    )
    reference_draws: int | None = Field(
        default=None, ge=0, description="Fixed draws of a pair, their reference errors kept; 0: always new."
    )
    ema: float | None = Field(
        default=None, gt=0, lt=1, description="Decay of the averaged weights to export; none: the last."
    )
    export: tuple[Layout, ...] = Field(default=(), description="More layouts of the LoRA: kohya, merged.")
    loggers: tuple[LoggerName, ...] = Field(
        default=(), description="Beside metrics.jsonl: tensorboard, trackio, wandb."
    )
    compile: bool = Field(default=False, description="torch.compile: minutes at the start, then faster.")
    gradient_checkpointing: bool = Field(default=False, description="Less memory, more time.")
    dtype: Dtype = Field(default="float32", description="Of the model's weights and activations.")
    rounds: int | None = Field(
        default=None,
        ge=0,
        le=100_000,
        description="Times to sample, score and learn; none or 0: the pairs there are.",
    )
    save_every: int = Field(default=50, ge=1, description="Optimiser steps between checkpoints.")
    validate_every: int = Field(default=50, ge=1, description="Optimiser steps between validations.")
    validation_draws: int | None = Field(
        default=None,
        ge=1,
        description="Of a validation; none: some of each pair held out, at most 5 % of the work.",
    )
    seed: int | None = Field(default=None, ge=0, description="None: the run's.")

    # parts of the objective; None: the method's own (see `rpo list objectives`)
    link: Link | None = Field(default=None, description="What a logit costs.")
    reference_mix: float | None = Field(
        default=None, ge=0, le=1, description="Alpha: 1 the reference, 0 none."
    )
    reference_every: int | None = Field(
        default=None, ge=1, description="Optimiser steps until the reference moves; none: it stays."
    )
    reference_decay: float | None = Field(
        default=None, ge=0, lt=1, description="Share of the old reference that a move keeps; 0: none."
    )
    ratio_base: RatioBase | None = Field(
        default=None, description="Of ppod: the initial policy, or that of the last move."
    )
    margin: float | None = Field(
        default=None, ge=0, description="Home advantage, in logits, (1-alpha)-fold."
    )
    scale: float | None = Field(
        default=None, gt=0, description="Of the preference term beside the SFT term."
    )
    sft_weight: float | None = Field(default=None, ge=0, description="Weight of the winner's own error.")
    label_smoothing: float | None = Field(
        default=None, ge=0, le=0.5, description="Probability that a label is wrong."
    )
    soft_labels: SoftLabels | None = Field(
        default=None, description="Column that says how likely a label is right."
    )
    pair_weight: PairWeight | None = Field(default=None, description="Column that weighs a pair's logit.")
    timestep_weight: TimestepWeight | None = Field(default=None, description="Weight of a noise level.")
    timestep_discount: float | None = Field(
        default=None, gt=0, le=1, description="Gamma per 1/50 of the way to the picture; 1: uniform."
    )
    min_timestep: int | None = Field(default=None, ge=0, description="Lowest timestep that is drawn.")
    max_timestep: int | None = Field(default=None, ge=0, description="Highest timestep that is drawn.")
    group_size: int | None = Field(
        default=None, ge=1, description="Pairs that are compared with each other; divides the global batch."
    )
    list_size: int | None = Field(default=None, ge=2, le=64, description="Pictures of a ranked list.")
    temperature: float | None = Field(default=None, gt=0, description="Of the weights of relative.")
    divergence: Divergence | None = Field(default=None, description="From the reference, of f-dpo.")
    divergence_alpha: float | None = Field(default=None, gt=0, le=1, description="Of the alpha divergence.")
    clip: float | None = Field(
        default=None, gt=0, lt=1, description="Half width of the ratio's band, per element and step."
    )
    desirable_weight: float | None = Field(default=None, ge=0, description="Weight of winners, kto.")
    undesirable_weight: float | None = Field(default=None, ge=0, description="Weight of losers, kto.")
    dro_temperature: float | None = Field(
        default=None, gt=0, description="Of the weights exp(loss/T) within a group."
    )
    dro_trim: float | None = Field(
        default=None, ge=0, lt=1, description="Share of a group, the highest losses, left out."
    )
    embedder: str | None = Field(
        default=None, description="CLIP folder or hub id; none: the run's clip reward."
    )

    @field_validator("text_encoder")
    @classmethod
    def _off_says_nothing(cls, value: bool | None) -> bool | None:
        """So that a training without it is the one it was before there was such a setting."""
        return value or None


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
