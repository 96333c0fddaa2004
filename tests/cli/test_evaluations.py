"""What `rpo eval` prints and refuses, on documents written by hand."""

import csv
import io
import json
import re

import pytest

from rpo_cli.cli import evaluations
from rpo_cli.cli.output import Output
from rpo_cli.line.evaluation.evaluate import Evaluation


def span(value, low=None, high=None):
    return {"value": value, "low": value if low is None else low, "high": value if high is None else high}


BASE = {
    "label": "base",
    "rewards": {
        "clip": {
            "mean": span(20.0, 19, 21),
            "sd": 2.0,
            "seed_variance": span(4.0),
            "failures": span(0.1),
            "worst_tenth": 15.5,
            "tail": 4.0,
        }
    },
    "diversity": {"pixel": span(0.2)},
    "measured": {
        "all": {
            "prompts": 3,
            "attributes": {"right": span(0.7), "colour": span(0.8), "position": span(0.9)},
        },
        "with position": {"prompts": 2, "attributes": {"right": span(0.6)}},
    },
}
TUNED = {
    **BASE,
    "label": "dpo",
    "against_base": {
        "rewards": {
            "clip": {
                "difference": span(0.5, 0.25, 0.75),
                "win_rate": span(0.6),
                "seed_variance": span(-1.5, -2, -1),
                "failures": None,
            }
        },
        "diversity": {"pixel": None},
        "drift": {"pixel": span(0.125)},
        "measured": {"all": {"prompts": 3, "attributes": {"right": span(0.091, 0.068, 0.116)}}},
    },
}
RESULTS = {
    "prompts": {"count": 3, "source": "a\x1b[31mb.txt", "trained_on": 2},
    "seeds": 4,
    "measure": "shapes-oracle",
    "rejected": {"base": {}, "dpo": {"black_image": 2}},
    "settings": [BASE, TUNED],
}

AUDIT = {
    "pairs": 9,
    "looked_at": 8,
    "agreement": {"clip": {"all": {"pairs": 9, "agree": 6, "tie": 1, "disagree": 2, "share": span(0.75)}}},
    "beside_people": {
        "clip": {"all": {"pairs": 5, "agree": 4, "tie": 0, "disagree": 1, "share": span(0.8)}}
    },
    "noise_by_margin": {"clip": [{"from": 3.0, "to": None, "pairs": 2, "wrong": span(0.5)}]},
    "moves": {"edit": {"pixel": {"0.05": 0.1, "0.95": 0.3}}},
    "probe": {
        "edited": {"pictures": 40, "accuracy": span(0.9, 0.8, 1.0), "chance": 0.5},
        "winner": None,
    },
}


def test_a_comparison_is_told_in_tables_with_intervals(capsys):
    evaluations.compared(Output("human"), Evaluation("run/eval/x/results.json", RESULTS))
    out, err = capsys.readouterr()

    assert "3 prompts (ab.txt) x 4 start seeds" in out
    assert "rejected: dpo 2" in out
    # sd, the root of the variance over start seeds, failures, the worst tenth and how far below the median
    assert re.search(
        r"^clip +dpo +20\.000  \[19\.000, 21\.000\]  2\.000  2\.000 +0\.100 +15\.500 +4\.000$", out, re.M
    )
    gain = r"^clip +dpo +\+0\.500 +\[\+0\.250, \+0\.750\] +0\.600 +\[.*\] +-1\.500 +\[-2\.000, -1\.000\]$"
    assert re.search(gain, out, re.M)
    assert "tail: the median less the mean of\n  the worst tenth" in out
    assert "+9.1    [+6.8, +11.6]" in out
    assert out.rstrip().endswith("results: run/eval/x/results.json")
    assert "2 of these prompts were trained on" in err
    assert "3 prompts are few" in err


def test_an_attribute_is_counted_over_the_prompts_that_name_it(capsys):
    evaluations.compared(Output("human"), Evaluation("p", RESULTS))
    out = capsys.readouterr().out

    counts = dict(re.findall(r"^(right|colour|position|right, with position) +base +(\d)", out, re.M))
    assert counts == {"right": "3", "colour": "3", "position": "2", "right, with position": "2"}


def test_a_gain_stands_beside_how_well_edits_are_told_by_their_looks(capsys):
    probes = {"edited": {"pictures": 40, "accuracy": span(0.9, 0.8, 1.0), "chance": 0.5}, "winner": None}

    evaluations.compared(Output("human"), Evaluation("p", RESULTS), probes)

    said = (
        "of the run's pairs, a classifier of looks alone tells edited pictures from originals: 0.900 [0.8"
    )
    assert said in capsys.readouterr().out
    evaluations.compared(Output("json"), Evaluation("p", RESULTS), probes)
    assert json.loads(capsys.readouterr().out)["probe"] == probes


def test_json_is_the_whole_document_and_quiet_its_place(capsys):
    evaluations.compared(Output("json"), Evaluation("p", RESULTS))
    assert json.loads(capsys.readouterr().out)["settings"][1]["against_base"]["diversity"] == {
        "pixel": None
    }
    evaluations.compared(Output("quiet"), Evaluation("p", RESULTS))
    assert capsys.readouterr().out == "p\n"


