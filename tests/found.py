"""A run of six pairs to look for, each unlike the others: pictures, critiques and margins made by hand."""

from rpo_cli.records import Flaw
from rpo_cli.store import open_store
from tests.line.test_report import rows_of

# reason, prompt, flaw of its critique, what else its row says
PAIRS = {
    "won": ("edit_won", "a red STAR", "six fingers", {"margins": {"clip": 2.0, "vqa": 1.0}, "margin": 1.5}),
    "back": ("reversed", "a red star, again", "it is red", {"margins": {"clip": -2.0}, "margin": -2.0}),
    "close": ("inside_band", "a blue circle", "it is red", {"margins": {"clip": 0.1}, "margin": 0.1}),
    "seeds": ("seed_won", "two straße", "a hand is missing", {"margins": {"clip": 3.0}, "margin": 3.0}),
    "unscored": ("unscored", "a green square", "it is red", {}),
    "broken": ("corrupt_image", "a black box", "it is red", {"margins": {"vqa": 0.5}, "margin": 0.5}),
}
KINDS = {"seeds": {"pair_kind": "seeds", "critique_id": None, "instruction": None}}


def make_run(path):
    """Write the run; returns the id of each pair by its name in PAIRS."""
    store = open_store(path, create=True)
    store.write_manifest({"preset": "shapes", "prompts": {"count": 6, "group": "0", "source": "list.txt"}})
    found, tables = {}, {"images": [], "critiques": [], "edits": [], "pairs": []}
    for number, (name, (reason, prompt, flaw, more)) in enumerate(PAIRS.items()):
        image, critique, edit, pair = rows_of(number, reason, prompt)
        critique = critique.model_copy(update={"flaws": (Flaw(aspect="detail", detail=flaw),)})
        pair = pair.model_copy(update={**more, **KINDS.get(name, {})})
        for rows, row in zip(tables.values(), (image, critique, edit, pair), strict=True):
            rows.append(row)
        found[name] = pair.pair_id
    for table, rows in tables.items():
        store.commit(table, rows, group="0badcafe")
    return found
