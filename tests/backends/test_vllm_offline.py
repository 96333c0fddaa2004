"""vLLM in this process, where a stand-in takes vLLM's place: what `LLM.chat` is given."""

import sys
from types import ModuleType, SimpleNamespace

import pytest

from rpo_cli.backends.vllm_offline import VllmCritic
from rpo_cli.protocols import Message, Reply, Weights

ASKED = []


class Llm:
    def __init__(self, **how): ...

    def chat(self, talks, **how):
        ASKED.append(how)
        one = SimpleNamespace(text=" A blue circle. ", finish_reason="stop")
        return [SimpleNamespace(outputs=[one]) for _ in talks]


@pytest.fixture(autouse=True)
def vllm(monkeypatch):
    ASKED.clear()
    made, params = ModuleType("vllm"), ModuleType("vllm.sampling_params")
    made.LLM, made.SamplingParams = Llm, lambda **how: how
    params.StructuredOutputsParams = lambda **how: how
    monkeypatch.setitem(sys.modules, "vllm", made)
    monkeypatch.setitem(sys.modules, "vllm.sampling_params", params)


@pytest.mark.parametrize(("kwargs", "given"), [
    (None, {}),
    ({}, {}),
    ({"enable_thinking": False}, {"chat_template_kwargs": {"enable_thinking": False}}),
    ({"a": True, "depth": 2}, {"chat_template_kwargs": {"a": True, "depth": 2}}),
])  # fmt: skip
def test_what_the_chat_template_takes_reaches_it(kwargs, given):
    critic = VllmCritic(Weights("m"), chat_template_kwargs=kwargs)
    critic.setup()
    replies = critic.reply(
        [(Message("user", "a red star"),)], schema={"type": "object"}, seeds=[3], max_tokens=9
    )
    assert replies == [Reply("A blue circle.", "stop")]
    (how,) = ASKED
    assert {key: value for key, value in how.items() if key == "chat_template_kwargs"} == given
    assert how["sampling_params"][0]["max_tokens"] == 9
