"""Loading models the safe way: safetensors only, no remote code, errors in two lines."""

import inspect
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import update_wrapper
from pathlib import Path
from typing import Any

import torch
from PIL.Image import Image as Picture
from PIL.Image import Resampling
from torch.utils._pytree import tree_flatten, tree_unflatten
from transformers import (
    CLIPTextModel,
    CLIPTextModelWithProjection,
    PreTrainedTokenizerBase,
    T5EncoderModel,
)
from transformers.utils import logging as transformers_logging

from rpo_cli import installing, model_files
from rpo_cli.compute import fastest_layout
from rpo_cli.errors import Case, MissingDependency, RpoError, UsageError, nearest, translated
from rpo_cli.model_files import is_single_file
from rpo_cli.protocols import Weights
from rpo_cli.single_file import single_file


def load_model(
    weights: Weights,
    kind: str,
    model: Any,
    processor: Any,
    *,
    whole: bool = False,
) -> tuple[Any, Any]:
    """(processor, model in evaluation mode on its device): safetensors only, no code from the folder.

    Args:
        kind: what it should be, for the error: "a vision-language model".
        model: the transformers class (an Auto class or a plain one) that loads the weights.
        processor: the class that loads the processor.
        whole: refuse a folder that lacks weights, which the library would fill at random.

    Raises:
        MissingDependency: the processor needs a package that is not installed.
        RpoError: the folder does not load; the library's reason is in the message.
    """
    ref, safe = weights.model, {"revision": weights.revision, "trust_remote_code": False}

    def load(also: dict[str, Any]) -> Any:
        how = {"dtype": DTYPES[weights.dtype], "use_safetensors": True, "output_loading_info": whole}
        return model.from_pretrained(ref, **how, **also, **safe)

    with loading(ref, kind, revision=weights.revision):
        prepared = processor.from_pretrained(ref, **safe)
        found = model_files.part_loaded(ref, weights.revision, load)
    if whole:
        found, said = found
        missing = sorted(said["missing_keys"])
        if missing:
            raise RpoError(
                f"{ref}: cannot be loaded as {kind}: it lacks {len(missing)} weights, e.g. {missing[0]}",
                "the weights are of another kind of model, or their names are of another library",
            )
    return prepared, found.eval().to(weights.device)


def _package(error: ImportError) -> dict[str, str]:
    name = error.name or ("torchvision" if "torchvision" in str(error).lower() else "")
    install = installing.package(name) if name else "install what the message names"
    return {"package": name or "a package", "install": install}


_LOADING = (
    Case(
        [ImportError],
        "{where}: loading it needs {package}: {why}",
        "{install}; see `rpo list`",
        MissingDependency,
        facts=_package,
    ),
    Case(
        [OSError, ValueError, KeyError, AttributeError, TypeError, RuntimeError],
        "{where}: cannot be loaded as {what}: {why}",
        "{now}",
    ),
)


@contextmanager
def loading(
    ref: str, what: str, holds: str = "config.json, a processor", *, revision: str | None = None
) -> Iterator[None]:
    """What libraries raise while they load `ref` as an error in two lines."""
    missing, failed = _LOADING
    told = replace(failed, facts=lambda error: {"now": _now(ref, revision, error, holds)})
    with translated(missing, told, where=ref, what=what):
        yield


def _now(ref: str, revision: str | None, error: Exception, holds: str) -> str:
    """A hint that fits: what is pickled is told where something is."""
    if hint := model_files.pickled_hint(ref, revision):
        return hint
    if isinstance(error, OSError):
        return f"it must hold {holds} and the weights of every part: download it again, whole"
    return "its files may be of another kind or version than the libraries here: see `rpo doctor`"


@contextmanager
def quiet() -> Iterator[None]:
    """Without diffusers' log: what matters of it is said in our own words."""
    from diffusers.utils import logging as diffusers_logging

    level = diffusers_logging.get_verbosity()
    diffusers_logging.set_verbosity(logging.CRITICAL)
    try:
        yield
    finally:
        diffusers_logging.set_verbosity(level)


DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def load_pipeline(
    weights: Weights,
    scheduler: str | None = None,
    *,
    scheduler_config: Mapping[str, Any] | None = None,
    denoiser: str | None = None,
    kind: str = "DiffusionPipeline",
    parts: Mapping[str, Any] | None = None,
) -> Any:
    """The pipeline that the folder's own `model_index.json` names, on its device, without progress bars.

    Args:
        weights: of a diffusers folder, a checkpoint in one file, or a hub id.
        scheduler: a diffusers scheduler class to use instead of the model's own.
        scheduler_config: what it is made with beside the configuration of the model's own.
        kind: the pipeline class to load the folder's parts into, where it is not the folder's own.
        parts: components that the folder does not hold.
        denoiser: folder of a UNet or transformer to use instead of the model's own.

    Raises:
        UsageError: no such scheduler, or `denoiser` is none.
        RpoError: the folder does not load; the library's reason is in the message.
    """
    from diffusers.utils import logging as diffusers_logging  # late: a critic or reward needs none of it

    diffusers_logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()
    scheduler_class = scheduler_named(scheduler) if scheduler else None
    model = weights.model
    own = _denoiser(Path(denoiser), DTYPES[weights.dtype]) if denoiser else {}
    given = {**own, **(parts or {})}
    read = _from_file if is_single_file(model) else _from_folder
    with loading(model, "a diffusers pipeline", model_files.INDEX, revision=weights.revision):
        pipe = read(weights, kind, given)
    if absent := model_files.needed(type(pipe).__name__, pipe.components):
        raise RpoError(f"{model}: {model_files.draws_nothing(absent)}", model_files.GET_WHOLE)
    if scheduler_class is not None:
        pipe.scheduler = scheduler_class.from_config(pipe.scheduler.config, **(scheduler_config or {}))
    pipe.set_progress_bar_config(disable=True)
    pipe.to(weights.device)
    if (unet := getattr(pipe, "unet", None)) is not None:
        unet.to(memory_format=fastest_layout(unet, weights.device))
    for name, part in pipe.components.items():
        if name.startswith("text_encoder") and isinstance(part, torch.nn.Module):
            part.forward = KnownTexts(part.forward, alone=weights.device == "cpu")
    return pipe


def _from_folder(weights: Weights, kind: str, parts: Mapping[str, Any]) -> Any:
    import diffusers

    loader: Any = getattr(diffusers, kind)
    how = {"revision": weights.revision, "dtype": DTYPES[weights.dtype], "use_safetensors": True}

    def load(place: str, told: dict[str, Any]) -> Any:
        return loader.from_pretrained(place, **{**told, **how, **parts})

    return model_files.pipeline_loaded(weights.model, weights.revision, load, DTYPES[weights.dtype])


def _from_file(weights: Weights, kind: str, parts: Mapping[str, Any]) -> Any:
    """A checkpoint in one file, into `kind` or the class that its configuration names."""
    import diffusers

    found = single_file(weights.model)
    loader: Any = getattr(diffusers, kind if kind != "DiffusionPipeline" else found.index["_class_name"])
    how = {"config": str(found.config), "dtype": DTYPES[weights.dtype], "local_files_only": True}
    absent = dict.fromkeys(
        [*(name for name in model_files.OPTIONAL if name in found.index), *model_files.empty(found.index)]
    )
    with quiet():  # of weights that it keeps in float32, and none are
        return loader.from_single_file(weights.model, **{**absent, **how, **found.options, **parts})


