"""The packages of extending.md, installed as they stand there, and real `rpo` processes that use them."""

import ast
import io
import json
import shutil
import sys
import tomllib
from importlib import import_module

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from rpo_cli.backends.rewards import ClipReward
from rpo_cli.pictures import sha256
from rpo_cli.protocols import Weights
from rpo_cli.shapes.preset import MODELS
from rpo_cli.train.objectives.objective import Errors
from tests.closeness import assert_close
from tests.docs.pages import DOCS, ROOT, blocks
from tests.docs.rig import Rig
from tests.train.test_objective_formulas import computed

PAGE = DOCS / "extending.md"
FILES = {
    block.marks["file"]: "\n".join(block.lines) + "\n" for block in blocks(PAGE) if "file" in block.marks
}
PROJECTS = [name for name in FILES if name.endswith("/pyproject.toml")]
SMALL = ("--preset", "shapes", "--limit", "1")
PYTHON = [name for name in FILES if name.endswith(".py")]


def install(project, site, version="", changes=()):
    """What pip makes of a project of the page: its module, and the .dist-info that names its entry points.

    Args:
        changes: (old, new) texts of the module.
    """
    told = tomllib.loads(FILES[project])
    name, version = told["project"]["name"], version or told["project"]["version"]
    (module,) = told["tool"]["setuptools"]["py-modules"]
    code = FILES[f"{project.partition('/')[0]}/{module}.py"]
    for old, new in changes:
        assert old in code
        code = code.replace(old, new)
    site.mkdir(exist_ok=True)
    (site / f"{module}.py").write_text(code)
    about = next(site.glob(f"{name}-*.dist-info"), site / f"{name}-{version}.dist-info")
    about.mkdir(exist_ok=True)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    points = told["project"]["entry-points"]
    lines = [
        f"[{group}]\n{key} = {value}\n" for group, entry in points.items() for key, value in entry.items()
    ]
    (about / "entry_points.txt").write_text("\n".join(lines))


def rigged(folder):
    """An empty place with a `site` of its own."""
    (folder / "hub").mkdir()
    rig = Rig(folder, folder / "hub")
    rig.env["PYTHONPATH"] = f"{folder / 'site'}:{ROOT}"
    return rig, folder / "site"


@pytest.fixture
def bare(tmp_path):
    return rigged(tmp_path)


def call(rig, *words):
    return rig._call(["rpo", *words])


def refused(ran):
    """The two lines of a user's mistake, behind what a run says of its options."""
    lines = [line for line in ran.said.splitlines() if not line.startswith("as told earlier: ")]
    assert ran.code == 2, ran.said
    assert [line.partition(":")[0] for line in lines] == ["error", "hint"], ran.said
    return ran.said


def table(run, name):
    parts = sorted(run.glob(f"{name}/**/*.parquet"))
    return [row for part in parts for row in pq.ParquetFile(part).read().to_pylist()]


def dataset(run):
    return table(run, "dataset")


@pytest.mark.parametrize("name", PYTHON)
def test_what_an_example_imports_exists(name):
    """Also what only a type checker imports."""
    for node in ast.walk(ast.parse(FILES[name])):
        if isinstance(node, ast.ImportFrom) and node.module.startswith("rpo_cli"):
            for alias in node.names:
                assert hasattr(import_module(node.module), alias.name) or alias.name == "Logits", alias.name


def test_the_stage_is_of_about_a_hundred_lines():
    assert len(FILES["captioning/captioning.py"].splitlines()) <= 110


@pytest.mark.parametrize(
    ("errors", "z"),
    [
        ((0.50, 0.60, 0.40, 0.70), -5.2),  # -beta/2 * (0.1 + 0.1 + 50 * 0.1): a winner that got worse
        ((0.30, 0.60, 0.40, 0.80), -0.1),  # -beta/2 * (-0.1 + 0.2 + 0): one that got better
    ],
)
def test_the_loss_of_the_objective_is_what_one_computes_by_hand(tmp_path, monkeypatch, errors, z):
    install("dpo-positive/pyproject.toml", tmp_path / "site")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    objective = import_module("dpo_positive").DPOP
    winner, loser, ref_winner, ref_loser = errors
    given = Errors(torch.tensor([winner, loser]), torch.tensor([ref_winner, ref_loser]))

    assert_close(objective.logits(given, 2.0), torch.tensor([z]))
    assert_close(objective.losses(given, 2.0), torch.nn.functional.softplus(torch.tensor([-z])))
    letters = {"m_w": winner, "m_l": loser, "r_w": ref_winner, "r_l": ref_loser, "beta": 2.0, "lam": 50}
    assert_close(objective.losses(given, 2.0), torch.tensor([computed(objective.formula, **letters)]))
    monkeypatch.delitem(sys.modules, "dpo_positive")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (('after="edit"', 'after="edti"'), "it follows 'edti', which is no stage; did you mean 'edit'?"),
        (('after="edit"', 'after="caption"'), "it follows 'caption', which is no stage"),
        (('after="edit"', 'after="train"'), "it follows 'train', which is no stage"),
        (('name="caption"', 'name="captions"'), "its stage is called captions"),
        (('= "captions"', '= "edits"'), "there is a table edits already"),
        (('= "captions"', '= "pairs"'), "there is a table pairs already"),
    ],
)
def test_a_misplaced_stage_is_refused_in_two_lines(bare, change, why):
    """Before anything is made."""
    rig, site = bare
    install("captioning/pyproject.toml", site, changes=[change])

    told = refused(call(rig, "run", "new", *SMALL))

    assert f"plugin caption: {why}" in told
    assert not (rig.work / "new" / "images").exists()


