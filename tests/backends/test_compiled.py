"""generate.compile: blocks of the denoiser, their cost said, in the key of rows only where it is on."""

import json
from shutil import which

import numpy as np
import pytest

from rpo_cli import installing, open_line, registry
from rpo_cli.backends import generator
from rpo_cli.engines.loop import run_batches
from rpo_cli.errors import MissingDependency, RpoError, UsageError
from rpo_cli.line.work import generate, models
from rpo_cli.protocols import Stage, Task, Weights
from tests.backends.test_empty_parts import SIDE, Image


def made(tiny, name, **options):
    backend = registry.load("generators", name)(
        Weights(tiny("generators", name)), **{"steps": 1, "width": SIDE, "height": SIDE, **options}
    )
    backend.setup()
    return backend


@pytest.fixture
def eager(monkeypatch):
    """torch.compile that captures blocks and compiles nothing; the blocks that were captured."""
    captured = []

    def backend(graph, inputs):
        captured.append(graph)
        return graph.forward

    monkeypatch.setattr(generator, "HOW", {"dynamic": False, "backend": backend})
    return captured


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("diffusers", {}),
        ("sdxl", {}),
        ("sd3", {}),
        ("flux", {}),
        ("one-step", {"guidance": None}),
    ],
)
def test_each_kind_of_denoiser_is_compiled_in_its_first_batch_and_says_so_once(tiny, eager, name, options):
    backend = made(tiny, name, compile=True, **options)
    assert (eager, backend.notes) == ([], [])
    found = [backend.generate(["a red circle"], [7])[0] for _ in range(2)]
    captured = len(eager)

    assert captured > 0
    (said,) = backend.notes
    assert said.startswith("the first batch took ")
    assert np.array_equal(*map(np.asarray, found))
    plain = made(tiny, name, **options).generate(["a red circle"], [7])[0]
    assert np.abs(np.asarray(found[0]).astype(int) - np.asarray(plain)).max() <= 1
    assert len(eager) == captured  # what is not asked for is not compiled


def test_a_renoiser_is_compiled_and_says_so(tiny, eager):
    renoiser = registry.load("renoisers", "diffusers")(
        Weights(tiny("generators", "diffusers")), steps=2, compile=True
    )
    renoiser.setup()
    renoiser.renoise([Image.new("RGB", (16, 16))], ["a red circle"], [3], strength=0.5)
    assert eager
    assert len(renoiser.notes) == 1


@pytest.mark.slow
@pytest.mark.skipif(not any(map(which, installing.COMPILERS)), reason="no C++ compiler here")
def test_compiled_blocks_draw_the_plain_picture_within_rounding(tiny):
    both = [made(tiny, "sd3", compile=on).generate(["a red circle"], [7])[0] for on in (True, False)]
    assert np.abs(np.subtract(*(np.asarray(one).astype(int) for one in both))).max() <= 1


def test_a_denoiser_without_known_blocks_is_refused(tiny, monkeypatch):
    from diffusers import UNet2DConditionModel

    monkeypatch.setattr(UNet2DConditionModel, "_repeated_blocks", [])
    monkeypatch.setattr(UNet2DConditionModel, "_no_split_modules", None)
    with pytest.raises(UsageError, match="which blocks of its denoiser are repeated") as caught:
        made(tiny, "diffusers", compile=True)
    assert "generate.compile" in caught.value.hint


def test_what_fails_while_compiling_is_told_in_two_lines(tiny, monkeypatch):
    def broken(graph, inputs):
        raise NotImplementedError("no such operation")

    monkeypatch.setattr(generator, "HOW", {"backend": broken})
    backend = made(tiny, "diffusers", compile=True)
    with pytest.raises(RpoError, match=r"torch\.compile fails on its denoiser") as caught:
        backend.generate(["a red circle"], [7])
    assert "leave out generate.compile" in caught.value.hint
    assert backend.notes == []


def test_without_a_compiler_it_is_refused_at_the_door(tiny, tmp_path, monkeypatch):
    given = {"generate.generator": tiny("generators", "diffusers"), "run.mix": True}
    plain = open_line(tmp_path / "plain", given)
    asked = open_line(tmp_path / "asked", {**given, "generate.compile": True})
    monkeypatch.setattr(installing, "which", lambda name: None)
    for check in generate.checks(plain)[1:]:
        check()
    with pytest.raises(
        MissingDependency, match=r"generate\.compile: torch\.compile needs a C\+\+ compiler"
    ):
        generate.checks(asked)[-1]()

    monkeypatch.setattr(installing, "which", lambda name: name if name == "mine++" else None)
    monkeypatch.setenv("CXX", "mine++")
    generate.checks(asked)[-1]()


def test_rows_tell_of_it_only_where_it_is_on(tiny, tmp_path):
    given = {"generate.generator": tiny("generators", "diffusers"), "run.mix": True}
    off, on = (
        models.generator(open_line(tmp_path / str(value), {**given, "generate.compile": value}))
        for value in (False, True)
    )
    assert "compile" not in off.said
    assert "compile" not in off.options
    assert on.said == {**off.said, "compile": True}
    assert on.options == {**off.options, "compile": True}
    assert json.dumps(on.said)


def test_what_a_backend_notes_while_it_works_is_told_after_its_batch():
    class Backend:
        def __init__(self):
            self.notes = ["loaded"]

        def setup(self): ...

    heard, sink = [], []

    def step(tasks, backend, size):
        if len(backend.notes) == 1:
            backend.notes.append("compiled")
        heard.append("batch")
        return ["row"] * len(tasks)

    tasks = [Task(str(number), "p", None) for number in range(3)]
    stage = Stage("generate", "images", 1, Backend, step, lambda *made: [], lambda task: None)
    run_batches(stage, [[task] for task in tasks], lambda *made: sink.append(made), heard.append)

    assert heard == ["generate: loaded", "batch", "generate: compiled", "batch", "batch"]
