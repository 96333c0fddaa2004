"""Latents and prompt embeddings on disk, encoded once: the loop loads neither VAE nor text encoder.

    CACHE/latents/<fingerprint>/<block>.safetensors     tensors "<picture>.mean", "<picture>.std"
    CACHE/prompts/<fingerprint>/<block>.safetensors     tensors "<prompt>.<part>", e.g. ".hidden"

A picture is named by the SHA-256 of its encoded bytes (".flip" for its mirror image), a prompt by that
of its text. The fingerprint hashes the model's identity, picture size and number format, so nothing
stale is ever read. Blocks are whole or absent and are never changed; the folder may be deleted at will.
Mean and standard deviation are kept, so the loop can still sample the posterior.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TypeVar

import torch
from PIL import ImageOps
from PIL.Image import Image as Picture
from safetensors import SafetensorError, safe_open
from torch import Tensor

from rpo_cli.compute import run_halving
from rpo_cli.errors import RpoError
from rpo_cli.pictures import decode
from rpo_cli.protocols import Observer
from rpo_cli.records import content_key
from rpo_cli.train.data import Pair, pictures
from rpo_cli.train.families import Condition, Encoders, StableDiffusion1
from rpo_cli.train.files import safetensors_bytes, write_atomically

ENCODE_BATCH = 8
BLOCK = 256  # entries of one file
FORMAT = "float32"
T = TypeVar("T")


class Shelf:
    """A folder of blocks: named tensors, found by name, read one by one through the page cache."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._blocks: dict[str, safe_open] = {}
        for path in sorted(folder.glob("*.safetensors")):
            self._open(path)

    def __contains__(self, name: str) -> bool:
        return name in self._blocks

    def get(self, name: str) -> Tensor:
        tensor: Tensor = self._blocks[name].get_tensor(name)
        return tensor

    def add(self, tensors: dict[str, Tensor]) -> None:
        """Commit a block."""
        path = self._folder / f"{content_key(sorted(tensors))}.safetensors"
        write_atomically(path, safetensors_bytes(tensors, {}))
        self._open(path)

    def _open(self, path: Path) -> None:
        try:
            block = safe_open(path, framework="pt")
        except SafetensorError:  # damaged after it was written: it can be made again
            path.unlink(missing_ok=True)
            return
        self._blocks.update(dict.fromkeys(block.keys(), block))


class Cache:
    """What the loop reads: latents by picture, embeddings by caption."""

    def __init__(self, latents: Shelf, prompts: Shelf, parts: Sequence[str] = ("hidden",)) -> None:
        self._latents = latents
        self._prompts = prompts
        self._parts = parts

    def latent(self, picture: str, flip: bool) -> tuple[Tensor, Tensor]:
        """Posterior mean and standard deviation, (C, h, w) float32 each."""
        name = entry(picture, flip)
        return self._latents.get(f"{name}.mean"), self._latents.get(f"{name}.std")

    def prompt(self, caption: str, picture: str | None = None) -> Condition:
        """Condition of one prompt, and of the picture's size where the family has one; no batch axis."""
        return {part: self._prompts.get(f"{prompt_name(caption)}.{part}") for part in self._parts}


def entry(picture: str, flip: bool) -> str:
    return f"{picture}.flip" if flip else picture


def prompt_name(caption: str) -> str:
    return hashlib.sha256(caption.encode()).hexdigest()


class Builder:
    """Fills a cache; the encoders are loaded at the first entry that is missing, on `device`."""

    def __init__(
        self, folder: Path, family: StableDiffusion1, model_identity: str, device: str, observer: Observer
    ) -> None:
        self._family = family
        self._device = device
        self._observer = observer
        self._encoders: Encoders | None = None
        _, size = family.latent_size()
        self._latents = Shelf(folder / "latents" / content_key(model_identity, size, FORMAT))
        self._prompts = Shelf(folder / "prompts" / content_key(model_identity, FORMAT))

    def build(self, dataset: Path, pairs: Iterable[Pair], *, flip: bool, drop_captions: bool) -> Cache:
        """A cache with everything that training on `pairs` reads.

        Raises:
            CorruptImage: a picture does not decode; file and row are named.
        """
        pairs = list(pairs)
        shas = {sha for pair in pairs for sha in (pair.winner, pair.loser)}
        lacking = {
            sha
            for sha in shas
            if any(f"{entry(sha, side)}.std" not in self._latents for side in {False, flip})
        }
        captions = {pair.caption for pair in pairs} | ({""} if drop_captions else set())
        texts = sorted(c for c in captions if f"{prompt_name(c)}.hidden" not in self._prompts)
        if lacking or texts:
            wanted = len(shas) + len(captions)
            self._observer.start("encode", wanted, wanted - len(lacking) - len(texts))
            self._add_pictures(dataset, lacking, flip)
            self._add_prompts(texts)
            self._observer.finish()
        self._encoders = None
        return Cache(self._latents, self._prompts)

    def _add_pictures(self, dataset: Path, lacking: set[str], flip: bool) -> None:
        for block in _blocks(pictures(dataset, lacking)):
            named = [
                (entry(sha, mirrored), ImageOps.mirror(picture) if mirrored else picture, where)
                for sha, data, where in block
                for picture in [decode(data, where)]
                for mirrored in sorted({False, flip})
            ]
            results = self._encode(self._encode_pictures, [picture for _, picture, _ in named])
            tensors: dict[str, Tensor] = {}
            for (name, _, where), (mean, std) in zip(named, results, strict=True):
                if not bool(torch.isfinite(mean).all() and torch.isfinite(std).all()):
                    raise RpoError(f"{where}: the VAE gives non-finite latents", "leave this picture out")
                tensors |= {f"{name}.mean": mean, f"{name}.std": std}
            self._latents.add(tensors)
            self._observer.advance(len(block), 0)

    def _add_prompts(self, texts: Sequence[str]) -> None:
        for block in _blocks(iter(texts)):
            results = self._encode(self._encode_prompts, block)
            self._prompts.add(
                {
                    f"{prompt_name(text)}.{part}": value
                    for text, condition in zip(block, results, strict=True)
                    for part, value in condition.items()
                }
            )
            self._observer.advance(len(block), 0)

    def _encode(self, step: Callable, items: Sequence[T]) -> list:
        if self._encoders is None:
            self._encoders = self._family.load_encoders(self._device)
        results, _ = run_halving(step, items, ENCODE_BATCH, what="encoding", note=self._observer.note)
        return results

    def _encode_pictures(self, batch: Sequence[Picture]) -> list[tuple[Tensor, Tensor]]:
        assert self._encoders is not None
        mean, std = self._encoders.encode_images(batch)
        return list(zip(mean, std, strict=True))

    def _encode_prompts(self, batch: Sequence[str]) -> list[Condition]:
        assert self._encoders is not None
        encoded = self._encoders.encode_prompts(batch)
        return [{part: values[i] for part, values in encoded.items()} for i in range(len(batch))]


def _blocks(items: Iterator[T]) -> Iterator[list[T]]:
    while block := list(islice(items, BLOCK)):
        yield block