def test_a_stage_may_follow_one_of_another_package(bare):
    """Whatever their names' order; nothing loads for a plan."""
    rig, site = bare
    install("captioning/pyproject.toml", site)
    code = FILES["captioning/captioning.py"]
    changes = {'"caption"': '"aloud"', '= "captions"': '= "alouds"', '"edit"': '"caption"'}
    for old, new in changes.items():
        assert old in code
        code = code.replace(old, new)
    (site / "aloud.py").write_text(code)
    about = site / "aloud-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: aloud\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[rpo.stages]\naloud = aloud:SPEC\n")

    told = call(rig, "plan", "new", *SMALL, "--until", "build-pairs", "--json").said

    steps = json.loads(told[told.index("{") :])["steps"]
    assert [step["stage"] for step in steps][2:6] == ["edit", "caption", "aloud", "score clip"]
    assert steps[3]["basis"] == "the rows before it, of which more are to come"


@pytest.fixture(scope="module")
def walked(tmp_path_factory):
    """The page, read from top to bottom, each package installed where it is shown."""
    rig, site = rigged(tmp_path_factory.mktemp("extending"))
    for block in blocks(PAGE):
        rig.run(block)
        if block.marks.get("file") in PROJECTS:
            install(block.marks["file"], site)
    return rig, site


@pytest.fixture
def copied(walked, tmp_path):
    """The run of the page, and packages to change."""
    rig, site = rigged(tmp_path)
    shutil.copytree(walked[0].work / "demo", rig.work / "demo", symlinks=True)
    shutil.copytree(walked[1], site)
    (rig.work / "clip").symlink_to(MODELS / "reward")
    return rig, site


@pytest.mark.slow
def test_scores_of_the_reward_stand_in_the_dataset(walked):
    run = walked[0].work / "demo"
    clip = ClipReward(Weights(str(MODELS / "reward")))
    clip.setup()

    rows = dataset(run)

    assert rows
    for row in rows:
        for side in "01":
            picture = [Image.open(io.BytesIO(row[f"jpg_{side}"])).convert("RGB")]
            (under_prompt,), (under_nothing,) = (
                clip.score([row["caption"]], picture),
                clip.score([""], picture),
            )
            assert row[f"rewards_{side}"]["clip-gain"] == pytest.approx(
                under_prompt - under_nothing, abs=1e-4
            )


@pytest.mark.slow
def test_the_number_of_the_objective_stands_in_its_card_and_makes_its_training(copied):
    rig, site = copied
    card = (rig.work / "demo" / "train" / "dpop" / "adapter" / "README.md").read_text()
    words = ("train", "demo", "--method", "dpop", "--beta", "500", "--steps", "2", "--name", "dpop")

    assert "| dpop.lam | 50.0 |\n" in card
    install("dpo-positive/pyproject.toml", site, changes=[('("lam", 50.0)', '("lam", 5.0)')])
    assert "numbers {'lam': 50.0} → {'lam': 5.0}" in refused(call(rig, *words))


@pytest.mark.slow
def test_captions_say_what_originals_and_edits_show(walked):
    """The critic's first sentence of an original is that of its critique."""
    run = walked[0].work / "demo"
    found = {(row["prompt_id"], row["image_sha256"]): row["caption"] for row in table(run, "captions")}
    critiques = {(row["prompt_id"], row["image_sha256"]): row["text"] for row in table(run, "critiques")}
    wanted = {(row["prompt_id"], row["sha256"]) for kind in ("images", "edits") for row in table(run, kind)}

    assert found.keys() <= wanted
    assert critiques.keys() < found.keys()
    assert all(text.startswith(f"{found[key]}. ") for key, text in critiques.items())
    by_picture = {sha256: caption for (_, sha256), caption in found.items()}
    rows = dataset(run)
    assert rows
    for row in rows:
        for side in "01":
            assert row[f"caption_{side}"] == by_picture[sha256(row[f"jpg_{side}"])]