def _denoiser(folder: Path, dtype: torch.dtype) -> dict[str, Any]:
    """Component name → the denoiser that a folder holds, of the class that its own config names."""
    import diffusers

    with translated(_NO_DENOISER, where=str(folder)):
        name = str(json.loads((folder / "config.json").read_text(encoding="utf-8"))["_class_name"])
    kind = getattr(diffusers, name, None)
    if not (isinstance(kind, type) and issubclass(kind, diffusers.ModelMixin)):
        raise UsageError(f"{folder}: '{name}' is no model of diffusers", _TUNED)
    with translated(_UNLOADED, where=str(folder), name=name):
        loaded: Any = kind.from_pretrained(folder, dtype=dtype, use_safetensors=True)
    return {"transformer" if "Transformer" in name else "unet": loaded}


_TUNED = "give the unet or transformer folder that `rpo train --full` wrote"
_NO_DENOISER = Case(
    [OSError, ValueError, KeyError, TypeError],
    "{where}: no folder of a denoiser: {why}",
    _TUNED,
    UsageError,
)
_UNLOADED = Case([OSError, ValueError, RuntimeError], "{where}: cannot be loaded as {name}: {why}", _TUNED)


def scheduler_named(name: str) -> Any:
    import diffusers

    known = [n for n in dir(diffusers) if n.endswith("Scheduler") and not n.startswith("Flax")]
    if name not in known:
        raise UsageError(
            f"'{name}' is no diffusers scheduler{nearest(name, known)}",
            "e.g. DDIMScheduler, EulerDiscreteScheduler",
        )
    return getattr(diffusers, name)


MOST_KEPT = 64 << 20  # bytes of what one text becomes


class KnownTexts:
    """A text encoder's `forward` that encodes a text once, while its pictures are being drawn.

    On a CPU a text is encoded alone, for there the work grows with the rows; so what becomes of it hangs
    on itself only. Elsewhere in the shape of the batch. As many texts are kept as a batch has, and the
    blank one of guidance.
    """

    def __init__(self, forward: Callable[..., Any], *, alone: bool) -> None:
        update_wrapper(self, forward)
        self._forward, self._alone, self._off = forward, alone, False
        self._kept: dict[Any, Any] = {}  # the text that was used last stands last

    def __call__(self, *given: Any, **named: Any) -> Any:
        told: dict[Any, Any] = {**dict(enumerate(given)), **named}
        texts = {name: value for name, value in told.items() if isinstance(value, torch.Tensor)}
        how = tuple((name, value) for name, value in told.items() if name not in texts)
        if self._off or torch.is_grad_enabled() or not _are_texts(list(texts.values()), how):
            return self._forward(*given, **named)
        count = len(next(iter(texts.values())))
        size = 1 if self._alone else count
        rows = [value.cpu().numpy() for value in texts.values()]
        keys = [(how, size, *(row[place].tobytes() for row in rows)) for place in range(count)]
        new = {key: place for place, key in enumerate(keys) if key not in self._kept}
        for start in range(0, len(new), size):
            chosen = list(new.items())[start : start + size]
            places = [place for _, place in (*chosen, *chosen[-1:] * (size - len(chosen)))]
            asked = {**told, **{name: value[places] for name, value in texts.items()}}
            made = self._forward(
                *map(asked.get, range(len(given))), **{name: asked[name] for name in named}
            )
            found, form = tree_flatten(made)
            if not _worth_keeping(found, size):
                self._off = True
                return self._forward(*given, **named)
            for place, (key, _) in enumerate(chosen):
                row = [None if value is None else value[[place]] for value in found]
                self._kept[key] = row, form
        for key in keys:
            self._kept[key] = self._kept.pop(key)
        parts = zip(*(self._kept[key][0] for key in keys), strict=True)
        form = self._kept[keys[0]][1]
        for key in list(self._kept)[: -count - 1]:
            del self._kept[key]
        return tree_unflatten([None if part[0] is None else torch.cat(part) for part in parts], form)


def _are_texts(values: list[torch.Tensor], how: tuple[tuple[Any, Any], ...]) -> bool:
    """Whether a text encoder is given numbers of tokens, (texts, tokens), and no picture beside them."""
    whole = all(value.ndim == 2 and not value.is_floating_point() for value in values)
    plain = all(value is None or isinstance(value, (bool, int)) for _, value in how)
    return whole and plain and len({len(value) for value in values}) == 1


