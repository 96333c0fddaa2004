"""Numbers of training by model family and method, each with its source; what nobody gave is from here.

β is Salesforce's (logits per 2 units of denoising error, errors as means over C, H, W and a ½), whatever
convention the source has: diffusers' script for SD 1.x, Diffusion-KTO and Diffusion-NPO on SD 1.x leave the
½ out, so theirs are half of ours. Flips are of both sides of a pair together.
"""

from dataclasses import dataclass, replace
from typing import Any

# methods whose authors publish no β of their own for diffusion models: they take that of DPO
AS_DPO = frozenset(
    {"ipo", "slic", "f-dpo", "mallows", "dense", "ir-dro", "relative", "plackett-luce", "rank-dpo"}
    | {"spin", "sapo"}
)
# methods whose β is of DPO's unit: from one family to the next it goes as DPO's does
LIKE_DPO = AS_DPO | {"dpo", "kto", "npo", "smpo", "rainbow"}
FIRST = "sd1"  # the family that methods' own numbers are for


@dataclass(frozen=True)
class Number:
    """A value and where it is published; `published` is False where it is ours, or carried over."""

    value: Any
    source: str
    published: bool = True


@dataclass(frozen=True)
class Numbers:
    """Of one family and method, as LoRA or full.

    Attributes:
        beta: None: the method's own (its `Objective`).
        warmup: share of the optimiser steps over which the rate grows.
    """

    beta: Number | None
    learning_rate: Number
    warmup: Number
    caption_dropout: Number
    flip: Number


SD15 = "SalesforceAIResearch/DiffusionDPO launchers/sd15.sh, train.py"
SDXL = "SalesforceAIResearch/DiffusionDPO launchers/sdxl.sh, train.py"
LORA = "huggingface/diffusers examples/research_projects/diffusion_dpo README"
FLOW = "X-GenGroup/Flow-Factory examples/dpo/lora/sd3_5/default.yaml (1e-4 and 3e-4 collapse)"
SD3 = "yifan123/flow_grpo config/dpo.py; verl-omni and Flow-Factory alike"
KTO = "jacklishufan/diffusion-kto exps/example.sh, train_kto_sd_v1.5.py"
NPO_15 = "G-U-N/Diffusion-NPO DPO-DPO-NPO/run_sd15.sh, train_sd15.py"
NPO_XL = "G-U-N/Diffusion-NPO DPO-DPO-NPO/run_sdxl.sh, train_sdxl.py"
SMPO_15 = "JaydenLyh/SmPO examples/sd15.sh, train.py"
SMPO_XL = "JaydenLyh/SmPO examples/sdxl.sh, train.py"
DSPO = "huaishengzhu/DSPO launchers/sd15.sh, train.py"
MAPO = "mapo-t2i/mapo README, args.py"
SFT = "huggingface/diffusers examples/text_to_image README"
SFT_XL = "huggingface/diffusers examples/text_to_image README_sdxl"
SFT_3 = "huggingface/diffusers examples/dreambooth README_sd3"
SFT_FLUX = "huggingface/diffusers examples/dreambooth README_flux (Kontext)"


def _row(
    source: str,
    rate: float,
    *,
    beta: float | None = None,
    warmup: float = 0.0,
    dropout: float = 0.0,
    flip: bool = True,
) -> Numbers:
    """All numbers of one source."""
    return Numbers(
        beta=None if beta is None else Number(beta, source),
        learning_rate=Number(rate, source),
        warmup=Number(warmup, source),
        caption_dropout=Number(dropout, source),
        flip=Number(flip, source),
    )


