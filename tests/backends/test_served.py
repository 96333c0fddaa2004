"""The critic behind a server: what it sends, what it makes of what comes back, and when it asks again."""

import json
import math
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from PIL import Image

from rpo_cli.backends.http import Endpoint
from rpo_cli.backends.rewards import VqaScore
from rpo_cli.backends.served import PROOF, ServedCritic, the_served_name, words_of
from rpo_cli.backends.servers import Budget, Servers, tokens_used
from rpo_cli.errors import RpoError, Spent, UsageError
from rpo_cli.protocols import Message, Reply, Weights
from rpo_cli.stages.replies import InstructionsReply, schema
from tests.critic_server import MODEL, running

HELD = schema(3, single=False)


@pytest.fixture(autouse=True)
def hurry(monkeypatch):
    monkeypatch.setattr("rpo_cli.backends.servers.FIRST_PAUSE", 0.01)


@pytest.fixture
def server():
    with running() as made:
        yield made


def critic_of(*servers, **how):
    critic = ServedCritic(
        Weights(MODEL), urls=[server.url for server in servers], **{"timeout": 5.0, "tries": 3, **how}
    )
    critic.setup()
    return critic


def talk(text="a red star", colour=(9, 9, 9)):
    return (Message("user", text, Image.new("RGB", (8, 8), colour)),)


def ask(critic, *talks, held=None, seeds=None, max_tokens=50):
    return critic.reply(talks or [talk()], schema=held, seeds=seeds, max_tokens=max_tokens)


def shown(server):
    """Requests with a picture: the self-test has none."""
    return [body for body in server.asked if "image_url" in json.dumps(body)]


def test_a_reply_held_to_a_schema_is_valid_and_the_form_is_openais(server):
    critic = critic_of(server)
    (reply,) = ask(critic, held=HELD)
    InstructionsReply.model_validate_json(reply.text)
    assert reply.finish == "stop"
    assert critic.notes == []
    (body,) = shown(server)
    assert body["response_format"]["json_schema"]["schema"] == HELD
    assert (body["temperature"], body["max_tokens"], body["model"]) == (0.0, 50, MODEL)


def test_vllms_own_form_is_used_where_the_other_is_ignored():
    with running(obeys=("structured_outputs",)) as server:
        critic = critic_of(server)
        (reply,) = ask(critic, held=HELD)
    InstructionsReply.model_validate_json(reply.text)
    assert critic.notes == []
    assert shown(server)[0]["structured_outputs"] == {"json": HELD}


def test_a_server_that_ignores_every_schema_is_said_to():
    with running(obeys=()) as server:
        critic = critic_of(server)
        (reply,) = ask(critic, held=HELD)
    assert "ignores the JSON schema" in critic.notes[0]
    assert not reply.text.startswith("{")


def test_the_self_test_asks_for_a_word_that_no_model_says_by_itself(server):
    critic_of(server)
    (body,) = server.asked
    assert PROOF not in json.dumps(body["messages"])
    assert body["response_format"]["json_schema"]["schema"]["properties"]["word"]["enum"] == [PROOF]


def test_the_second_turn_begins_with_the_bytes_of_the_first(server):
    critic = critic_of(server)
    first = talk()
    second = (*first, Message("assistant", "Grey."), Message("user", "Now the list."))
    ask(critic, first)
    ask(critic, second, held=HELD)
    one, two = shown(server)
    assert json.dumps(two["messages"][0]) == json.dumps(one["messages"][0])
    picture = one["messages"][0]["content"][0]
    assert picture["image_url"]["url"].startswith("data:image/png;base64,")
    assert len(picture["uuid"]) == 64
    assert one["messages"][0]["content"][1] == {"type": "text", "text": "a red star"}


def test_equal_pictures_have_one_uuid_and_others_another(server):
    critic = critic_of(server)
    ask(critic, talk(colour=(1, 2, 3)), talk(colour=(1, 2, 3)), talk(colour=(3, 2, 1)))
    uuids = [body["messages"][0]["content"][0]["uuid"] for body in shown(server)]
    assert uuids[0] == uuids[1] != uuids[2]


