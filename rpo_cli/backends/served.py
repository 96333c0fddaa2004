"""A critic behind an OpenAI-compatible server (vLLM and others): messages, answers, probabilities."""

import base64
import hashlib
import io
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from PIL.Image import Image as Picture

from rpo_cli.backends.http import BadAnswer
from rpo_cli.backends.servers import Budget, Servers, endpoints
from rpo_cli.errors import RpoError, UsageError, nearest
from rpo_cli.protocols import Conversation, Message, Reply, Weights
from rpo_cli.templates import disarm

KEPT_PICTURES = 64  # encoded, so that both turns of a row send the same bytes without encoding twice
EACH = 16  # requests that a server is given at a time whose limits nobody has told us
REASONING = ("reasoning_content", "reasoning")  # where servers put what a model thinks


def turn(message: Message, *, uuids: bool) -> dict[str, Any]:
    """Pictures first: what both turns of a row have in common stands at the front, byte for byte.

    A server that keeps prefixes (vLLM does by itself) reads a picture once for all that is asked of it.
    """
    parts: list[dict[str, Any]] = [_picture(picture, uuid=uuids) for picture in message.pictures]
    # what a model said is data as soon as it is sent back; users' texts were disarmed by their template
    text = disarm(message.text) if message.role == "assistant" else message.text
    return {"role": message.role, "content": [*parts, {"type": "text", "text": text}] if parts else text}


def _picture(picture: Picture, *, uuid: bool) -> dict[str, Any]:
    url, sha256 = _encoded(_Same(picture))
    part: dict[str, Any] = {"type": "image_url", "image_url": {"url": url}}
    return part | ({"uuid": sha256} if uuid else {})


class _Same:
    """A picture as a key: the same object is the same picture, and a cached one stays alive."""

    def __init__(self, picture: Picture) -> None:
        self.picture = picture

    def __hash__(self) -> int:
        return id(self.picture)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.picture is self.picture


@lru_cache(maxsize=KEPT_PICTURES)
def _encoded(same: _Same) -> tuple[str, str]:
    """(PNG as a data URL, SHA-256 of the PNG)."""
    buffer = io.BytesIO()
    same.picture.convert("RGB").save(buffer, "PNG", compress_level=1)
    data = buffer.getvalue()
    return f"data:image/png;base64,{base64.b64encode(data).decode()}", hashlib.sha256(data).hexdigest()


def choice_of(answer: Any) -> dict[str, Any]:
    """The first reply of an answer.

    Raises:
        BadAnswer: it holds none.
    """
    try:
        choice = answer["choices"][0]
    except (KeyError, IndexError, TypeError):
        choice = None
    if not isinstance(choice, dict):
        raise BadAnswer(f"the server's answer holds no reply: {json.dumps(answer)[:200]}")
    return choice


def content_of(choice: Mapping[str, Any], field: str = "content") -> str:
    """The text of a reply in one field of its message; "" where there is none.

    Raises:
        BadAnswer: what is there is no text.
    """
    message = choice.get("message")
    content = message.get(field) if isinstance(message, dict) else None
    if isinstance(content, list):  # parts, as in a question
        parts = [part.get("text") for part in content if isinstance(part, dict)]
        content = "".join(part for part in parts if isinstance(part, str))
    if content is not None and not isinstance(content, str):
        raise BadAnswer("the server's reply is no text")
    return (content or "").encode("utf-8", "replace").decode()  # JSON can hold what no text can


def words_of(choice: Mapping[str, Any]) -> tuple[str, str]:
    """The text of a reply, and the field for reasoning that it stood in where its content is empty."""
    text = content_of(choice).strip()
    for field in () if text else REASONING:
        if found := content_of(choice, field).strip():
            return found, field
    return text, ""


SAMPLING = {"temperature": 0.7, "top_p": 0.95}
GREEDY = {"temperature": 0.0}
TOP = 20  # most likely next tokens that servers tell
# what the self-test must answer whatever it is asked: a word that no model says by itself
PROOF = "q7zx"
PROOF_SCHEMA = {
    "type": "object",
    "properties": {"word": {"type": "string", "enum": [PROOF]}},
    "required": ["word"],
    "additionalProperties": False,
}
Form = Callable[[dict[str, Any]], dict[str, Any]]


