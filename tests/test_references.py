"""What a text names is here: no page, comment or message sends a reader to a file that nobody has."""

import ast
import io
import re
import tokenize
from pathlib import Path

ROOT = Path(__file__).parent.parent
PLACES = ("rpo_cli", "tests", "prompts")
SINGLE = ("README.md", "CHANGELOG.md", "Makefile", "pyproject.toml")
READ = {".py", ".md", ".toml", ".txt", ".html", ".jinja", ""}
NAME = re.compile(r"(?:[\w.{},-]+/)*(?:\{[\w,]+\}|[\w-][\w.-]*)\.(?:md|py|toml)\b")
# files that are not ours, and whose they are
OTHERS = {
    **dict.fromkeys(("rpo.toml", "dataset/README.md"), "a run's"),
    **dict.fromkeys(("own.toml", "taste.py"), "the tutorial's reader's"),
    "torch.py": "one that a user may have in a folder",
    **dict.fromkeys(("train_diffusion_dpo.py", "pipeline_flux.py"), "huggingface/diffusers"),
    "sdxl_turbo.md": "huggingface/diffusers, its docs",
    "convert_llava_onevision_weights_to_hf.py": "huggingface/transformers",
    "scripts/train.py": "kvablack/ddpo-pytorch, yk7333/d3po",
    "train_kto_sd_v1.5.py": "jacklishufan/diffusion-kto",
    **dict.fromkeys(("args.py", "utils.py"), "mapo-t2i/mapo"),
    "config/dpo.py": "yifan123/flow_grpo",
    **dict.fromkeys(("train_sd15.py", "train_sdxl.py"), "G-U-N/Diffusion-NPO"),
    "data_collator_qwen.py": "MizzenAI/HPSv3",
    **dict.fromkeys(("library/sdxl_model_util.py", "networks/lora.py"), "kohya-ss/sd-scripts"),
}


def texts() -> dict[str, str]:
    """Path → what a reader is told there, of everything that is shipped and of the tests."""
    below = [path for place in PLACES for path in (ROOT / place).rglob("*")]
    found = [path for path in (*(ROOT / name for name in SINGLE), *below) if path.is_file()]
    kept = {
        path.relative_to(ROOT): path for path in found if path.suffix in READ and path != Path(__file__)
    }
    return {
        name.as_posix(): remarks(text) if name.parts[0] == "tests" and name.suffix == ".py" else text
        for name, text in ((name, path.read_text(encoding="utf-8")) for name, path in kept.items())
    }


def remarks(source: str) -> str:
    """Comments and docstrings: the other strings of a test name files that it makes."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    comments = [token.string for token in tokens if token.type == tokenize.COMMENT]
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, documented)]
    return "\n".join([*comments, *(ast.get_docstring(node) or "" for node in nodes)])


def names(text: str) -> set[str]:
    """The names of files in a text; `{a,b}.py` names two."""
    found = set()
    for name in NAME.findall(text):
        choice = re.search(r"\{([\w,]+)\}", name)
        found |= {name.replace(choice[0], each) for each in choice[1].split(",")} if choice else {name}
    return {re.sub(r"^(\.{1,2}/)+", "", name) for name in found}


TEXTS = texts()
# of the examples in the pages for users, each behind the comment that names it
EXAMPLES = {name for text in TEXTS.values() for name in re.findall(r"<!-- file: (\S+) -->", text)}


def elsewhere(name: str) -> str | None:
    """The entry of OTHERS that a name ends in, or the example that it is a file of."""
    others = (*OTHERS, *EXAMPLES)
    return next((other for other in others if f"/{name}".endswith(f"/{other}")), None)


ENDS = {"/".join(path.split("/")[n:]) for path in TEXTS for n in range(path.count("/") + 1)}


def test_every_file_that_a_text_names_is_in_the_repository_or_known_to_be_anothers():
    missing = [
        f"{path}: {name}"
        for path, text in TEXTS.items()
        for name in sorted(names(text) - ENDS)
        if not elsewhere(name)
    ]

    assert missing == []


def test_of_the_files_of_others_each_is_named_somewhere_and_is_not_ours():
    used = {elsewhere(name) for text in TEXTS.values() for name in names(text) - ENDS}

    assert sorted(OTHERS.keys() - used) == []


def test_names_are_read_out_of_sentences_paths_links_and_choices():
    text = (
        "see notes.md 2; `train/{links,weights}.py`, [page](../docs/data.md#x), a/b.toml; no .py or x.pyc"
    )

    assert names(text) == {"notes.md", "train/links.py", "train/weights.py", "docs/data.md", "a/b.toml"}


def test_of_a_test_its_docstrings_and_comments_are_read_and_its_other_strings_are_not():
    assert names(remarks('"""a.md"""\nx = "b.md"  # c.md\ndef f():\n    "d.md"\n')) == {
        "a.md",
        "c.md",
        "d.md",
    }