def test_a_server_that_knows_no_uuid_is_asked_without(server):
    server.uuids = False
    critic = critic_of(server)
    first, second = ask(critic, talk(), talk())
    assert first.finish == second.finish == "stop"
    assert ["uuid" in json.dumps(body) for body in shown(server)] == [True, False, False]


def test_what_a_critic_said_is_disarmed_when_it_is_sent_back(server):
    critic = critic_of(server)
    ask(critic, (*talk(), Message("assistant", "ok<|im_end|><image>"), Message("user", "go on")))
    (body,) = shown(server)
    assert body["messages"][1] == {"role": "assistant", "content": "ok‹|im_end|›‹image›"}


def test_a_retry_is_sampled_with_the_rows_seed(server):
    ask(critic_of(server), seeds=[41])
    (body,) = shown(server)
    assert (body["seed"], body["temperature"], body["top_p"]) == (41, 0.7, 0.95)


@pytest.mark.parametrize(
    ("fault", "finish"),
    [
        ("html", "error"),
        ("deep", "error"),
        ("big", "error"),
        ("other", "error"),
        ("numbers", "error"),
        ((400, {}), "error"),
        ({"text": '{"flaws": [', "finish": "length"}, "length"),
        ({"text": ""}, "stop"),
    ],
)
def test_an_answer_without_a_reply_is_a_bad_reply_and_asked_once(server, fault, finish):
    critic = critic_of(server)
    server.faults = [fault]
    assert [reply.finish for reply in ask(critic)] == [finish]
    assert len(shown(server)) == 1


def test_text_that_cannot_be_written_is_replaced(server):
    critic = critic_of(server)
    server.faults = [{"text": "a \ud800 b"}]
    assert ask(critic) == [Reply("a ? b", "stop")]


@pytest.mark.parametrize("fault", ["drop", "middle", (500, {}), (429, {"Retry-After": "0.01"})])
def test_a_failure_that_passes_is_waited_out(server, fault):
    critic = critic_of(server)
    server.faults = [fault, fault]
    assert [reply.finish for reply in ask(critic)] == ["stop"]
    assert len(shown(server)) == 3


@pytest.mark.parametrize("fault", ["drop", (503, {})])
def test_tries_are_bounded_and_then_the_error_names_the_server(server, fault):
    critic = critic_of(server)
    server.always = fault
    with pytest.raises(RpoError, match="asked 3 times without an answer") as caught:
        ask(critic)
    assert server.url in caught.value.message
    assert "nothing is lost" in caught.value.hint
    assert len(shown(server)) == 3


def test_who_is_told_to_wait_waits_and_loses_no_try(server):
    critic = critic_of(server, tries=1)
    server.faults = [(429, {"Retry-After": "0.01"})] * 5
    assert [reply.finish for reply in ask(critic)] == ["stop"]
    assert len(shown(server)) == 6


def test_while_a_server_wants_no_question_nobody_asks_it(server):
    """The others in flight wait too: of four questions one alone is told to come back."""
    critic = critic_of(server, in_flight=4)
    server.faults = [(429, {"Retry-After": "0.1"})]
    ask(critic, talk("first"))
    told = len(shown(server))
    server.faults = [(429, {"Retry-After": "1.5"})]
    with ThreadPoolExecutor(4) as threads:
        first = threads.submit(ask, critic, talk("second"))
        while server.faults:
            time.sleep(0.01)
        time.sleep(0.2)
        others = [threads.submit(ask, critic, talk(f"more {n}")) for n in range(3)]
        time.sleep(0.3)
        assert len(shown(server)) == told + 1
        assert all(one.result()[0].finish == "stop" for one in (first, *others))
    assert len(shown(server)) == told + 5


@pytest.mark.parametrize("seconds", ["301", "86400"])
def test_a_wait_that_is_too_long_ends_the_question_at_once(server, seconds):
    critic = critic_of(server)
    server.faults = [(429, {"Retry-After": seconds})]
    with pytest.raises(RpoError, match=f"it asks us to wait {int(seconds):,} s"):
        ask(critic)
    assert len(shown(server)) == 1


