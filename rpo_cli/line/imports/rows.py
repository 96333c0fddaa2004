"""Entries of a source → rows of the tables. Keys are made of content: the same row never comes in twice."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rpo_cli.colours import decoding_of
from rpo_cli.errors import CorruptImage, OtherFormat
from rpo_cli.exchange.incoming import Bad, Choice, Entry, Feedback, Picture, Vote
from rpo_cli.line.imports.sources import STAGE
from rpo_cli.pictures import read, sha256
from rpo_cli.records import Critique, Image, ImageData, Preference, Prompt, Reject, Row, content_key
from rpo_cli.text import normalised

SWAPPED: dict[Choice | None, Choice] = {"a": "b", "b": "a", "tie": "tie"}


def image_key(prompt: str, sha256: str) -> str:
    return content_key(STAGE, prompt, sha256)


def critique_key(image_id: str, text: str) -> str:
    return content_key(STAGE, image_id, text)


def preference_key(said: Mapping[str, Any]) -> str:
    """The key of a judgement, from the columns KEYED of its row: the same with the sides swapped.

    What only some judgements have (a share, a standing, what stood beside it) counts where it is there.
    """
    first, second = sorted((said["a_sha256"], said["b_sha256"]))
    straight = said["a_sha256"] == first
    choice = said["choice"] if straight else SWAPPED.get(said["choice"])
    share, standing, rich = (said.get(name) for name in ("share", "standing", "rich"))
    more: list[Any] = [] if share is None else [share if straight else 1 - share]
    more += [] if standing is None else [["standing", standing]]
    more += [] if rich is None else [rich]
    names = (said["source_id"], said["judged_by"])
    return content_key("preference", said["prompt"], first, second, choice, *names, *more)


KEYED = (
    *("prompt", "a_sha256", "b_sha256", "choice", "source_id", "judged_by"),
    *("share", "standing", "rich"),
)


@dataclass(frozen=True)
class RowMaker:
    """Entries → rows, of the source that has the id `group` in run.json."""

    group: str
    source: str
    settings: str
    judged_by: str
    kept_out: Mapping[str, str]  # normal form of a prompt → the list that keeps it out

    def rows(self, entry: Entry | Bad) -> list[Row]:
        """Every row that an entry gives; one reject when a picture of it cannot be read."""
        if isinstance(entry, Bad):
            return [self._reject(entry)]
        if self.kept_out and (where := self.kept_out.get(normalised(entry.prompt))) is not None:
            return [self._reject(Bad(entry.row, "left_out", f"in {where}: {entry.prompt}"))]
        prompt_id = content_key("prompt", entry.prompt)
        try:
            pictures = [self._image(entry, prompt_id, picture) for picture in entry.pictures]
        except CorruptImage as error:
            reason = "other_format" if isinstance(error, OtherFormat) else "corrupt_image"
            return [self._reject(Bad(entry.row, reason, error.message))]
        prompt = Prompt(prompt_id=prompt_id, prompt=entry.prompt, source=f"import {self.source}")
        said = [
            self._critique(image, picture.feedback)
            for image, picture in zip(pictures, entry.pictures, strict=True)
            if picture.feedback is not None
        ]
        return [prompt, *pictures, *said, *self._preferences(entry, pictures)]

    def _image(self, entry: Entry, prompt_id: str, picture: Picture) -> Image:
        content = sha256(picture.data)
        found = read(picture.data, picture.name or picture.source_id or f"row {entry.row}")
        width, height = found.picture.size
        return Image(
            image_id=image_key(entry.prompt, content),
            prompt_id=prompt_id,
            prompt=entry.prompt,
            index=entry.row,
            seed=0,
            sha256=content,
            width=width,
            height=height,
            image=ImageData(bytes=picture.data),
            batch_size=1,
            settings=self.settings,
            environment="{}",
            kind="import",
            source_id=picture.source_id,
            source_model=picture.model,
            decoding=decoding_of(found.profile),
            profile=found.profile,
            several=found.several or None,
        )

    def _preferences(self, entry: Entry, images: list[Image]) -> Iterator[Preference]:
        for vote in entry.votes:
            yield self._preference(entry, images[vote.a], images[vote.b], vote)
        for image, picture in zip(images, entry.pictures, strict=True):
            if picture.standing is not None:
                alone = Vote(0, 0, None, picture.source_id)
                yield self._preference(entry, image, image, alone, picture.standing)

    def _preference(
        self, entry: Entry, a: Image, b: Image, vote: Vote, standing: float | None = None
    ) -> Preference:
        said = {
            "prompt": entry.prompt,
            "a_sha256": a.sha256,
            "b_sha256": b.sha256,
            "choice": vote.choice,
            "source_id": vote.source_id,
            "judged_by": "human" if self.judged_by == "human" else "source",
            "share": vote.share,
            "standing": standing,
            "rich": vote.rich,
        }
        return Preference(
            preference_id=preference_key(said),
            prompt_id=a.prompt_id,
            a_id=a.image_id,
            b_id=b.image_id,
            row=entry.row,
            settings=self.settings,
            **said,
        )

    def _critique(self, image: Image, said: Feedback) -> Critique:
        return Critique(
            critique_id=critique_key(image.image_id, said.text),
            image_id=image.image_id,
            image_sha256=image.sha256,
            prompt_id=image.prompt_id,
            prompt=image.prompt,
            text=said.text,
            flaws=said.flaws,
            instructions=(),
            reply="",
            attempt=0,
            seed=0,
            batch_size=1,
            settings=self.settings,
            environment="{}",
        )

    def _reject(self, bad: Bad) -> Reject:
        return Reject(
            key_of=content_key(STAGE, self.group, bad.row, bad.reason, bad.detail[:2000]),
            stage=STAGE,
            input_id=f"row {bad.row}",
            reason=bad.reason,
            detail=bad.detail[:2000],
            settings=self.settings,
        )
