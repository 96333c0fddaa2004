"""Arms of a bench share one run and nothing else."""

from pathlib import Path

from tests.bench.lines import dataset_line

DATA = {"split": "train", "prompts": 2, "prompt_seed": 0, "run_seed": 0, "options": {"run.threads": 1}}


def test_options_of_one_arm_are_gone_in_the_next(tmp_path: Path) -> None:
    ungated = {"pairs.strategy": "edits", "pairs.min_margin": 0.0, "score.rewards": ["clip=here"]}
    dataset_line(DATA, tmp_path, ungated).record()

    after = dataset_line(DATA, tmp_path).settings

    assert after.pairs.strategy == "all"
    assert after.pairs.min_margin == 0.5
    assert [one.partition("=")[0] for one in after.score.rewards] == ["clip", "vqascore"]
    assert after.run.threads == 1
