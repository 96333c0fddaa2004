"""The protocol of online against offline, and its table on results made by hand."""

import tomllib

import pytest

from rpo_cli.line.training import own_settings
from rpo_cli.train.composition import in_rounds
from tests.bench import cells, online

PROTOCOL = tomllib.loads(online.PROTOCOL.read_text())
DATA = PROTOCOL["data"]
PICTURES = DATA["prompts"] * DATA["images_per_prompt"] * DATA["rounds"]


@pytest.mark.parametrize("arm", PROTOCOL["arms"], ids=lambda arm: arm["name"])
def test_an_arm_contradicts_nothing_and_its_rounds_draw_every_prompt_equally_often(tmp_path, arm):
    rounds = {"offline": None, "rounds": DATA["rounds"]}.get(arm["kind"], 6)
    options = {"train.rounds": rounds, **arm["options"]}
    line = online.arm_line(PROTOCOL, tmp_path / "run", options, 0)
    settings = own_settings(line)
    assert in_rounds(line.settings.train) == (arm["kind"] == "rounds")
    if arm["kind"] == "trajectories":
        each = line.settings.online.prompts_per_round
        assert settings.rounds * each * DATA["images_per_prompt"] == PICTURES
        assert settings.rounds * each == DATA["prompts"] * DATA["rounds"]
    else:
        assert PROTOCOL["train"]["steps"] % DATA["rounds"] == 0


def test_the_table_compares_seeds_that_both_arms_have(tmp_path, monkeypatch):
    monkeypatch.setattr(cells, "RESULTS", tmp_path)
    shared = {"split": "dev", "eval": {}}

    def measured(right):
        return {"right": cells.as_flags(right), "rewards": {"clip": 1.0, "vqascore": 0.5}, "drift": 0.0}

    cells.cell("online", "dev-base", shared, lambda: measured([0, 0, 1, 1]))
    found = {("ppod in rounds", 0): [1, 1, 1, 1], ("ppod", 0): [0, 1, 1, 1], ("ppod", 1): [0, 0, 1, 1]}
    for arm in PROTOCOL["arms"]:
        for seed in (0, 1):
            if (right := found.get((arm["name"], seed))) is not None:
                inputs = online.inputs_of(PROTOCOL, shared, arm, seed)
                name = online.cell_name("dev", arm, seed)
                cells.cell("online", name, inputs, lambda right=right: measured(right))
    text = online.table(PROTOCOL, shared)
    assert "base fully right: 0.500" in text
    assert "| ppod in rounds | 1 | +50.0 points" in text
    assert "| ppod | 2 | +12.5 points" in text
    assert "ppod in rounds against ppod: +25.0 points" in text
    assert "not run yet: dpo, dpo in rounds, ppod-online, ddpo" in text
