"""CLIP features of prompts and pictures, cached by content."""

import io
from pathlib import Path

import pytest
import torch

from rpo_cli.protocols import Silent
from rpo_cli.train import knowledge as module
from rpo_cli.train.composition import Embedder
from rpo_cli.train.data.latents import prompt_name
from rpo_cli.train.data.pairs import TrainingPair, read_pairs
from rpo_cli.train.knowledge import Embeddings, embed
from rpo_cli.train.storage import Shelf
from tests.closeness import assert_close

SHAPES = Path(module.__file__).parent.parent / "shapes" / "models" / "reward"


def test_prompt_and_picture_count_alike_and_stay_with_their_pair(tmp_path):
    """Two pairs of two captions; every feature is a unit axis, so cosines can be read off."""
    axes = torch.eye(4)
    shelf = Shelf(tmp_path)
    names = {f"text.{prompt_name('a')}": 0, f"text.{prompt_name('b')}": 1}
    names |= {"w0": 0, "l0": 1, "w1": 2, "l1": 3}
    shelf.add({name: axes[axis].clone() for name, axis in names.items()})
    found = Embeddings(shelf).of([TrainingPair("w0", "l0", "a"), TrainingPair("w1", "l1", "b")])
    assert found.shape == (2, 8, 2)
    assert_close(found.norm(dim=1), torch.ones(2, 2))
    place = [[vector.nonzero().flatten().tolist() for vector in side.T] for side in found]
    assert place == [[[0, 4], [1, 6]], [[0, 5], [1, 7]]]
    cosines = found[0].T @ found[1]
    assert_close(cosines, torch.tensor([[0.5, 0.0], [0.0, 0.5]]))


@pytest.fixture
def pairs(dataset):
    return read_pairs(dataset, "train")


def test_features_are_made_once_and_do_not_depend_on_their_neighbours(
    dataset, pairs, tmp_path, monkeypatch
):
    embedder = Embedder(str(SHAPES), None, "reward")
    whole = embed(tmp_path, embedder, dataset, pairs, "cpu", Silent()).of(pairs)
    monkeypatch.setattr(module, "_Clip", lambda *args: pytest.fail("loaded again"))
    again = embed(tmp_path, embedder, dataset, pairs, "cpu", Silent())
    assert torch.equal(again.of(pairs), whole)
    parts = [again.of([pair]) for pair in pairs]
    assert torch.equal(torch.cat(parts, dim=2), whole)


def test_features_of_another_model_are_not_read(dataset, pairs, tmp_path, monkeypatch):
    embed(tmp_path, Embedder(str(SHAPES), None, "reward"), dataset, pairs, "cpu", Silent())
    monkeypatch.setattr(module, "_Clip", lambda *args: pytest.fail("loaded, as it must be"))
    with pytest.raises(pytest.fail.Exception, match="as it must be"):
        embed(tmp_path, Embedder(str(SHAPES), None, "other"), dataset, pairs, "cpu", Silent())


def test_a_text_and_its_picture_are_unit_vectors_of_the_clip_model(dataset, pairs, tmp_path):
    """The cosine is that of the model's own forward pass."""
    from PIL import Image
    from transformers import CLIPModel, CLIPProcessor

    from rpo_cli.train.data.pairs import pictures

    found = embed(tmp_path, Embedder(str(SHAPES), None, "reward"), dataset, pairs, "cpu", Silent())
    feature = found.of(pairs[:1])[0, :, 0] * 2**0.5
    text, picture = feature.chunk(2)
    model, processor = (
        CLIPModel.from_pretrained(SHAPES, dtype=torch.float32).eval(),
        CLIPProcessor.from_pretrained(SHAPES),
    )

    (data,) = [content for _, content, _ in pictures(dataset, {pairs[0].winner})]
    inputs = processor(
        text=[pairs[0].caption],
        images=[Image.open(io.BytesIO(data)).convert("RGB")],
        padding="max_length",
        truncation=True,
        max_length=model.config.text_config.max_position_embeddings,
        return_tensors="pt",
    )
    with torch.no_grad():
        out = model(**inputs)
    expected = (out.image_embeds * out.text_embeds).sum()
    assert (text @ picture).item() == pytest.approx(expected.item(), abs=1e-5)