def test_a_server_that_limits_leaves_the_work_to_the_other():
    with running() as one, running() as other:
        critic = critic_of(one, other)
        one.faults = [(429, {"Retry-After": "3600"})]
        assert all(ask(critic, talk(colour=(n, 0, 0)))[0].finish == "stop" for n in range(6))
        assert len(shown(other)) == 6


def test_who_is_told_to_wait_without_end_gives_up(server, monkeypatch):
    monkeypatch.setattr("rpo_cli.backends.servers.MOST_LIMITED", 4)
    critic = critic_of(server)
    server.always = (429, {"Retry-After": "0"})
    with pytest.raises(RpoError, match="asked 4 times without an answer"):
        ask(critic)


@pytest.mark.parametrize(("field", "found"), [
    ({"content": "", "reasoning_content": "It is blue."}, ("It is blue.", "reasoning_content")),
    ({"content": None, "reasoning": "It is blue."}, ("It is blue.", "reasoning")),
    ({"content": "It is red.", "reasoning": "It is blue."}, ("It is red.", "")),
    ({"content": [{"type": "text", "text": "It is "}, {"text": "red."}]}, ("It is red.", "")),
    ({"content": None}, ("", "")),
    ({}, ("", "")),
])  # fmt: skip
def test_words_are_read_from_the_content_and_else_from_the_field_for_reasoning(field, found):
    assert words_of({"message": field}) == found


@pytest.mark.parametrize(("answer", "tokens"), [
    ({"usage": {"total_tokens": 7, "prompt_tokens": 1}}, 7),
    ({"usage": {"prompt_tokens": 5, "completion_tokens": 3}}, 8),
    ({"usage": {"total_tokens": "7", "completion_tokens": 3}}, 3),
    ({"usage": {"total_tokens": True}}, None),
    ({"usage": None}, None),
    ({}, None),
    ([], None),
])  # fmt: skip
def test_tokens_are_those_that_the_server_tells_of(answer, tokens):
    assert tokens_used(answer) == tokens


def test_a_budget_holds_between_many_threads():
    budget = Budget(max_requests=50)

    def spend(_):
        try:
            budget.take()
        except Spent:
            return False
        return True

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(spend, range(200))) == 50


def test_when_no_server_is_left_the_next_rows_find_out_at_once():
    with running() as server:
        critic = critic_of(server, tries=4)
    with pytest.raises(RpoError, match="asked 4 times"):
        ask(critic)
    with pytest.raises(RpoError, match="asked once"):
        ask(critic)


def test_two_servers_share_the_work():
    """All four are asked before the first answers, even where a thread starts late."""
    with running(delay=1.0) as one, running(delay=1.0) as other:
        critic = critic_of(one, other)
        with ThreadPoolExecutor(4) as threads:
            list(threads.map(lambda n: ask(critic, talk(colour=(n, 0, 0))), range(4)))
        counts = [len(shown(one)), len(shown(other))]
    assert counts == [2, 2]


def test_a_server_that_dies_leaves_the_work_to_the_other():
    with running() as other:
        with running() as one:
            critic = critic_of(one, other)
        assert all(ask(critic, talk(colour=(n, 0, 0)))[0].finish == "stop" for n in range(6))
    assert len(shown(other)) == 6


def test_nothing_is_asked_again_of_a_server_of_ours_that_has_ended(server):
    server.always = "drop"
    servers = Servers([Endpoint(server.url)], seconds=5, tries=9, alive=lambda: False)
    critic = ServedCritic(Weights(MODEL))
    critic.connect(servers)
    with pytest.raises(RpoError, match="asked once"):
        ask(critic)


def test_the_key_comes_from_the_environment_and_stands_in_no_message(monkeypatch):
    monkeypatch.setenv("MY_KEY", "sekrit-key")
    with running(key="sekrit-key") as server:
        critic = critic_of(server, key_variable="MY_KEY")
        assert ask(critic)[0].finish == "stop"
        assert "sekrit-key" not in repr(critic) + repr(vars(critic)) + json.dumps(server.asked)
    monkeypatch.setenv("MY_KEY", "other-sekrit")
    with running(key="sekrit-key") as server, pytest.raises(UsageError, match="refuses our key") as caught:
        critic_of(server, key_variable="MY_KEY")
    assert "sekrit" not in caught.value.message + caught.value.hint


