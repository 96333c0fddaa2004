"""Pictures to critiques with a vision-language model: two turns, greedy, in batches."""

import io
import zlib
from pathlib import Path

import pyarrow.parquet as pq
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

from tests.bench.plain import report


def load(model: Path, dtype: torch.dtype, device: str):
    """(processor, model), conversations padded on the left."""
    processor = AutoProcessor.from_pretrained(model)
    processor.tokenizer.padding_side = "left"
    net = AutoModelForImageTextToText.from_pretrained(model, dtype=dtype).eval().to(device)
    return processor, net


def turn(role: str, text: str, picture=None) -> dict:
    shown = [] if picture is None else [{"type": "image", "image": picture}]
    return {"role": role, "content": [*shown, {"type": "text", "text": text}]}


def encoded(processor, talks: list, net):
    """Conversations as the model takes them."""
    inputs = processor.apply_chat_template(
        talks,
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        processor_kwargs={"padding": True},
    )
    return inputs.to(net.device, net.dtype)


@torch.no_grad()
def replies(processor, net, talks: list, most: int) -> list[tuple[str, bool]]:
    """(text, whether it came to its end) of each conversation."""
    inputs = encoded(processor, talks, net)
    ends = net.generation_config.eos_token_id
    ends = ends if isinstance(ends, list) else [ends]
    out = net.generate(**inputs, max_new_tokens=most, do_sample=False)
    rows = [row.tolist() for row in out[:, inputs["input_ids"].shape[1] :]]
    stops = [next((place for place, token in enumerate(row) if token in ends), None) for row in rows]
    read = (row[:stop] for row, stop in zip(rows, stops, strict=True))
    texts = [processor.tokenizer.decode(row, skip_special_tokens=True).strip() for row in read]
    return [(text, stop is not None) for text, stop in zip(texts, stops, strict=True)]


def main() -> None:
    parser = report.options(__doc__)
    parser.add_argument("--tasks", type=Path, required=True, help="Parquet: image, first, second")
    parser.add_argument("--tokens", type=int, required=True, help="of the longest reply")
    told = parser.parse_args()
    tasks, seconds = pq.read_table(told.tasks).to_pylist(), []
    processor, net = load(told.model, report.dtype(told.dtype), told.device)
    rows: list[tuple[str, str]] = []
    for start in range(0, len(tasks), told.batch):
        chunk, began = tasks[start : start + told.batch], report.now(told.device)
        pictures = [Image.open(io.BytesIO(task["image"])).convert("RGB") for task in chunk]
        talks = [[turn("user", task["first"], pic)] for task, pic in zip(chunk, pictures, strict=True)]
        first = replies(processor, net, talks, told.tokens)
        good = [place for place, (_, whole) in enumerate(first) if whole]
        more = {n: [turn("assistant", first[n][0]), turn("user", chunk[n]["second"])] for n in good}
        asked = [talks[n] + more[n] for n in good]
        second = replies(processor, net, asked, told.tokens) if good else []
        found = dict(zip(good, second, strict=True))
        rows += [(text, found.get(place, ("", False))[0]) for place, (text, _) in enumerate(first)]
        seconds.append(report.now(told.device) - began)
    report.ended([float(zlib.crc32("\n".join(row).encode())) for row in rows], seconds=seconds)


if __name__ == "__main__":
    main()
