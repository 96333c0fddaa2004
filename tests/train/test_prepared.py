"""Encoding first and training later, perhaps on a machine without room for the encoders."""

from rpo_cli.config import TrainSettings
from rpo_cli.train.composition import TrainInputs
from rpo_cli.train.families.unet import StableDiffusion1
from rpo_cli.train.run import prepare_cache


def test_after_prepare_a_training_loads_neither_vae_nor_text_encoder(
    run_train, model, dataset, tmp_path, monkeypatch
):
    """Prepare loads no denoiser and writes nothing but the cache; mirrors and "" are encoded too."""
    settings = {"flip": True, "caption_dropout": 0.5}

    def refuse(*given):
        raise AssertionError("a model was loaded that is not needed")

    with monkeypatch.context() as patch:
        patch.setattr(StableDiffusion1, "load_denoiser", refuse)
        inputs = TrainInputs(
            TrainSettings(**settings),
            dataset=dataset,
            model=str(model),
            revision=None,
            model_identity=str(model),
            out=tmp_path / "out",
            cache=tmp_path / "cache",
            seed=0,
            device="cpu",
        )
        found = prepare_cache(inputs)
    assert (found.pairs, found.held_out) == (10, 4)
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]
    monkeypatch.setattr(StableDiffusion1, "load_encoders", refuse)
    assert run_train(cache=tmp_path / "cache", steps=2, **settings).steps == 2
