"""Rewards of pictures: CLIP's scaled cosine, and the probability that a critic says yes (VQAScore)."""

import io
from pathlib import Path

import pyarrow.parquet as pq
import torch
from PIL import Image
from transformers import CLIPModel, CLIPProcessor

from tests.bench.plain import critique, report

WORDS = ("yes", "no")


@torch.no_grad()
def clip(model: Path, device: str, rows: list[tuple[str, Image.Image]], batch: int) -> list[float]:
    processor = CLIPProcessor.from_pretrained(model)
    net = CLIPModel.from_pretrained(model, dtype=torch.float32).eval().to(device)
    found = []
    for start in range(0, len(rows), batch):
        inputs = processor(
            text=[prompt for prompt, _ in rows[start : start + batch]],
            images=[picture for _, picture in rows[start : start + batch]],
            padding="max_length",
            truncation=True,
            max_length=net.config.text_config.max_position_embeddings,
            return_tensors="pt",
        ).to(device)
        out = net(**inputs)
        found += (net.logit_scale.exp() * (out.image_embeds * out.text_embeds).sum(-1)).tolist()
    return found


@torch.no_grad()
def yes(model: Path, device: str, rows: list[tuple[str, Image.Image]], batch: int) -> list[float]:
    processor, net = critique.load(model, torch.float32, device)
    ids = []
    for word in WORDS:
        spelt = (word, word.capitalize(), f" {word}", f" {word.capitalize()}")
        pieces = [processor.tokenizer.encode(text, add_special_tokens=False) for text in spelt]
        ids.append(sorted({one[0] for one in pieces if len(one) == 1} or {pieces[0][0]}))
    found = []
    for start in range(0, len(rows), batch):
        talks = [[critique.turn("user", text, picture)] for text, picture in rows[start : start + batch]]
        logits = net(**critique.encoded(processor, talks, net), logits_to_keep=1).logits[:, -1]
        said = [logits[:, one].logsumexp(1) for one in ids]
        found += (said[0] - said[1]).sigmoid().tolist()
    return found


def main() -> None:
    parser = report.options(__doc__)
    parser.add_argument("--tasks", type=Path, required=True, help="Parquet: image, prompt, question")
    parser.add_argument("--critic", type=Path, help="folder of the critic; none: CLIP alone")
    told = parser.parse_args()
    tasks = pq.read_table(told.tasks).to_pylist()
    pictures = [Image.open(io.BytesIO(task["image"])).convert("RGB") for task in tasks]
    shown = list(zip([task["prompt"] for task in tasks], pictures, strict=True))
    numbers = clip(told.model, told.device, shown, told.batch)
    if told.critic:
        asked = list(zip([task["question"] for task in tasks], pictures, strict=True))
        numbers += yes(told.critic, told.device, asked, told.batch)
    report.ended(numbers)


if __name__ == "__main__":
    main()
