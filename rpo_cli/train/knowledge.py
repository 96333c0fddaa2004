"""What is known of drawn items before any model runs: weights, labels, ratios, gains, likeness of features.

CACHE/features/<fingerprint>/<block>.safetensors     tensors "<picture>", "text.<prompt>", unit length
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from PIL.Image import Image as Picture
from torch import Tensor
from torch.nn.functional import normalize
from transformers import CLIPModel, CLIPProcessor

from rpo_cli.config import PairWeight, SoftLabels, TimestepWeight
from rpo_cli.errors import Case, UsageError, translated
from rpo_cli.model_files import part_loaded
from rpo_cli.pictures import decode
from rpo_cli.protocols import Observer
from rpo_cli.records import content_key
from rpo_cli.train.composition import Embedder
from rpo_cli.train.data.latents import BLOCK, ENCODE_BATCH, prompt_name
from rpo_cli.train.data.pairs import Item, Ranking, TrainingPair, pictures
from rpo_cli.train.data.singles import Single
from rpo_cli.train.noise import Draw, NoiseSchedule
from rpo_cli.train.objectives.objective import COLUMNS, Known, Objective
from rpo_cli.train.storage import Shelf

CERTAIN = 1e-3  # dispersions are held this far from 0 and 1
LIGHTEST, HEAVIEST = 0.2, 5.0
MIN_SNR = 5.0  # γ of Hang et al. 2023, arXiv:2303.09556
SMOOTH_SCALE = 10.0  # SmPO's


def raw_weight(kind: PairWeight, pair: TrainingPair) -> float:
    """A pair's weight before it is scaled to a mean of 1.

    dispersion: −ln D, after Mallows-DPO. margin, agreement: themselves. smooth-margin: 10(2p − 1) with
    p = σ(margin), which is not scaled.
    """
    if kind == "none":
        return 1.0
    value = value_of(pair, COLUMNS[kind])
    if kind == "dispersion":
        return -math.log(min(max(value, CERTAIN), 1 - CERTAIN))
    if kind == "smooth-margin":
        return SMOOTH_SCALE * math.tanh(value / 2)
    return value


def weight_scale(kind: PairWeight, pairs: Sequence[TrainingPair]) -> float:
    """What makes the mean weight of the training pairs 1."""
    if kind in ("none", "smooth-margin"):
        return 1.0
    total = math.fsum(raw_weight(kind, pair) for pair in pairs)
    return len(pairs) / total if total > 0 else 1.0


def pair_weight(kind: PairWeight, pair: TrainingPair, scale: float) -> float:
    """The multiplier of a pair's logit; scaled ones are held in [0.2, 5]."""
    weight = scale * raw_weight(kind, pair)
    return weight if kind in ("none", "smooth-margin") else min(max(weight, LIGHTEST), HEAVIEST)


def soft_label(kind: SoftLabels, pair: TrainingPair) -> float:
    """Probability that the winner is the better one: a share of rewards or of judges, or σ(margin)."""
    if kind == "share":
        return value_of(pair, "share")
    if kind == "margin":
        return 1 / (1 + math.exp(-value_of(pair, "margin")))
    return value_of(pair, "agreement") if kind == "agreement" else 1.0


def value_of(pair: TrainingPair, column: str) -> float:
    value: float | None = getattr(pair, column)
    assert value is not None, f"{column} was not read"
    return value


def timestep_weights(kind: TimestepWeight, schedule: NoiseSchedule, timesteps: Tensor) -> Tensor:
    """(N,) float32, for errors on the model's own target.

    "snr": the error of the implied x_0 times SNR, which is the error of the implied ε. "min-snr": times
    min(SNR, 5).
    """
    weight = epsilon_error_per_target_error(schedule)
    if kind == "min-snr":
        weight = weight * (MIN_SNR / snr_of(schedule)).clamp(max=1)
    return weight[timesteps].float()


