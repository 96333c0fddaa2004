"""Latents and prompt embeddings on disk, encoded once; pictures that are compared share one frame.

The rule: pictures that stand in one pair, directly or through pairs between them, are framed together.
Their frame is made for the smallest width and the smallest height among them; each picture is resized
until it covers the frame's bucket and its centre is cropped. So neither size nor crop tells which one won.
Without buckets the bucket is the square that the model, or `train.resolution`, names.
"""

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path
from typing import Literal, TypeVar

import torch
from PIL import ImageOps
from PIL.Image import Image as Picture
from torch import Tensor

from rpo_cli.colours import profile_notes
from rpo_cli.compute import LARGE, free_memory, run_halving
from rpo_cli.errors import RpoError, UsageError
from rpo_cli.pictures import decode, read
from rpo_cli.protocols import Observer
from rpo_cli.records import content_key
from rpo_cli.train.data.pairs import Item, pictures
from rpo_cli.train.families.family import Condition, Encoders, Family, covering
from rpo_cli.train.storage import Shelf

Size = tuple[int, int]  # width, height in pixels
SizeCondition = Literal["real", "target"]
LONGEST = 2  # sides of a bucket over the side of its square


@dataclass(frozen=True)
class Frame:
    """What pictures that are compared share.

    Attributes:
        bucket: the size they are trained at.
        original: the smallest width and height among them.
    """

    bucket: Size
    original: Size

    def time_ids(self, condition: SizeCondition) -> Tensor:
        """SDXL's size condition, (6,) float32: original height and width, crop top and left, height, width.

        Args:
            condition: "real" says what happened to the picture; "target" says that it was never larger
                than its bucket nor cropped, as Salesforce's script does for every picture.
        """
        width, height = self.bucket
        if condition == "target":
            return torch.tensor([height, width, 0, 0, height, width], dtype=torch.float32)
        covered = covering(self.original, self.bucket)
        left, top = (covered[0] - width) // 2, (covered[1] - height) // 2
        values = [self.original[1], self.original[0], top, left, height, width]
        return torch.tensor(values, dtype=torch.float32)


def frames(
    sizes: Mapping[str, Size], compared: Iterable[Sequence[str]], buckets: list[Size]
) -> dict[str, Frame]:
    """The frame of every picture in `sizes`; `compared` are the pairs and lists."""
    leader = {name: name for name in sizes}

    def find(name: str) -> str:
        while leader[name] != name:
            leader[name] = leader[leader[name]]
            name = leader[name]
        return name

    for first, *others in compared:
        for other in others:
            leader[find(first)] = find(other)
    smallest: dict[str, Size] = {}
    for name, (width, height) in sizes.items():
        known = smallest.get(find(name), (width, height))
        smallest[find(name)] = (min(width, known[0]), min(height, known[1]))
    made = {name: Frame(nearest_bucket(size, buckets), size) for name, size in smallest.items()}
    return {name: made[find(name)] for name in sizes}


