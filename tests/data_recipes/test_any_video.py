"""Videos without an index or times of their own (MPEG-TS, raw H.264) pass the checks and are compared like others."""

from __future__ import annotations

import json
from pathlib import Path

import av
import numpy as np

from core.rows import read_rows
from data_recipes.config import Recipe
from data_recipes.runner import run_recipe


def write_video(path: Path, kind: str, seed: int) -> None:
    """Two seconds of moving blocks; `kind` is the container."""
    rng = np.random.default_rng(seed)
    blocks = np.kron(rng.integers(0, 255, (8, 8, 3)), np.ones((16, 16, 1))).astype(np.uint8)
    with av.open(str(path), "w", format=kind) as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width = stream.height = 128
        for i in range(20):
            for packet in stream.encode(av.VideoFrame.from_ndarray(np.roll(blocks, 8 * i, axis=1), "rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)


def test_every_record_of_odd_videos_is_a_row_a_rejection_or_a_named_removal(tmp_path):
    kinds = {"a.mp4": "mp4", "b.ts": "mpegts", "c.h264": "h264", "d.mkv": "matroska"}
    rows = []
    for seed, (name, kind) in enumerate(kinds.items()):
        write_video(tmp_path / name, kind, seed)
        content = [{"type": "video"}, {"type": "text", "text": f"How many blocks of kind {seed} are there?"}]
        prompt = [{"role": "user", "content": content}]
        rows.append(
            {"id": name, "task": "counting", "prompt": prompt, "videos": [name], "answer": {"value": 3}}
        )
    (tmp_path / "e.ts").write_bytes((tmp_path / "b.ts").read_bytes()[:400])
    rows.append(rows[1] | {"id": "e.ts", "videos": ["e.ts"]})
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    sources = [{"name": "s", "format": "rows", "path": str(tmp_path / "rows.jsonl")}]
    out = tmp_path / "out"
    recipe = {"name": "t", "sources": sources, "operations": ["dedup"], "output_dir": str(out), "tasks": 1}
    run_recipe(Recipe.model_validate(recipe | {"workers": 1}), say=lambda line: None)
    gone = [
        json.loads(line)
        for name in ("rejected", "removed")
        for line in (out / f"{name}.jsonl").read_text().splitlines()
    ]
    assert len(read_rows(out)) + len(gone) == len(rows)
    assert all(entry["reason"] and "rows.jsonl:" in entry["origin"] for entry in gone)
    assert {"s/a.mp4", "s/b.ts", "s/d.mkv"} <= {row["id"] for row in read_rows(out)}