def step_ratios(schedule: NoiseSchedule, timesteps: Tensor) -> Tensor:
    """(N,) float32: (SNR_{t−1}/SNR_t − 1) · (error of ε per error of the model's own target), 0 < t < T−1.

    Minus half of it times m − r is the expected log-ratio per element of the step t → t−1.
    """
    snr = snr_of(schedule)
    gain = snr[timesteps - 1] / snr[timesteps] - 1
    return (gain * epsilon_error_per_target_error(schedule)[timesteps]).float()


def step_divergence(schedule: NoiseSchedule, timesteps: Tensor) -> Tensor:
    """(N,) float32: ½(SNR_{t−1}/SNR_t − 1) in units of the model's target; NaN at the first and last t.

    Times the mean squared distance of two predictions it is the KL divergence, per element, between the
    DDPM posteriors that they make of the step t → t−1 (Ho et al. 2020, arXiv:2006.11239, eq. 7 and 8).
    """
    inner = (timesteps > 0) & (timesteps < schedule.steps - 1)
    found = 0.5 * step_ratios(schedule, timesteps.clamp(min=1))
    return found.masked_fill(~inner, float("nan"))


def snr_of(schedule: NoiseSchedule) -> Tensor:
    """α²/σ² of every training timestep, (T,) float64."""
    return (schedule.alpha.double() / schedule.sigma.double()).square()


def epsilon_error_per_target_error(schedule: NoiseSchedule) -> Tensor:
    """(T,) float64, at a given x_t: 1 for ε, α² for v and for flow, SNR for x_0."""
    import torch

    if schedule.prediction_type == "epsilon":
        return torch.ones(schedule.steps, dtype=torch.float64)
    return snr_of(schedule) if schedule.prediction_type == "sample" else schedule.alpha.double().square()