def _worth_keeping(found: list[Any], rows: int) -> bool:
    """Whether an output is of tensors with a row a text, and not too large."""
    made = [value for value in found if value is not None]
    fit = all(isinstance(value, torch.Tensor) and len(value) == rows for value in made)
    return fit and sum(value.nbytes for value in made) <= rows * MOST_KEPT


def generators(seeds: list[int]) -> list[torch.Generator]:
    """One CPU generator per row: a row's noise never depends on its place in the batch or the device."""
    return [torch.Generator("cpu").manual_seed(seed) for seed in seeds]


def resized(picture: Picture, size: tuple[int, int]) -> Picture:
    return picture if picture.size == size else picture.resize(size, Resampling.LANCZOS)


def finished(out: Any, size: tuple[int, int] | None = None) -> list[Picture | None]:
    """The pictures of a pipeline's output, of one size; None where a safety checker blacked one out."""
    flags = getattr(out, "nsfw_content_detected", None) or [False] * len(out.images)
    pictures = [image.convert("RGB") for image in out.images]
    return [
        None if flagged else resized(picture, size or picture.size)
        for picture, flagged in zip(pictures, flags, strict=True)
    ]


CLIP = (CLIPTextModel, CLIPTextModelWithProjection)
ENDLESS = 10**6  # a tokenizer without a limit names a number beyond any text


def tokens_over(pipe: Any, texts: Sequence[str], *, longest: int | None = None) -> list[dict[str, int]]:
    """Per text: tokenizer of the pipeline → tokens beyond what its text encoder reads; {}: all is read.

    Special tokens count, and those of a chat template. A tokenizer whose limit cannot be told, or that
    reads beside a picture's processor, is left out.

    Args:
        longest: tokens that the pipeline's call asks for of encoders other than CLIP; None: its own number.
    """
    found: list[dict[str, int]] = [{} for _ in texts]
    for name, limit in limits(pipe, longest).items():
        for over, count in zip(found, _counts(pipe, name, texts), strict=True):
            if count > limit:
                over[name] = count - limit
    return found


def limits(pipe: Any, longest: int | None = None) -> dict[str, int]:
    """Tokenizer → tokens that its text encoder is given at most."""
    parts: dict[str, Any] = pipe.components
    if parts.get("processor") is not None:
        return {}
    own = inspect.signature(type(pipe).__call__).parameters.get("max_sequence_length")
    asked = longest if longest is not None else own.default if own is not None else None
    told = {
        name: _limit(parts[name], parts.get(_encoder(name)), asked)
        for name in parts
        if name.startswith("tokenizer") and isinstance(parts[name], PreTrainedTokenizerBase)
    }
    return {name: limit for name, limit in told.items() if limit is not None}


def _encoder(tokenizer: str) -> str:
    return tokenizer.replace("tokenizer", "text_encoder", 1)


def _limit(tokenizer: Any, encoder: Any, asked: Any) -> int | None:
    if isinstance(asked, int) and not isinstance(encoder, CLIP):
        return asked
    if tokenizer.model_max_length < ENDLESS:
        return int(tokenizer.model_max_length)
    return int(encoder.config.max_position_embeddings) if isinstance(encoder, CLIP) else None


def _counts(pipe: Any, name: str, texts: Sequence[str]) -> list[int]:
    tokenizer, encoder = getattr(pipe, name), pipe.components.get(_encoder(name))
    told = list(texts)
    if tokenizer.chat_template and not isinstance(encoder, (*CLIP, T5EncoderModel)):
        how = {"tokenize": False, "add_generation_prompt": True, "enable_thinking": False}
        turns = ([{"role": "user", "content": text}] for text in told)
        told = [tokenizer.apply_chat_template(turn, **how) for turn in turns]
    return [len(ids) for ids in tokenizer(told, truncation=False, verbose=False).input_ids]