@pytest.mark.parametrize("value", [None, "", "two\nlines", "schlüssel"])
def test_a_key_that_is_none_is_told_before_anything_is_sent(server, monkeypatch, value):
    monkeypatch.delenv("MY_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("MY_KEY", value)
    with pytest.raises(UsageError, match="MY_KEY") as caught:
        critic_of(server, key_variable="MY_KEY")
    assert not value or value not in caught.value.message
    assert server.auth == []


def test_a_model_that_is_not_served_is_told_with_those_that_are(server):
    server.models = ["qwen3-vl-8b", "other"]
    critic = ServedCritic(Weights("qwen3-vl-8"), urls=[server.url])
    with pytest.raises(
        UsageError, match=r"serves qwen3-vl-8b, other, not 'qwen3-vl-8'; did you mean 'qwen3-vl-8b'"
    ):
        critic.setup()


@pytest.mark.parametrize(
    "listed", [(200, {"data": []}), (200, {"no": "list"}), (500, {"detail": "no cache"})]
)
def test_a_server_without_a_list_of_models_is_taken_at_its_word(server, listed):
    server.listed = listed
    critic = critic_of(server)
    assert critic.notes == [f"{server.url}: lists no models; '{MODEL}' is taken at its word"]
    assert ask(critic)[0].finish == "stop"
    with pytest.raises(RpoError):
        the_served_name([server.url], None)


def test_a_server_that_leaves_probabilities_out_is_no_vqascore(server):
    how = {"urls": [server.url], "timeout": 5.0, "tries": 1}
    VqaScore(Weights(MODEL), backend="openai", server=how).setup()
    server.probabilities = False
    with pytest.raises(UsageError, match="does not say how likely"):
        VqaScore(Weights(MODEL), backend="openai", server=how).setup()


def test_the_one_served_model_needs_no_name(server):
    assert the_served_name([server.url], None) == MODEL
    server.models = ["a", "b"]
    with pytest.raises(UsageError, match="which model"):
        the_served_name([server.url], None)
    server.models = []
    with pytest.raises(UsageError, match="which model"):
        the_served_name([server.url], None)


def test_the_probability_of_yes_adds_the_spellings_and_leaves_out_other_words(server):
    critic = critic_of(server)
    red, blue = critic.yes_probability([talk("red?"), talk("blue?")])
    assert red == pytest.approx(0.6 / (0.6 + 0.3))
    assert blue == pytest.approx(0.2 / (0.2 + 0.7))
    body = shown(server)[0]
    assert (body["max_tokens"], body["logprobs"], body["top_logprobs"]) == (1, True, 20)


@pytest.mark.parametrize("fault", ["other", "html", {"text": "Yes"}, (400, {})])
def test_a_server_that_tells_no_probabilities_gives_no_score(server, fault):
    critic = critic_of(server)
    server.faults = [fault]
    assert math.isnan(critic.yes_probability([talk()])[0])


def test_many_threads_ask_at_once(server):
    server.delay = 0.05
    critic = critic_of(server)
    gate = threading.Barrier(6)

    def one(number):
        gate.wait()
        return ask(critic, talk(colour=(number, 0, 0)))[0]

    with ThreadPoolExecutor(6) as threads:
        replies = list(threads.map(one, range(6)))
    assert all(reply.finish == "stop" for reply in replies)
    assert server.most > 1


@pytest.mark.parametrize(
    ("urls", "given", "lanes"),
    [(0, None, 16), (1, None, 16), (3, None, 48), (3, 5, 5)],
)
def test_several_servers_are_given_several_times_as_many_requests(urls, given, lanes):
    made = ServedCritic(Weights("m"), urls=["http://h:1/v1"] * urls, in_flight=given)
    assert made.lanes == lanes


def test_what_both_turns_of_a_row_share_stands_at_the_front(server):
    """A server that keeps prefixes reads picture and prompt once."""
    critic, first = critic_of(server), talk()
    ask(critic, first)
    ask(critic, (*first, Message("assistant", "a star"), Message("user", "now the flaws")))
    one, two = (body["messages"] for body in shown(server))
    assert two[: len(one)] == one
    assert [part["type"] for part in one[0]["content"]] == ["image_url", "text"]
