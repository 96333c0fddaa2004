"""The transformers critic on a tiny model with random weights: what must hold whatever the weights say."""

import json
import random
import shutil

import pytest
import torch
from llguidance import LLMatcher
from transformers import AutoProcessor, GenerationConfig

from rpo_cli.backends.critic import TransformersCritic
from rpo_cli.backends.loading import load_model
from rpo_cli.errors import RpoError, UsageError
from rpo_cli.protocols import Message, Weights
from rpo_cli.shapes.grammar import caption, sample_any
from rpo_cli.shapes.recipe.critic_talks import vocabulary_texts
from rpo_cli.shapes.recipe.critic_tokenizer import build_tokenizer
from rpo_cli.shapes.recipe.train_critic import build_modules, build_processor
from rpo_cli.shapes.render import render
from rpo_cli.stages.replies import InstructionsReply, SingleReply, schema
from tests.closeness import FORWARD, assert_close

VALID = {False: InstructionsReply, True: SingleReply}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An Idefics3 folder with random weights, large enough in spread that replies differ."""
    torch.manual_seed(0)
    place = tmp_path_factory.mktemp("critic")
    tokenizer = build_tokenizer(vocabulary_texts())
    model = build_modules(tokenizer)["critic"]
    with torch.no_grad():
        for value in model.parameters():
            if value.dim() > 1:
                value.mul_(4)
    ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    model.generation_config = GenerationConfig(do_sample=False, **ends)
    model.save_pretrained(place)
    build_processor(tokenizer).save_pretrained(place)
    return str(place)


@pytest.fixture(scope="module")
def critic(folder):
    made = TransformersCritic(Weights(folder))
    made.setup()
    return made


def conversations(count, longer=False):
    rng = random.Random(3)
    made = []
    for index in range(count):
        scene = sample_any(rng)
        text = caption(scene, index % 4) + (" and much more of it" * index * 3 if longer else "")
        made.append((Message("user", text, render(scene, rng)),))
    return made


@pytest.mark.parametrize("single", [False, True])
def test_greedy_constrained_replies_are_valid_json_unless_cut_off(critic, single):
    held = schema(3, single=single)
    replies = critic.reply(conversations(8), schema=held, seeds=None, max_tokens=120)
    for reply in replies:
        if reply.finish == "stop":
            VALID[single].model_validate(json.loads(reply.text))
        else:
            assert reply.text.startswith("{")


@pytest.mark.parametrize("batch", [1, 4])
def test_sampled_constrained_replies_are_valid_json(critic, batch):
    held = schema(3, single=False)
    replies = critic.reply(conversations(batch), schema=held, seeds=list(range(batch)), max_tokens=1500)
    assert [reply.finish for reply in replies] == ["stop"] * batch
    for reply in replies:
        value = InstructionsReply.model_validate(json.loads(reply.text))
        assert len(value.instructions) <= 3


@pytest.mark.parametrize("held", [None, schema(3, single=False)], ids=["free", "schema"])
def test_a_greedy_reply_does_not_depend_on_its_neighbours(critic, held):
    talks = conversations(6, longer=True)
    how = {"schema": held, "seeds": None, "max_tokens": 24}
    alone = {}
    for index, talk in enumerate(talks):
        alone[index] = critic.reply([talk] * 6, **how)[0]
    assert len({reply.text for reply in alone.values()}) > 1
    order = [3, 0, 5, 1, 4, 2]
    mixed = critic.reply([talks[index] for index in order], **how)
    assert mixed == [alone[index] for index in order]


def test_a_sampled_reply_follows_from_its_seed_alone(critic):
    talks = conversations(2)
    first = critic.reply(talks, schema=None, seeds=[5, 6], max_tokens=20)
    torch.manual_seed(99)
    turned = critic.reply(talks[::-1], schema=None, seeds=[6, 5], max_tokens=20)
    assert first == turned[::-1]
    other = critic.reply(talks, schema=None, seeds=[7, 8], max_tokens=20)
    assert other != first


def test_sampling_leaves_the_global_random_state_alone(critic):
    before = torch.random.get_rng_state()
    critic.reply(conversations(1), schema=None, seeds=[1], max_tokens=4)
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_reply_that_hits_the_limit_is_marked_cut_off(critic):
    (reply,) = critic.reply(conversations(1), schema=None, seeds=None, max_tokens=1)
    assert reply.finish == "length"


def test_the_probability_of_yes_is_one_and_the_same_in_any_company(critic):
    talks = conversations(5, longer=True)
    together = critic.yes_probability(talks)
    assert critic.yes_probability(talks[:1] + talks[-1:0:-1])[0] == together[0]
    assert_close(critic.yes_probability(talks[::-1]), together[::-1], FORWARD)  # other places
    assert all(0 <= value <= 1 for value in together)
    assert len(set(together)) == 5


def test_control_tokens_in_a_turn_stay_words(critic):
    text = "x <|assistant|> y <image> z <end_of_utterance>"
    ids = critic._encode([[critic._turn(Message("user", text, conversations(1)[0][0].image))]])[
        "input_ids"
    ][0]
    pieces = critic._processor.tokenizer.convert_ids_to_tokens(ids)
    assert pieces.count("<image>") == 16
    assert pieces.count("<|assistant|>") == 1
    assert pieces.count("<end_of_utterance>") == 1


def test_the_critic_is_picklable_before_setup(folder):
    import pickle

    assert pickle.loads(pickle.dumps(TransformersCritic(Weights(folder))))._weights == Weights(folder)


def test_a_folder_that_is_no_model_is_told_in_two_lines(tmp_path):
    with pytest.raises(RpoError, match="cannot be loaded as a vision-language model") as caught:
        TransformersCritic(Weights(str(tmp_path))).setup()
    assert "\n" not in caught.value.message


def test_a_model_of_another_kind_is_told_in_two_lines(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(RpoError) as caught:
        TransformersCritic(Weights(str(tmp_path))).setup()
    assert "\n" not in caught.value.message


def test_a_conversation_is_as_wide_as_its_own_length_needs_whatever_its_neighbours(critic):
    """A multiple of 64 tokens, and as many rows as were asked: the shape that a row is computed in."""
    asked = conversations(4, longer=True)
    shapes = {row: inputs["input_ids"].shape for rows, inputs in critic._batches(asked) for row in rows}
    alone = [next(critic._batches([one] * 4))[1]["input_ids"].shape for one in asked]
    assert [shapes[row] for row in range(4)] == alone
    assert len(set(alone)) > 1
    assert all(rows == 4 and width % 64 == 0 for rows, width in alone)


def test_a_folder_brings_weights_and_no_code(folder, monkeypatch):
    """And what is loaded is the revision that the row's key names."""
    told = []

    class Loads:
        @classmethod
        def from_pretrained(cls, ref, **given):
            told.append(given)
            raise OSError("stop")

    for model, processor in ((Loads, Loads), (Loads, AutoProcessor)):
        with pytest.raises(RpoError, match="cannot be loaded as a critic: stop"):
            load_model(Weights(folder, "c0ffee"), "a critic", model, processor)
    for given in told:
        assert given["trust_remote_code"] is False
        assert given["revision"] == "c0ffee"
    assert [given.get("use_safetensors") for given in told] == [None, True]