def _response_format(schema: dict[str, Any]) -> dict[str, Any]:
    """OpenAI's form, which vLLM >= 0.12 takes too."""
    wrapped = {"name": "reply", "schema": schema, "strict": True}
    return {"response_format": {"type": "json_schema", "json_schema": wrapped}}


def _structured_outputs(schema: dict[str, Any]) -> dict[str, Any]:
    """vLLM's own form; `guided_json` of older versions is ignored by newer ones."""
    return {"structured_outputs": {"json": schema}}


FORMS: dict[str, Form] = {"response_format": _response_format, "structured_outputs": _structured_outputs}


class ServedCritic:
    """Any OpenAI-compatible server: a picture goes as a data URL, its hash as vLLM's uuid.

    Each conversation is a request of its own, so `lanes` of them are in flight at a time. `device` and
    `dtype` are the server's own matter.

    Source: vLLM's OpenAI-compatible server, https://docs.vllm.ai
    """

    def __init__(
        self,
        weights: Weights,
        *,
        urls: Sequence[str] = (),
        key_variable: str | None = None,
        in_flight: int | None = None,
        timeout: float = 300.0,
        tries: int = 6,
        max_requests: int | None = None,
        max_tokens_total: int | None = None,
        chat_template_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        self._model, self._urls, self._key_variable = weights.model, tuple(urls), key_variable
        # several servers take several times as much
        self.lanes = in_flight or EACH * max(1, len(self._urls))
        self._timeout, self._tries = timeout, tries
        self._servers: Any = None
        self._limits = (max_requests, max_tokens_total)
        self._budget: Any = None
        self._kwargs = {"chat_template_kwargs": dict(chat_template_kwargs)} if chat_template_kwargs else {}
        self._form: str | None = None
        self._uuids = True
        self.notes: list[str] = []

    def setup(self) -> None:
        """Meet the servers: the model is there, and the schema holds (or we say that it does not)."""
        found = endpoints(self._urls, self._key_variable)
        self.connect(Servers(found, seconds=self._timeout, tries=self._tries))

    def connect(self, servers: Servers) -> None:
        """Use these servers from now on.

        Raises:
            UsageError: one does not serve the model.
            RpoError: one does not answer.
        """
        self._servers, self._budget = servers, Budget(*self._limits)
        for url, names in served_names(servers, asked=self._model):
            if names and self._model not in names:
                close = nearest(self._model, names)
                raise UsageError(
                    f"{url}: serves {', '.join(names)}, not '{self._model}'{close}",
                    "give one of these names with --critic",
                )
            if not names:
                self.notes.append(f"{url}: lists no models; '{self._model}' is taken at its word")
        self._form = self._proven_form()
        if self._budget.max_tokens is not None and not self._budget.tokens:
            self.notes.append("the server counts no tokens: critique.max_tokens_total holds nothing back")
        if self._form is None:
            self.notes.append(
                "the server ignores the JSON schema of a request (self-test); every reply is checked all "
                "the same, and more of them will be rejected"
            )

    def _proven_form(self) -> str | None:
        """The first form of a schema that this server obeys; None when none is."""
        asked = {"role": "user", "content": "Say hello."}
        for name, form in FORMS.items():
            body = {"model": self._model, "messages": [asked], "max_tokens": 64, **GREEDY, **self._kwargs}
            try:
                said = choice_of(self._post(body | form(PROOF_SCHEMA)))
                if json.loads(content_of(said)) == {"word": PROOF}:
                    return name
            except (BadAnswer, ValueError, RecursionError):
                continue
        return None

    def reply(
        self,
        conversations: Sequence[Conversation],
        *,
        schema: dict[str, Any] | None = None,
        seeds: Sequence[int] | None = None,
        max_tokens: int = 512,
    ) -> list[Reply]:
        """One reply per conversation, one request after the other; call it from many threads.

        Raises:
            RpoError: the servers do not answer.
        """
        held = {} if schema is None else FORMS[self._form or "response_format"](schema)
        chosen: Iterable[Mapping[str, Any]] = (
            [GREEDY] * len(conversations)
            if seeds is None
            else [{**SAMPLING, "seed": seed} for seed in seeds]
        )
        return [
            self._reply(one, {**held, **how, "max_tokens": max_tokens})
            for one, how in zip(conversations, chosen, strict=True)
        ]

    def _reply(self, one: Conversation, how: Mapping[str, Any]) -> Reply:
        try:
            choice = choice_of(self._ask(one, how))
            text, field = words_of(choice)
        except BadAnswer as error:
            return Reply(str(error), "error")
        return Reply(text, "length" if choice.get("finish_reason") == "length" else "stop", field)

    def tells_probabilities(self) -> bool:
        """Whether the server says how likely tokens are; some answer and leave that out."""
        how = {**GREEDY, "max_tokens": 1, "logprobs": True, "top_logprobs": TOP}
        try:
            return bool(choice_of(self._ask((Message("user", "Say hello."),), how)).get("logprobs"))
        except BadAnswer:
            return False

    def yes_probability(self, conversations: Sequence[Conversation]) -> list[float]:
        """P(yes) / (P(yes) + P(no)) of the next token, in [0, 1], as far as the server tells probabilities.

        NaN when neither word is among the TOP most likely tokens: then there is no score.

        Source: VQAScore, Lin et al. 2024, arXiv:2404.01291.
        """
        return [self._yes(one) for one in conversations]

    def _yes(self, one: Conversation) -> float:
        how = {**GREEDY, "max_tokens": 1, "logprobs": True, "top_logprobs": TOP}
        try:
            choice = choice_of(self._ask(one, how))
            told = choice["logprobs"]["content"][0]["top_logprobs"]
            likely = {str(item["token"]): math.exp(float(item["logprob"])) for item in told}
        except (BadAnswer, KeyError, IndexError, TypeError, ValueError, OverflowError):
            return math.nan
        return yes_share(likely)

    def _ask(self, one: Conversation, how: Mapping[str, Any]) -> Any:
        uuids = self._uuids
        try:
            return self._post(self._body(one, how, uuids=uuids))
        except BadAnswer as error:
            if not (uuids and "uuid" in str(error)):
                raise
            self._uuids = False  # a server that checks what it does not know
            return self._post(self._body(one, how, uuids=False))

    def _post(self, body: Mapping[str, Any]) -> Any:
        self._budget.take()
        answer = self._servers.ask("/chat/completions", body)
        self._budget.add(answer)
        return answer

    def _body(self, one: Conversation, how: Mapping[str, Any], *, uuids: bool) -> dict[str, Any]:
        turns = [turn(message, uuids=uuids) for message in one]
        return {"model": self._model, "messages": turns, **how, **self._kwargs}

    def close(self) -> None:
        """Nothing is held between requests."""


def served_names(servers: Servers, *, asked: str | None = None) -> list[tuple[str, list[str]]]:
    """(URL, names of the models it serves) of every server.

    With a name to ask for, a server that has no list to show has no names (`transformers serve`).

    Raises:
        BadAnswer, UsageError, RpoError: as `Servers.each`.
    """
    answers = servers.each("/models", lenient=asked is not None)
    return [
        (url, [str(item.get("id")) for item in _listed(answer)])
        for url, answer in zip(servers.urls, answers, strict=True)
    ]


def the_served_name(urls: Sequence[str], key_variable: str | None) -> str:
    """The one model that these servers serve.

    Raises:
        UsageError: they serve none, several, or not the same.
        RpoError: one does not answer.
    """
    try:
        found = served_names(Servers(endpoints(urls, key_variable), seconds=30.0, tries=1))
    except BadAnswer as error:
        raise RpoError(f"{urls[0]}: /models: {error}", "give the model's name with --critic") from error
    names = sorted({name for _, served in found for name in served})
    if len(names) != 1 or not all(served for _, served in found):
        told = "; ".join(f"{url}: {', '.join(served) or 'nothing'}" for url, served in found)
        raise UsageError(f"which model? The servers serve {told}", "name one with --critic")
    return names[0]


def _listed(answer: Any) -> list[dict[str, Any]]:
    data = answer.get("data") if isinstance(answer, dict) else None
    return [item for item in data if isinstance(item, dict)] if isinstance(data, list) else []


def yes_share(likely: Mapping[str, float]) -> float:
    """P(yes) / (P(yes) + P(no)) over the spellings among the likely tokens; NaN without either."""
    yes, no = (
        math.fsum(p for token, p in likely.items() if _word(token) == word) for word in ("yes", "no")
    )
    return yes / (yes + no) if yes + no > 0 else math.nan


def _word(token: str) -> str:
    """A token without the marks that tokenisers put for a space."""
    return token.strip(" \u2581\u0120\n\t").lower()
