"""The settings of a training: `[train]`. Those of its rounds and samples are in `sections.py`."""

from typing import Literal

from pydantic import Field, field_validator

from rpo_cli.sections import Dtype, Section

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