def test_pickled_weights_are_refused(folder, tmp_path):
    import shutil

    shutil.copytree(folder, tmp_path / "m")
    (tmp_path / "m" / "model.safetensors").unlink()
    torch.save({}, tmp_path / "m" / "pytorch_model.bin")
    with pytest.raises(RpoError, match="safetensors"):
        TransformersCritic(Weights(str(tmp_path / "m"))).setup()


def test_what_the_chat_template_takes_reaches_it_and_a_name_that_it_lacks_is_refused(folder, tmp_path):
    """Unused names would replace the processor's own options, padding among them, without a word."""
    place = tmp_path / "critic"
    shutil.copytree(folder, place)
    template = place / "chat_template.jinja"
    quiet = "{% if enable_thinking is defined and not enable_thinking %}<|user|><|user|>{% endif %}"
    template.write_text(template.read_text() + quiet)
    lengths = {}
    for name, kwargs in {
        "plain": None,
        "on": {"enable_thinking": True},
        "off": {"enable_thinking": False},
    }.items():
        made = TransformersCritic(Weights(str(place)), chat_template_kwargs=kwargs)
        made.setup()
        ((_, inputs),) = made._batches(conversations(1))
        lengths[name] = int(inputs["attention_mask"].sum())
    assert lengths["plain"] == lengths["on"] == lengths["off"] - 2
    with pytest.raises(UsageError, match="uses no think_hard"):
        TransformersCritic(Weights(str(place)), chat_template_kwargs={"think_hard": True}).setup()


def test_quotation_marks_can_be_written_and_stay_valid_json(critic):
    """Schema and grammar let `\\"` through, and no raw control character."""
    for quotes, inside in ((True, '\\"'), (False, None)):
        held = schema(3, single=False, quotes=quotes)
        grammar = LLMatcher.grammar_from_json_schema(
            json.dumps(held), overrides={"whitespace_flexible": False}
        )
        for text, good in (('say \\"OPEN\\"', bool(inside)), ("say OPEN", True), ("say \\u0007", False)):
            matcher = LLMatcher(critic._table, grammar, log_level=0)
            reply = '{"flaws":[],"instructions":["' + text + '"]}'
            tokens = critic._processor.tokenizer.encode(reply, add_special_tokens=False)
            assert all(matcher.consume_token(token) for token in tokens) == good, (quotes, text)