# family, method, whether every weight is tuned → numbers; full tuning's rates are for their effective batch
NUMBERS: dict[tuple[str, str, bool], Numbers] = {
    ("sd1", "dpo", True): _row(SD15, 2.048e-5, beta=5000.0, warmup=0.25, dropout=0.2),
    ("sd1", "dpo", False): _row(LORA, 1e-5, beta=5000.0),
    ("sdxl", "dpo", True): _row(SDXL, 2.048e-5, beta=5000.0, warmup=0.1, dropout=0.2),
    ("sdxl", "dpo", False): _row(LORA, 1e-5, beta=5000.0),
    ("sd3", "dpo", False): replace(_row(FLOW, 1e-5, flip=False), beta=Number(100.0, SD3)),
    ("sd1", "kto", True): _row(KTO, 1e-7, beta=2000.0, warmup=0.01, dropout=0.2),
    ("sd1", "npo", False): _row(NPO_15, 5e-6, beta=1000.0),
    ("sdxl", "npo", False): _row(NPO_XL, 5e-6, beta=2000.0),
    ("sd1", "smpo", True): _row(SMPO_15, 1.024e-5, beta=2000.0, warmup=0.5, dropout=0.2),
    ("sdxl", "smpo", True): _row(SMPO_XL, 1.024e-5, beta=5000.0, warmup=0.5, dropout=0.2),
    ("sd1", "dspo", True): _row(DSPO, 2.048e-5, beta=0.001, warmup=0.25, dropout=0.2),
    ("sdxl", "mapo", True): _row(MAPO, 1e-5, beta=1000.0),
    ("sdxl", "mapo", False): _row(MAPO, 1e-5, beta=1000.0),
    ("sd1", "sft", True): _row(SFT, 1e-5),
    ("sd1", "sft", False): _row(SFT, 1e-4),
    ("sdxl", "sft", True): _row(SFT_XL, 1e-6, dropout=0.2),
    ("sdxl", "sft", False): _row(SFT_XL, 1e-4),
    ("sd3", "sft", True): _row(SFT_3, 1e-4, flip=False),
    ("sd3", "sft", False): _row(SFT_3, 4e-4, flip=False),
    ("flux", "sft", False): _row(SFT_FLUX, 1e-4, flip=False),
}
# beginning of the class in model_index.json → family, the first that fits
PIPELINES = {
    "StableDiffusionXL": "sdxl",
    "StableDiffusion3": "sd3",
    "StableDiffusion": "sd1",
    "FluxPipeline": "flux",
}
# nearest family of those that have none of their own
NEAREST = {"flux": "sd3"}
# of a family that nobody knows, and of callers that name none
PLAIN = Numbers(
    beta=None,
    learning_rate=Number(1e-4, "ours", published=False),
    warmup=Number(0.0, "ours", published=False),
    caption_dropout=Number(0.0, "ours", published=False),
    flip=Number(False, "ours", published=False),
)


def family_of_pipeline(name: str) -> str:
    """The family of a diffusers pipeline class; "" for one that has no row here."""
    return next((family for start, family in PIPELINES.items() if name.startswith(start)), "")


def kin(method: str) -> str:
    """The method whose β a method takes."""
    return "dpo" if isinstance(method, str) and method in AS_DPO else method


def numbers_of(family: str, method: str, *, full: bool = False, beta: float | None = None) -> Numbers:
    """What is published of the two, else the nearest to it, marked so.

    Args:
        beta: the method's own, as it is for SD 1.x.
    """
    own = NUMBERS.get((family, method, full))
    other = NUMBERS.get((family, method, not full))  # its β does not hang on what is tuned
    near = _carried(_dpo(family, full), family)
    found = own or near
    return replace(found, beta=(own or other or PLAIN).beta or _beta(family, method, full, beta))


def _dpo(family: str, full: bool) -> Numbers:
    for name in (family, NEAREST.get(family, family)):
        for mode in (full, not full):
            if (name, "dpo", mode) in NUMBERS:
                return NUMBERS[name, "dpo", mode]
    return PLAIN


def _carried(numbers: Numbers, family: str) -> Numbers:
    """The numbers of DPO for a method that has none: none of them is published for it."""
    names = ("learning_rate", "warmup", "caption_dropout", "flip")
    found = {name: getattr(numbers, name) for name in names}
    carried = {
        name: Number(number.value, f"DPO's for {family or 'no family'}: {number.source}", published=False)
        for name, number in found.items()
    }
    return replace(numbers, **carried) if numbers is not PLAIN else PLAIN


def _beta(family: str, method: str, full: bool, own: float | None) -> Number | None:
    """A β that nobody has published for the two: the method's own, in the family's size."""
    here, first = _dpo(family, full).beta, NUMBERS[FIRST, "dpo", full].beta
    if own is None or method not in LIKE_DPO or here is None or first is None:
        return None
    if method == "dpo" or method in AS_DPO:
        return Number(here.value, f"DPO's: {here.source}", published=False)
    return Number(own * here.value / first.value, "the method's, in DPO's proportion", published=False)