def aspect_buckets(side: int, grain: int) -> list[Size]:
    """Sizes of at most side² pixels and of all shapes from 1:4 to 4:1, the square among them.

    Widths go in steps of a sixteenth of `side` (64 pixels at 1024), or of `grain` where that is coarser.
    """
    step = max(grain, round(side / 16 / grain) * grain)
    shortest = math.ceil(side / LONGEST / step) * step
    found = {(side, side)}
    for width in range(shortest, LONGEST * side + 1, step):
        height = min(side * side // width // step * step, LONGEST * side)
        if height >= shortest:
            found |= {(width, height), (height, width)}
    return sorted(found)


def nearest_bucket(size: Size, buckets: list[Size]) -> Size:
    """The bucket of the nearest shape, the largest of several."""
    shape = math.log(size[0] / size[1])
    return min(buckets, key=lambda b: (round(abs(math.log(b[0] / b[1]) - shape), 9), -b[0] * b[1], b))


ENCODE_BATCH = 8
BYTES_A_PIXEL = 2600  # of a VAE at work in float32, as measured on SD 1.5's; at most that in bfloat16
AT_ONCE_ON_A_CPU = 256 * 256  # pixels: its cores are busy with so many
BLOCK = 256  # entries of one file
FORMAT = "float32"
T = TypeVar("T")


@dataclass(frozen=True)
class Framing:
    """How large pictures are trained, see `Frame`.

    Attributes:
        resolution: side of the square in pixels; None: the model's.
        buckets: keep a picture's shape, at the square's area.
        size_condition: what a family that is told sizes is told.
    """

    resolution: int | None = None
    buckets: bool = False
    size_condition: SizeCondition = "real"


class Cache:
    """What the loop reads: latents by picture, embeddings by caption.

    Attributes:
        shape: (C, h, w) of a square's latents.
        envelope: (C, h, w), large enough for the latents of every picture.
    """

    def __init__(
        self,
        latents: Shelf,
        prompts: Shelf,
        parts: Sequence[str],
        framed: dict[str, Frame],
        square: Size,
        size_condition: SizeCondition | None,
        shape: tuple[int, int, int],
        envelope: tuple[int, int, int],
    ) -> None:
        self._latents = latents
        self._prompts = prompts
        self._parts = parts
        self._framed = framed
        self._square = square
        self._size_condition = size_condition
        self.shape = shape
        self.envelope = envelope

    def latent(self, picture: str, flip: bool) -> tuple[Tensor, Tensor]:
        """Posterior mean and standard deviation, (C, h, w) float32 each."""
        name = entry(picture, flip, self._framed[picture].bucket, self._square)
        return self._latents.get(f"{name}.mean"), self._latents.get(f"{name}.std")

    def size(self, picture: str) -> Size:
        """Width and height in pixels that a picture is trained at."""
        return self._framed[picture].bucket

    def prompt(self, caption: str, picture: str | None = None) -> Condition:
        """Condition of one prompt, and of the picture's size where the family has one; no batch axis."""
        found = {part: self._prompts.get(f"{prompt_name(caption)}.{part}") for part in self._parts}
        if self._size_condition is not None and picture is not None:
            found["time_ids"] = self._framed[picture].time_ids(self._size_condition)
        return found


def pictures_at_once(size: Size, device: str) -> int:
    """Pictures that a VAE encodes together; the last batch is filled up to as many.

    On a CPU large pictures go alone: together they are no faster, and take as much memory again.
    """
    pixels, free = size[0] * size[1], free_memory(device)
    most = AT_ONCE_ON_A_CPU if device == "cpu" else ENCODE_BATCH * pixels
    if free is not None:
        most = min(most, free // 2 // BYTES_A_PIXEL)
    return max(count for count in (1, 2, 4, ENCODE_BATCH) if count == 1 or count * pixels <= most)


def texts_at_once(encoders: Encoders, device: str) -> int:
    """Captions that are encoded together; large text encoders keep a CPU busy with one."""
    return 1 if device == "cpu" and encoders.text_weights > LARGE else ENCODE_BATCH


def entry(picture: str, flip: bool, bucket: Size, square: Size) -> str:
    framed = picture if bucket == square else f"{picture}@{bucket[0]}x{bucket[1]}"
    return f"{framed}.flip" if flip else framed


def prompt_name(caption: str) -> str:
    return hashlib.sha256(caption.encode()).hexdigest()


class Builder:
    """Fills a cache; the encoders are loaded at the first entry that is missing, on `device`.

    Raises:
        UsageError: the model cannot work at the resolution that `framing` asks for.
    """

    def __init__(
        self,
        folder: Path,
        family: Family,
        model_identity: str,
        device: str,
        observer: Observer,
        framing: Framing = Framing(),
    ) -> None:
        self._family = family
        self._device = device
        self._observer = observer
        self._framing = framing
        self._encoders: Encoders | None = None
        (self._channels, latent_side, _), own = family.latent_size()
        self._factor = own // latent_side
        side = framing.resolution or own
        if side % family.grain():
            raise UsageError(
                f"a resolution of {side} pixels is no multiple of {family.grain()}, as this model needs",
                f"e.g. train.resolution = {max(1, round(side / family.grain())) * family.grain()}",
            )
        self._square = (side, side)
        self._buckets = aspect_buckets(side, family.grain()) if framing.buckets else [self._square]
        self._latents = Shelf(folder / "latents" / content_key(model_identity, side, FORMAT))
        self._prompts = Shelf(folder / "prompts" / content_key(model_identity, FORMAT))
        self._sizes = Shelf(folder / "sizes")

    def build(
        self,
        dataset: Path,
        pairs: Iterable[Item],
        *,
        flip: bool,
        drop_captions: bool,
        captions: bool = True,
    ) -> Cache:
        """A cache with everything that training on `pairs` reads.

        Args:
            captions: whether they are encoded here; not where the text encoders are trained too.

        Raises:
            CorruptImage: a picture does not decode; file and row are named.
        """
        pairs = list(pairs)
        framed = self._frames(dataset, pairs)
        lacking = {
            sha
            for sha, frame in framed.items()
            if any(f"{self._entry(sha, side, frame)}.std" not in self._latents for side in {False, flip})
        }
        told = {pair.caption for pair in pairs} | ({""} if drop_captions else set()) if captions else set()
        texts = sorted(c for c in told if f"{prompt_name(c)}.hidden" not in self._prompts)
        if lacking or texts:
            wanted = len(framed) + len(told)
            self._observer.start("encode", wanted, wanted - len(lacking) - len(texts))
            self._add_pictures(dataset, {sha: framed[sha] for sha in lacking}, flip)
            self._add_prompts(texts)
            self._observer.finish()
        self._encoders = None
        width, height = (max(frame.bucket[axis] for frame in framed.values()) for axis in (0, 1))
        return Cache(
            self._latents,
            self._prompts,
            self._family.prompt_parts if captions else (),
            framed,
            self._square,
            self._framing.size_condition if self._family.sized else None,
            self._latent_shape(self._square),
            self._latent_shape((width, height)),
        )

    def _latent_shape(self, size: Size) -> tuple[int, int, int]:
        return (self._channels, size[1] // self._factor, size[0] // self._factor)

    def _entry(self, picture: str, flip: bool, frame: Frame) -> str:
        return entry(picture, flip, frame.bucket, self._square)

    def _frames(self, dataset: Path, pairs: Sequence[Item]) -> dict[str, Frame]:
        """The frame of every picture; pictures are opened for it only when their sizes matter."""
        shas = {sha for pair in pairs for sha in pair.pictures}
        if not (self._family.sized or self._framing.buckets):
            return dict.fromkeys(shas, Frame(self._square, self._square))
        for block in _blocks(pictures(dataset, {sha for sha in shas if sha not in self._sizes})):
            self._sizes.add({sha: torch.tensor(decode(data, where).size) for sha, data, where in block})
        sizes = {sha: (int(size[0]), int(size[1])) for sha in shas for size in [self._sizes.get(sha)]}
        unlike = sum(len({sizes[sha] for sha in pair.pictures}) > 1 for pair in pairs)
        if unlike:
            self._observer.note(
                f"{unlike} of {len(pairs)} pairs hold pictures of two sizes: both are framed by "
                "the smaller width and height"
            )
        return frames(sizes, (pair.pictures for pair in pairs), self._buckets)

    def _add_pictures(self, dataset: Path, lacking: dict[str, Frame], flip: bool) -> None:
        profiles: Counter[str] = Counter()
        for block in _blocks(pictures(dataset, lacking.keys())):
            found = [(sha, read(data, where), where) for sha, data, where in block]
            profiles.update(one.profile for _, one, _ in found if one.profile is not None)
            named = [
                (self._entry(sha, mirrored, lacking[sha]), picture, lacking[sha].bucket, where)
                for sha, one, where in found
                for upright in [one.picture]
                for mirrored in sorted({False, flip})
                for picture in [ImageOps.mirror(upright) if mirrored else upright]
            ]
            tensors: dict[str, Tensor] = {}
            named.sort(key=lambda item: item[2])  # pictures of one batch have one size
            for bucket, items in groupby(named, key=lambda item: item[2]):
                tensors |= self._latents_of(list(items), bucket)
            self._latents.add(tensors)
            self._observer.advance(len(block), 0)
        for note in profile_notes(profiles):
            self._observer.note(note)

    def _latents_of(
        self, named: Sequence[tuple[str, Picture, Size, str]], bucket: Size
    ) -> dict[str, Tensor]:
        def encode(batch: Sequence[Picture]) -> list[tuple[Tensor, Tensor]]:
            mean, std = self._loaded().encode_images(batch, bucket)
            return list(zip(mean, std, strict=True))

        tensors: dict[str, Tensor] = {}
        size = pictures_at_once(bucket, self._device)
        results = self._encode(encode, [picture for _, picture, _, _ in named], size)
        for (name, _, _, where), (mean, std) in zip(named, results, strict=True):
            if not bool(torch.isfinite(mean).all() and torch.isfinite(std).all()):
                raise RpoError(f"{where}: the VAE gives non-finite latents", "leave this picture out")
            tensors |= {f"{name}.mean": mean, f"{name}.std": std}
        return tensors

    def _add_prompts(self, texts: Sequence[str]) -> None:
        too_long: list[str] = []
        for block in _blocks(iter(texts)):
            size = texts_at_once(self._loaded(), self._device)
            results = self._encode(self._encode_prompts, block, size)
            too_long += self._loaded().too_long(block)
            self._prompts.add(
                {
                    f"{prompt_name(text)}.{part}": value
                    for text, condition in zip(block, results, strict=True)
                    for part, value in condition.items()
                }
            )
            self._observer.advance(len(block), 0)
        tell_too_long(self._observer, too_long, len(texts))

    def _loaded(self) -> Encoders:
        if self._encoders is None:
            self._encoders = self._family.load_encoders(self._device)
        return self._encoders

    def _encode(self, step: Callable, items: Sequence[T], size: int) -> list:
        results, _ = run_halving(step, items, size, what="encoding", note=self._observer.note)
        return results

    def _encode_prompts(self, batch: Sequence[str]) -> list[Condition]:
        encoded = self._loaded().encode_prompts(batch)
        return [{part: values[i] for part, values in encoded.items()} for i in range(len(batch))]


def tell_too_long(observer: Observer, captions: Sequence[str], total: int) -> None:
    """Count captions whose ends are not seen, and name the first ones by how they begin."""
    if captions:
        shown = ", ".join(repr(caption[:40]) for caption in captions[:3])
        more = ", ..." if len(captions) > 3 else ""
        observer.note(
            f"{len(captions)} of {total} captions are longer than the text encoder reads, their ends are "
            f"not seen: {shown}{more}"
        )


def _blocks(items: Iterator[T]) -> Iterator[list[T]]:
    while block := list(islice(items, BLOCK)):
        yield block