class Embeddings:
    """Features from the cache."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf

    def of(self, pairs: Sequence[TrainingPair]) -> Tensor:
        """(2, D, B): unit vectors of (prompt, winner) and of (prompt, loser).

        Prompt and picture count alike: the cosine of two is the mean of both cosines.
        """
        found = [[self._feature(pair, picture) for picture in pair.pictures] for pair in pairs]
        return torch.stack([torch.stack(side) for side in found]).permute(1, 2, 0).contiguous()

    def _feature(self, pair: TrainingPair, picture: str) -> Tensor:
        text = self._shelf.get(f"text.{prompt_name(pair.caption)}")
        return torch.cat([text, self._shelf.get(picture)]) / 2**0.5


def embed(
    folder: Path,
    embedder: Embedder,
    dataset: Path,
    pairs: Iterable[TrainingPair],
    device: str,
    observer: Observer,
) -> Embeddings:
    """Features of every picture and caption; the model is loaded when one is missing.

    Raises:
        UsageError: the model is no CLIP.
    """
    shelf = Shelf(folder / "features" / content_key(embedder.identity))
    pairs = list(pairs)
    captions = {pair.caption for pair in pairs}
    texts = sorted(text for text in captions if f"text.{prompt_name(text)}" not in shelf)
    lacking = {sha for pair in pairs for sha in pair.pictures if sha not in shelf}
    if texts or lacking:
        observer.start("embed", len(texts) + len(lacking), 0)
        clip = _Clip(embedder, device)
        for start in range(0, len(texts), BLOCK):
            block = texts[start : start + BLOCK]
            names = [f"text.{prompt_name(text)}" for text in block]
            shelf.add(dict(zip(names, clip.texts(block), strict=True)))
            observer.advance(len(block), 0)
        found = pictures(dataset, lacking)
        while chunk := list(islice(found, BLOCK)):
            images = [decode(data, where) for _, data, where in chunk]
            shelf.add(dict(zip([sha for sha, _, _ in chunk], clip.pictures(images), strict=True)))
            observer.advance(len(chunk), 0)
        observer.finish()
    return Embeddings(shelf)


_SAFE: dict[str, Any] = {"use_safetensors": True, "dtype": torch.float32}


_NO_CLIP = Case(
    [OSError, ValueError],
    "{where}: no CLIP model: {why}",
    "train.embedder takes a CLIP folder or hub id",
    UsageError,
)


class _Clip:
    """The loaded model."""

    def __init__(self, embedder: Embedder, device: str) -> None:
        where: dict[str, Any] = {"revision": embedder.revision}
        with translated(_NO_CLIP, where=embedder.model):
            self._processor: Any = CLIPProcessor.from_pretrained(embedder.model, **where)
            self._model: Any = part_loaded(
                embedder.model,
                embedder.revision,
                lambda told: CLIPModel.from_pretrained(embedder.model, **told, **where, **_SAFE),
            )
        self._model.eval().to(device)

    def texts(self, texts: Sequence[str]) -> list[Tensor]:
        return self._batches(texts, self._text_features)

    def pictures(self, images: Sequence[Picture]) -> list[Tensor]:
        return self._batches(images, self._image_features)

    def _text_features(self, texts: list[str]) -> Any:
        longest = self._model.config.text_config.max_position_embeddings
        inputs = self._processor(
            text=texts, padding="max_length", truncation=True, max_length=longest, return_tensors="pt"
        )
        return self._model.get_text_features(**inputs.to(self._model.device))

    def _image_features(self, images: list[Picture]) -> Any:
        inputs = self._processor(images=[image.convert("RGB") for image in images], return_tensors="pt")
        return self._model.get_image_features(**inputs.to(self._model.device))

    @torch.no_grad()
    def _batches(self, items: Sequence[Any], features: Callable[[list[Any]], Any]) -> list[Tensor]:
        found: list[Tensor] = []
        for start in range(0, len(items), ENCODE_BATCH):
            raw = features(list(items[start : start + ENCODE_BATCH]))
            pooled = getattr(raw, "pooler_output", raw)  # transformers 5 wraps the features
            found += list(normalize(pooled.float(), dim=-1).cpu())
        return found


@dataclass(frozen=True)
class Knowledge:
    """Answers for one training; `scale` makes the mean weight of its training pairs 1."""

    objective: Objective
    schedule: NoiseSchedule
    scale: float
    embeddings: Embeddings | None

    def of(self, draws: Sequence[Draw], items: Sequence[Item], device: str) -> Known:
        """Of the drawn items, as far as the objective asks."""
        drawn = [items[draw.pair] for draw in draws]
        pairs = [item for item in drawn if isinstance(item, TrainingPair)]
        rankings = [item for item in drawn if isinstance(item, Ranking)]
        singles = [item for item in drawn if isinstance(item, Single)]
        timesteps = torch.tensor([draw.timestep for draw in draws])
        objective = self.objective
        labels = [soft_label(objective.soft_labels, pair) for pair in pairs]
        found = Known(
            weight=self._weight(pairs, timesteps),
            label=torch.tensor(labels) if objective.soft_labels != "none" else None,
            ratio=step_ratios(self.schedule, timesteps) if objective.clip else None,
            gains=torch.tensor([item.gains for item in rankings]).T.contiguous() if rankings else None,
            features=self.embeddings.of(pairs) if self.embeddings else None,
            good=torch.tensor([1.0 if item.good else -1.0 for item in singles]) if singles else None,
            noise=timesteps / self.schedule.steps,
            divergence=step_divergence(self.schedule, timesteps) if objective.needs_reference else None,
        )
        return Known(**{name: _moved(value, device) for name, value in vars(found).items()})

    def _weight(self, pairs: Sequence[TrainingPair], timesteps: Tensor) -> Tensor | None:
        objective, weight = self.objective, None
        if objective.pair_weight != "none":
            weight = torch.tensor([pair_weight(objective.pair_weight, pair, self.scale) for pair in pairs])
        if objective.timestep_weight != "none":
            of_time = timestep_weights(objective.timestep_weight, self.schedule, timesteps)
            weight = of_time if weight is None else weight * of_time
        return weight


def knowledge(
    objective: Objective, schedule: NoiseSchedule, items: Sequence[Item], embeddings: Embeddings | None
) -> Knowledge:
    """For a training on `items`."""
    pairs = [item for item in items if isinstance(item, TrainingPair)]
    return Knowledge(objective, schedule, weight_scale(objective.pair_weight, pairs), embeddings)


def _moved(value: Tensor | None, device: str) -> Tensor | None:
    return None if value is None else value.to(device)
