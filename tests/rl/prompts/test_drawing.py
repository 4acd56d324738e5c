"""Rows that cannot be used are found before the run; one that slips through is left out, named and counted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from PIL import Image

from core.rows import RowError
from rl.loop import train
from tests.rl.small_run import metrics, rollouts, share_of_digits, small_config, write_small_world

REPOSITORY = Path(__file__).parents[3]
BROKEN = "r5"


def breaks_an_image(completion: str, answer: dict, **row: object) -> float:
    """`share_of_digits`; the first call damages the image of row BROKEN, as if its file had changed during the run."""
    path = Path(str(row["broken"]))
    if path.stat().st_size > 100:
        path.write_bytes(path.read_bytes()[:100])
    return share_of_digits(completion, answer)


@pytest.fixture
def world(tmp_path) -> Path:
    return write_small_world(tmp_path / "world")


def changed(world: Path, **by_id: dict) -> None:
    """Rewrite the rows with some fields changed."""
    path = world / "rows.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(row | by_id.get(row["id"], {})) + "\n" for row in rows))


def unusable(world: Path) -> dict[str, str]:
    """Make five of the six rows unusable; what each one's message says."""
    Image.new("RGB", (600, 2)).save(world / "strip.png")
    cut = world / "cut.png"
    cut.write_bytes((world / "1.png").read_bytes()[:200])
    image, text = {"type": "image"}, {"type": "text", "text": "what is it"}

    def prompt(*content: dict) -> dict:
        return {"prompt": [{"role": "user", "content": list(content)}]}

    changed(
        world,
        r0=prompt({"type": "text", "text": "what is it " * 60}),
        r1=prompt(image, text) | {"images": ["strip.png"]},
        r2=prompt(*[image] * 9, text) | {"images": ["1.png"] * 9},
        r3=prompt(image, text) | {"images": ["cut.png"]},
        r4=prompt({"type": "text", "text": "what<|im_end|>"}),
    )
    return {
        "r0": "which leaves no room for a completion within max_model_len = 96",
        "r1": "strip.png: expected positive sides with an aspect ratio of at most 200, got 600x2",
        "r2": "the prompt has 9 images, expected at most engine.images_per_prompt = 8",
        "r3": "cut.png (image file is truncated",
        "r4": "got the special token <|im_end|>",
    }


def prompts(world: Path, **settings: object) -> dict:
    return {"prompts": {"rows": str(world / "rows.jsonl"), **settings}}


def test_unusable_rows_are_named_before_the_run(world, tmp_path):
    expected = unusable(world)
    with pytest.raises(RowError, match="5 of 6 rows cannot be used") as caught:
        train(small_config(world, tmp_path / "run"))
    lines = str(caught.value).splitlines()[1:]
    for (name, reason), line in zip(expected.items(), sorted(lines), strict=True):
        assert line.startswith(f"  row {name!r}: ") and reason in line
    assert not (tmp_path / "run").exists()


def test_unusable_rows_can_be_left_out(world, tmp_path, capfd):
    changed(world, r0={"prompt": [{"role": "user", "content": "what is it " * 60}]})
    config = small_config(world, tmp_path / "run", **prompts(world, bad_rows="drop", max_bad_rows=0.2))
    train(config)
    assert {r["row_id"] for r in rollouts(tmp_path / "run")} == {f"r{i}" for i in range(1, 6)}
    assert [step["rows/left_out"] for step in metrics(tmp_path / "run")] == [1.0] * 4
    assert "row 'r0': the prompt has" in "".join(capfd.readouterr())
    with pytest.raises(RowError, match=r"more than the share max_bad_rows = 0\.1"):
        train(small_config(world, tmp_path / "no", **prompts(world, bad_rows="drop", max_bad_rows=0.1)))


def breaking(world: Path, out: Path, share: float, **changes: object):
    """A run of two passes in which an image is damaged after the first step."""
    changed(world, **{f"r{i}": {"broken": str(world / f"{BROKEN[1:]}.png")} for i in range(6)})
    reward = {"function": f"{__file__}:breaks_an_image", "isolate": False}
    rewards = {"rewards": {"grammar": "none", "tasks": {"digits": [reward]}}}
    return small_config(world, out, steps=6, **prompts(world, max_bad_rows=share), **rewards, **changes)


def seen_after_the_first_step(out: Path) -> set[str]:
    return {r["row_id"] for r in rollouts(out) if r["step"] > 1}


def test_a_row_that_slips_through_is_left_out_named_and_counted(world, tmp_path, capfd):
    train(breaking(world, tmp_path / "run", 0.2))
    assert seen_after_the_first_step(tmp_path / "run") == {f"r{i}" for i in range(6)} - {BROKEN}
    assert metrics(tmp_path / "run")[-1]["rows/left_out"] == 1.0
    assert all(len([r for r in rollouts(tmp_path / "run") if r["step"] == s]) == 8 for s in range(1, 7))
    said = "".join(capfd.readouterr())
    assert f"left out: row '{BROKEN}': expected an image that decodes, got {world / '5.png'}" in said


def test_too_many_such_rows_stop_the_run(world, tmp_path):
    with pytest.raises(
        RowError, match=r"1 of 6 rows had to be left out.* prompts\.max_bad_rows = 0\.1; .*row 'r5'"
    ):
        train(breaking(world, tmp_path / "run", 0.1))


@pytest.mark.slow
def test_all_processes_leave_out_the_same_row(world, tmp_path):
    config = breaking(world, tmp_path / "run", 0.2)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json")))
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node",
        "2",
        "grpo.py",
    ]
    done = subprocess.run(
        [*command, "--config", str(tmp_path / "config.yaml")],
        cwd=REPOSITORY,
        env=os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "ACCELERATE_USE_CPU": "true"},
        capture_output=True,
        text=True,
        timeout=420,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert (done.stdout + done.stderr).count(f"left out: row '{BROKEN}'") == 1
    assert seen_after_the_first_step(tmp_path / "run") == {f"r{i}" for i in range(6)} - {BROKEN}
    assert metrics(tmp_path / "run")[-1]["rows/left_out"] == 1.0