@pytest.mark.slow
def test_a_caption_has_its_place_in_story_plan_and_report(walked):
    rig, _ = walked
    one = table(rig.work / "demo", "captions")[0]

    story = call(rig, "show", "demo", one["caption_id"][:12])
    assert story.code == 0
    assert f"caption {one['caption_id']}" in " ".join(story.said.split())
    assert one["caption"] in " ".join(story.said.split())
    plan = call(rig, "plan", "demo", "--json")
    assert '"stage": "caption"' in plan.said
    report = call(rig, "report", "demo")
    assert report.code == 0
    assert "caption" in (rig.work / "demo" / "report" / "index.html").read_text()


@pytest.mark.slow
def test_a_row_of_a_stage_without_links_is_a_story_of_its_own(copied):
    rig, site = copied
    links = '    links=("caption_id", "prompt_id", "image_sha256"),\n'
    install("captioning/pyproject.toml", site, changes=[(links, "")])
    one = table(rig.work / "demo", "captions")[0]

    story = call(rig, "show", "demo", one["caption_id"])

    assert story.code == 0
    assert one["caption"] in " ".join(story.said.split())


@pytest.mark.slow
def test_deleted_captions_are_made_again_under_their_keys(copied):
    rig, _ = copied
    before = table(rig.work / "demo", "captions")
    for part in (rig.work / "demo" / "captions").rglob("*.parquet"):
        rows = pq.ParquetFile(part).read()
        pq.write_table(rows.slice(0, 4), part)

    told = call(rig, "caption", "demo").said

    assert "caption: 10 of 10 rows (4 were there, 6 made)" in told
    assert {row["caption_id"]: row["caption"] for row in table(rig.work / "demo", "captions")} == {
        row["caption_id"]: row["caption"] for row in before
    }


@pytest.mark.slow
def test_rejects_of_the_stage_are_told_and_asked_again(copied):
    rig, site = copied
    shutil.rmtree(rig.work / "demo" / "captions")
    install("captioning/pyproject.toml", site, changes=[("if sentence and", 'if "circle" in sentence and')])
    assert call(rig, "caption", "demo").code == 0
    kept = len(table(rig.work / "demo", "captions"))
    assert 0 < kept < 10
    assert f"no_caption {10 - kept}" in call(rig, "status", "demo").said

    install("captioning/pyproject.toml", site)
    assert f"({kept} were there, 0 made)" in call(rig, "caption", "demo").said
    assert f"({kept} were there, {10 - kept} made)" in call(rig, "caption", "demo", "--retry-rejects").said


@pytest.mark.slow
def test_rows_of_another_version_of_the_plugin_stay_until_they_are_pruned(copied):
    rig, site = copied
    install("captioning/pyproject.toml", site, version="1.1")

    status = json.loads(call(rig, "status", "demo", "--json", "--quiet").said.partition("\nnext")[0])
    stage = next(each for each in status["stages"] if each["stage"] == "caption")
    assert (stage["wanted"], stage["present"], stage["stale"]) == (10, 0, 10)
    assert "captions 10" in call(rig, "status", "demo", "--prune").said
    assert table(rig.work / "demo", "captions") == []


@pytest.mark.slow
def test_compacting_joins_the_parts_of_the_table(copied):
    rig, _ = copied
    (part,) = (rig.work / "demo" / "captions").rglob("*.parquet")
    rows = pq.ParquetFile(part).read()
    part.unlink()
    for place in range(rows.num_rows):
        pq.write_table(rows.slice(place, 1), part.with_name(f"part-{place:020x}.parquet"))

    assert "captions 10" in call(rig, "status", "demo", "--compact").said
    assert len(list((rig.work / "demo" / "captions").rglob("*.parquet"))) == 1
    assert pa.Table.from_pylist(table(rig.work / "demo", "captions")).num_rows == 10


@pytest.mark.slow
def test_shards_are_merged_with_the_table_of_the_stage_or_not_at_all(copied):
    rig, site = copied

    assert "captions 1" in call(rig, "merge", "whole", "demo").said
    assert len(table(rig.work / "whole", "captions")) == 10
    for about in site.glob("captioning-*"):
        shutil.rmtree(about)
    assert "has rows of caption, of which no stage is installed here" in refused(
        call(rig, "merge", "other", "demo")
    )
    assert not (rig.work / "other").exists()


@pytest.mark.slow
def test_upgrading_counts_the_rows_of_the_stage(copied):
    rig, _ = copied
    path = rig.work / "demo" / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 3}))

    assert "captions 10" in call(rig, "upgrade", "demo").said


@pytest.mark.slow
def test_without_the_plugin_the_same_run_goes_on(copied):
    rig, site = copied
    for about in site.glob("captioning-*"):
        shutil.rmtree(about)

    ran = call(rig, "run", "demo", "--until", "build-pairs")

    assert ran.code == 0, ran.said
    assert "caption " not in ran.said
    assert "caption_0" not in dataset(rig.work / "demo")[0]
    assert len(table(rig.work / "demo", "captions")) == 10
    assert "no such command 'caption'" in call(rig, "caption", "demo").said.lower()