def test_an_audit_is_told_in_tables_and_two_sentences(capsys):
    evaluations.audited(Output("human"), Evaluation("p", AUDIT))
    out = capsys.readouterr().out

    assert "clip   all           9      6    1         2  0.750" in out
    assert "judge beside people" in out
    assert "5      4    0         1  0.800" in out
    assert "3 and more" in out
    assert "0.900 [0.800, 1.000] of 40 pictures, chance 0.500: a shortcut to learn" in out
    assert "winners from losers: too few pictures to say" in out


@pytest.mark.parametrize(
    "option",
    [
        ["--adapter", "a"],
        ["--reward", "clip=x"],
        ["--prompts", "x.txt"],
        ["--images-per-prompt", "4"],
        ["--seed", "0"],
        ["--guidance", "2"],
    ],
)
def test_options_about_models_do_not_go_with_a_dataset(rpo, place, option):
    rpo("generate", place.run, *place.options)

    done = rpo("eval", place.run, "--judge-labels", *option)

    assert (done.code, option[0] in done.err) == (2, True)


def test_a_column_without_its_file_is_refused(rpo, place):
    rpo("generate", place.run, *place.options)

    done = rpo("eval", place.run, "--column", "prompt")

    assert (done.code, "--column names a column of --prompts" in done.err) == (2, True)


@pytest.mark.parametrize("guidance", ["-1", "nan", "inf", "much", ""])
def test_a_guidance_is_a_finite_number_of_0_or_more(rpo, place, guidance):
    rpo("generate", place.run, *place.options)
    before = (place.run / "run.json").read_bytes()

    done = rpo("eval", place.run, "--guidance", "1", "--guidance", guidance)

    assert done.code == 2
    assert re.search(r"^error: .*--guidance.*\nhint: ", done.err, re.M)
    assert (place.run / "run.json").read_bytes() == before


def test_what_was_sampled_at_several_guidances_is_told_above_the_tables(capsys):
    """And results of before, which say nothing of guidances, are told as they were."""
    again = [{**setting, "label": f"{setting['label']}@2"} for setting in (TUNED, TUNED)]
    bases = {"base": 1.15, "base@2": 2.0}
    evaluations.compared(
        Output("human"), Evaluation("p", {**RESULTS, "settings": [BASE, TUNED, *again], "bases": bases})
    )
    out = capsys.readouterr().out

    assert "guidance of base 1.15, base@2 2; a model stands beside the base at its" in out
    assert re.search(r"^clip +dpo@2 +\+0\.500", out, re.M)
    evaluations.compared(Output("human"), Evaluation("p", {**RESULTS, "bases": {"base": 1.15}}))
    evaluations.compared(Output("human"), Evaluation("p", RESULTS))
    assert "guidance of" not in capsys.readouterr().out


def test_a_run_that_is_none_is_not_made(rpo, tmp_path):
    done = rpo("eval", tmp_path / "none")

    assert (done.code, (tmp_path / "none").exists()) == (2, False)


def markdown_tables(text):
    """Header, rule and rows of each table, as cells."""
    found = []
    for block in text.strip().split("\n\n"):
        lines = [re.split(r"(?<!\\)\|", line)[1:-1] for line in block.split("\n")]
        found.append([[cell.strip() for cell in line] for line in lines])
    return found


def test_markdown_is_tables_of_equal_columns_and_the_rest_is_said_beside(capsys):
    evaluations.compared(Output("human"), Evaluation("p", RESULTS), None, "md")
    out, err = capsys.readouterr()

    tables = markdown_tables(out)
    assert [table[0][:2] for table in tables] == [
        ["reward", "model"],
        ["beside base", "model"],
        ["distance", "model"],
        ["shapes-oracle", "model"],
    ]
    for header, rule, *rows in tables:
        assert {len(row) for row in rows} == {len(header)} == {len(rule)}
        assert all(re.fullmatch("---:?", cell) for cell in rule)
        assert "" not in header
    assert tables[0][2][2] == "20.000 [19.000, 21.000]"
    assert "3 prompts (ab.txt) x 4 start seeds" in err
    assert "results: p" in err


def test_names_cannot_end_a_cell_of_markdown(capsys):
    strange = {**BASE, "rewards": {"a|b*c\n<d>": BASE["rewards"]["clip"]}}
    evaluations.compared(Output("human"), Evaluation("p", {**RESULTS, "settings": [strange]}), None, "md")

    (_, _, row), *_ = markdown_tables(capsys.readouterr().out)
    assert row[:2] == [r"a\|b\*c \<d>", "base"]


def read(text):
    return list(csv.DictReader(io.StringIO(text)))


