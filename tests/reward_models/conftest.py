"""A tiny model, and preference pairs about plain tiles: the chosen response names the tile's colour, the rejected one another, or
the same in many words."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from core.rows import write_rows
from tests.sft.conftest import write_clip
from vlm.tiny import build_tiny_vlm

COLOURS = {"red": (220, 40, 40), "green": (40, 170, 60), "blue": (40, 70, 220)}
WORDY = "well, let me look at it for a while, it may be many things, but "


def make_pairs(folder: Path, count: int = 24, *, media: bool = True) -> list[dict]:
    """Pairs of two kinds in turn: `wrong` (another colour) and `wordy` (the same colour in many words). Every sixth is about a
    clip, every other sixth about text alone; consecutive pairs of both kinds share their prompt."""
    folder.mkdir(parents=True, exist_ok=True)
    names, rows = list(COLOURS), []
    for i in range(count):
        turn, kind = i // 2, ("wrong", "wordy")[i % 2]
        name, other = names[turn % 3], names[(turn + 1 + i % 4 // 2) % 3]
        row = {"id": f"pair{i}", "task": "chat", "kind": kind, "images": [], "videos": []}
        row |= {"source": {"dataset": "tiles" if i % 3 else "more tiles"}, "margin": 1 + i % 3}
        row |= {
            "chosen": f"a {name} tile",
            "rejected": f"a {other} tile" if kind == "wrong" else f"{WORDY}a {name} tile",
        }
        content = [{"type": "text", "text": "Which colour?"}]
        if not media or turn % 6 == 5:
            content = [{"type": "text", "text": f"Which colour is {name}?"}]
        elif turn % 6 == 4:
            clip = folder / f"{turn}.mp4"
            write_clip(clip, COLOURS[name], COLOURS[name])
            content.insert(0, {"type": "video"})
            row["videos"] = [str(clip)]
        else:
            image = folder / f"{turn}.png"
            Image.new("RGB", (56 if turn % 2 else 84, 56), COLOURS[name]).save(image)
            content.insert(0, {"type": "image"})
            row["images"] = [str(image)]
        rows.append(row | {"prompt": [{"role": "user", "content": content}]})
    return rows


@pytest.fixture(scope="session")
def pairs_file(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pairs")
    return write_rows(make_pairs(folder / "media"), folder / "pairs.jsonl")


@pytest.fixture(scope="session")
def text_pairs_file(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("text_pairs")
    return write_rows(make_pairs(folder / "media", media=False), folder / "pairs.jsonl")


@pytest.fixture(scope="session")
def tiny(tmp_path_factory, pairs_file) -> Path:
    """Random tiny VLM whose tokenizer knows the pairs' words."""
    return build_tiny_vlm(
        tmp_path_factory.mktemp("tiny"), pairs_file.read_text().splitlines(), hidden=64, layers=2
    )
