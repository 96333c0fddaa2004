"""A vLLM server of our own, for one stage: started on loopback, driven, stopped."""

import json
import secrets
import socket
import sys
import time
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rpo_cli import installing
from rpo_cli.backends.http import BadAnswer, Endpoint, NoAnswer, fetch
from rpo_cli.backends.served import ServedCritic
from rpo_cli.backends.servers import Servers
from rpo_cli.children import Server, other_environment, serve
from rpo_cli.errors import MissingDependency, RpoError, UsageError
from rpo_cli.protocols import Conversation, Reply, Weights

NAME = "rpo-critic"
POLL = 0.25  # seconds
# that our server answers at a time, by whether it runs on a CPU: what it is told it is given
SEQUENCES = {False: 64, True: 16}
MOST = 256  # requests in flight without being asked for more: each holds a picture or two
PICTURES = 2  # in one conversation: a judge compares two
# llguidance gave only valid JSON in our measurements; without free white space a small budget lasts
STRUCTURED = {"backend": "guidance", "disable_any_whitespace": True}
# no picture comes by URL, nobody is told of us, and no secret of ours is the server's business
ENVIRONMENT = {
    "VLLM_MEDIA_URL_ALLOW_REDIRECTS": "0",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "PYTHONUNBUFFERED": "1",
}
# a few words a minute are no load worth compiling for; beside other work one thread is faster than two
CPU_ENVIRONMENT = {
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "OMP_NUM_THREADS": "1",
    "TORCHDYNAMO_DISABLE": "1",
}


class VllmServerCritic:
    """Starts `python -m vllm.entrypoints.openai.api_server` for the time of a stage and asks it.

    Source: vLLM, Kwon et al. 2023, arXiv:2309.06180; https://docs.vllm.ai
    """

    def __init__(
        self,
        weights: Weights,
        *,
        python: str | None = None,
        arguments: Sequence[str] = (),
        logs: str = "logs",
        seconds: float = 900.0,
        in_flight: int | None = None,
        timeout: float = 300.0,
        tries: int = 6,
        max_requests: int | None = None,
        max_tokens_total: int | None = None,
        chat_template_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        self._weights = weights
        self._python, self._arguments = python or sys.executable, tuple(arguments)
        self._told = _most(self._arguments)
        self.lanes = in_flight or min(MOST, self._told or SEQUENCES[weights.device == "cpu"])
        self._logs, self._seconds, self._timeout, self._tries = logs, seconds, timeout, tries
        self._critic = ServedCritic(
            Weights(NAME),
            in_flight=self.lanes,
            max_requests=max_requests,
            max_tokens_total=max_tokens_total,
            chat_template_kwargs=chat_template_kwargs,
        )
        self._server: Server | None = None

    @property
    def notes(self) -> list[str]:
        return self._critic.notes

    def setup(self) -> None:
        """Start the server, wait until it is healthy, prove that it holds to a schema.

        Raises:
            MissingDependency: that Python has no vLLM.
            RpoError: the server ends, or is not up in time; its last words are in the message.
        """
        port, key = _free_port(), secrets.token_urlsafe(32)
        self._server = serve(self._command(port), self._environment(key), Path(self._logs), "vllm")
        self._at_exit = weakref.finalize(self, self._server.stop)  # whoever forgets to close
        try:
            self._wait(f"http://127.0.0.1:{port}")
            endpoint = Endpoint(f"http://127.0.0.1:{port}/v1", key)
            alive = self._server.child.running
            self._critic.connect(Servers([endpoint], seconds=self._timeout, tries=self._tries, alive=alive))
        except BaseException:
            self.close()
            raise

    def _command(self, port: int) -> list[str]:
        weights = self._weights
        model = ["--model", weights.model, "--served-model-name", NAME, "--dtype", weights.dtype]
        revision = ["--revision", weights.revision] if weights.revision else []
        place = ["--host", "127.0.0.1", "--port", str(port)]
        limits = ["--limit-mm-per-prompt", json.dumps({"image": PICTURES})]
        limits += [] if self._told else ["--max-num-seqs", str(self.lanes)]
        limits += ["--structured-outputs-config", json.dumps(STRUCTURED)]
        quiet = ["--disable-uvicorn-access-log", "--allowed-media-domains", "none.invalid"]
        cpu = ["--enforce-eager"] if self._weights.device == "cpu" else []
        program = [self._python, "-m", "vllm.entrypoints.openai.api_server"]
        return [*program, *model, *revision, *place, *limits, *quiet, *cpu, *self._arguments]

    def _environment(self, key: str) -> dict[str, str]:
        """This process's, without what is meant for it alone, and the server's key."""
        defaults = {**ENVIRONMENT, **(CPU_ENVIRONMENT if self._weights.device == "cpu" else {})}
        # not from the current folder, in which a folder "vllm" would stand for the package
        return {
            **defaults,
            **other_environment(),
            **ENVIRONMENT,
            "PYTHONSAFEPATH": "1",
            "VLLM_API_KEY": key,
        }

    def _wait(self, root: str) -> None:
        assert self._server is not None
        until = time.monotonic() + self._seconds
        while time.monotonic() < until:
            if not self._server.child.running():
                raise self._failed("ended while it was starting")
            try:
                fetch(Endpoint(root), "/health", seconds=5.0)
                return
            except BadAnswer:
                return  # healthy; the body of that answer is empty
            except (NoAnswer, UsageError):
                time.sleep(POLL)
        raise self._failed(f"was not up after {self._seconds:g} s")

    def _failed(self, what: str) -> RpoError:
        assert self._server is not None
        said, log = self._server.child.last_words(5), self._server.log
        if "No module named 'vllm'" in said or "No module named vllm" in said:
            return MissingDependency(
                f"{self._python} has no vLLM",
                installing.own_environment(),
            )
        if "LlavaQwenForCausalLM" in said:
            return RpoError(
                f"{self._weights.model}: is in the layout of LLaVA-NeXT, which vLLM does not load",
                "take llava-hf/llava-onevision-qwen2-7b-ov-hf, which it was tuned from, or a "
                "lmms-lab/LLaVA-Critic-R1 model",
            )
        return RpoError(f"the vLLM server {what}:\n{said}", f"the whole log: {log}")

    def reply(
        self,
        conversations: Sequence[Conversation],
        *,
        schema: dict[str, Any] | None = None,
        seeds: Sequence[int] | None = None,
        max_tokens: int = 512,
    ) -> list[Reply]:
        """See `ServedCritic.reply`."""
        return self._critic.reply(conversations, schema=schema, seeds=seeds, max_tokens=max_tokens)

    def yes_probability(self, conversations: Sequence[Conversation]) -> list[float]:
        """See `ServedCritic.yes_probability`."""
        return self._critic.yes_probability(conversations)

    def close(self) -> None:
        """Stop the server."""
        if self._server is not None:
            self._at_exit()
            self._server = None


def _most(arguments: Sequence[str]) -> int | None:
    """Requests that the user lets the server answer at a time; None: the user says nothing of it."""
    words = [part for word in arguments for part in word.split("=", 1)]
    names = (name.replace("_", "-") for name in words)
    found = [after for name, after in zip(names, words[1:], strict=False) if name == "--max-num-seqs"]
    return int(found[-1]) if found and found[-1].isdecimal() else None


def _free_port() -> int:
    """A port of loopback that nobody has at the moment, drawn by the kernel."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