def test_csv_is_a_row_a_model_and_figure_with_the_numbers_of_json(capsys):
    evaluations.compared(Output("json"), Evaluation("p", RESULTS))
    settings = json.loads(capsys.readouterr().out)["settings"]
    evaluations.compared(Output("quiet"), Evaluation("p", RESULTS), None, "csv")
    out, err = capsys.readouterr()
    rows = read(out)

    def number(model, figure, name="clip", of="all"):
        (row,) = [
            row
            for row in rows
            if (row["model"], row["figure"], row["name"], row["of"]) == (model, figure, name, of)
        ]
        value, low, high = (float(row[key]) if row[key] else None for key in ("estimate", "low", "high"))
        return value if low is None else {"value": value, "low": low, "high": high}

    assert err == ""
    for setting in settings:
        own, label = setting["rewards"]["clip"], setting["label"]
        assert {figure: number(label, figure) for figure in own} == own
        assert number(label, "diversity", "pixel") == setting["diversity"]["pixel"]
        assert number(label, "share", "colour") == setting["measured"]["all"]["attributes"]["colour"]
    beside = settings[1]["against_base"]
    assert number("dpo", "mean_difference") == beside["rewards"]["clip"]["difference"]
    assert number("dpo", "win_rate") == beside["rewards"]["clip"]["win_rate"]
    assert number("dpo", "failures_difference") is None
    assert number("dpo", "drift", "pixel") == beside["drift"]["pixel"]
    assert number("dpo", "share_difference", "right") == beside["measured"]["all"]["attributes"]["right"]
    assert {row["beside"] for row in rows if "difference" in row["figure"]} == {"base"}
    assert {(row["prompts"], row["seeds"]) for row in rows if row["of"] == "all"} == {("3", "4")}
    assert {row["prompts"] for row in rows if row["of"] == "with position"} == {"2"}


def test_csv_keeps_every_digit_and_one_order(capsys):
    """Results that were just made are printed as those that were read from their sorted file."""
    third = {"value": 1 / 3, "low": -1e-17, "high": 2 / 3}
    base = {**BASE, "diversity": {"pixel": third}}
    told = {**RESULTS, "settings": [base, TUNED]}
    texts = []
    for results in (told, json.loads(json.dumps(told, sort_keys=True))):
        for form in ("csv", "md"):
            evaluations.compared(Output("quiet"), Evaluation("p", results), None, form)
            texts.append(capsys.readouterr().out)

    assert texts[:2] == texts[2:]
    (row,) = [row for row in read(texts[0]) if (row["model"], row["figure"]) == ("base", "diversity")]
    assert {key: float(row[key]) for key in ("estimate", "low", "high")} == {
        "estimate": 1 / 3,
        "low": -1e-17,
        "high": 2 / 3,
    }


def test_an_audit_has_both_forms_too(capsys):
    evaluations.audited(Output("human"), Evaluation("p", AUDIT), "md")
    out, err = capsys.readouterr()
    for header, _, *rows in markdown_tables(out):
        assert {len(row) for row in rows} == {len(header)}
    assert "| tells edited pictures from originals | 40 | 0.900 [0.800, 1.000] | 0.500 |" in out
    assert "9 pairs, 8 of them looked at" in err

    evaluations.audited(Output("human"), Evaluation("p", AUDIT), "csv")
    rows = read(capsys.readouterr().out)
    found = {(row["kind"], row["name"], row["figure"]): (row["estimate"], row["n"]) for row in rows}
    assert found["agreement", "clip", "share"] == ("0.75", "9")
    assert found["agreement", "clip", "disagree"] == ("2", "9")
    assert found["beside_people", "clip", "share"] == ("0.8", "5")
    assert found["noise_by_margin", "clip", "wrong"] == ("0.5", "2")
    assert found["moves", "pixel", "quantile_0.95"] == ("0.3", "")
    assert found["probe", "edited", "accuracy"] == ("0.9", "40")
    assert ("probe", "winner", "accuracy") not in found


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--format", "md", "--json"], "--format does not go with --json"),
        (["--format", "csv", "--dataset", "--json"], "--format does not go with --json"),
        (["--format", "html"], "--format"),
    ],
)
def test_a_form_that_cannot_be_is_refused(rpo, place, arguments, said):
    rpo("generate", place.run, *place.options)

    done = rpo("eval", place.run, *arguments)

    assert (done.code, done.out, said in done.err) == (2, "", True)
    assert (rpo("--json", "eval", place.run, "--format", "md").code) == 2


@pytest.mark.parametrize(("form", "begin"), [("md", "| reward | model |"), ("csv", "model,beside,kind,")])
def test_the_door_passes_the_form_on(rpo, place, monkeypatch, form, begin):
    rpo("generate", place.run, *place.options)
    monkeypatch.setattr(
        "rpo_cli.line.evaluation.evaluate.evaluate", lambda line, **options: Evaluation("p", RESULTS)
    )
    monkeypatch.setattr(
        "rpo_cli.line.evaluation.labels.audit", lambda line, **options: Evaluation("p", AUDIT)
    )

    done = rpo("eval", place.run, "--format", form)
    audited = rpo("eval", place.run, "--dataset", "--format", form)

    assert (done.code, audited.code) == (0, 0)
    assert done.out.startswith(begin)
    assert audited.out.startswith({"md": "| judge |", "csv": "kind,name,pairs_of"}[form])
    assert "results: p" not in done.out + audited.out
