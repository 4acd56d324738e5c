"""What was corrected, added or taken away after a run is read by the next one, whatever the run came to."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from core.rows import read_rows
from data_recipes.config import Recipe
from data_recipes.files import inputs
from data_recipes.runner import RecipeError, run_recipe
from tests.data_recipes.conftest import write_source

REPOSITORY = Path(__file__).parents[2]


class Made:
    """A recipe over one source that can be run again and again; `said` is what the last run told."""

    def __init__(self, source: Path, out: Path, kind: str = "rows", **fields):
        sources = [{"name": "made", "format": kind, "path": str(source), **fields.pop("of_source", {})}]
        self.fields = {"name": "t", "tasks": 3, "workers": 1, "sources": sources, "output_dir": str(out)}
        self.fields |= fields
        self.out, self.said = out, ""

    def run(self, **how) -> dict:
        lines: list[str] = []
        try:
            run_recipe(Recipe.model_validate(self.fields), say=lines.append, **how)
        finally:
            self.said = "\n".join(lines)
        return json.loads((self.out / "data_card.json").read_text())

    @property
    def was_made_already(self) -> bool:
        return "made by this recipe already" in self.said


def hide(source: Path, names: list[str]) -> Path:
    """Take images away from their folder, as if they were not unpacked yet."""
    hidden = source.parent / "not unpacked"
    hidden.mkdir(exist_ok=True)
    for name in names:
        (source.parent / name).rename(hidden / Path(name).name)
    return hidden


def unpack(source: Path, hidden: Path) -> None:
    for file in hidden.iterdir():
        file.rename(source.parent / "images" / file.name)


def images_of(source: Path) -> list[str]:
    return [json.loads(line)["images"][0] for line in source.read_text().splitlines()]


def test_images_unpacked_after_a_run_without_any_are_found(source, tmp_path):
    made = Made(source, tmp_path / "out")
    hidden = hide(source, images_of(source))
    for _ in range(2):
        with pytest.raises(RecipeError, match="no row is left"):
            made.run()
    unpack(source, hidden)
    assert made.run()["rows"] == 60
    assert "rows-0.png is new" in made.said
    made.run()
    assert made.was_made_already


def test_the_other_half_of_the_images_joins_a_finished_set(source, tmp_path):
    made = Made(source, tmp_path / "out")
    hidden = hide(source, images_of(source)[30:])
    assert made.run()["rows"] == 30
    unpack(source, hidden)
    card = made.run()
    assert card["rows"] == 60 and card["sources"][0]["rejected"] == 0
    assert "rows-30.png is new" in made.said and "and 10 more" in made.said


def test_strict_passes_once_the_images_are_there(source, tmp_path):
    made = Made(source, tmp_path / "out", strict=True)
    hidden = hide(source, images_of(source)[7:9])
    for _ in range(2):
        with pytest.raises(RecipeError, match="2 records rejected"):
            made.run()
    unpack(source, hidden)
    assert made.run()["rows"] == 60


@pytest.mark.parametrize("keep_time", [False, True])
def test_an_image_replaced_by_one_of_the_same_size_is_checked_again(source, tmp_path, keep_time):
    made = Made(source, tmp_path / "out")
    image = source.parent / images_of(source)[5]
    whole, times = image.read_bytes(), image.stat()
    image.write_bytes(b"\0" * len(whole))
    assert made.run()["rows"] == 59
    image.write_bytes(whole)
    if keep_time:
        os.utime(image, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert made.run()["rows"] == 60
    assert f"{image} has another content" in made.said


def test_new_times_alone_make_nothing_again(source, tmp_path):
    made = Made(source, tmp_path / "out")
    made.run()
    for file in (source, *(source.parent / name for name in images_of(source))):
        os.utime(file, (1, 1))
    made.run()
    assert made.was_made_already


def write_voc(folder: Path, numbers: range) -> None:
    """Annotations and images in the layout of VOC, one raccoon each."""
    (folder / "Annotations").mkdir(parents=True, exist_ok=True)
    (folder / "JPEGImages").mkdir(exist_ok=True)
    for i in numbers:
        Image.new("RGB", (60, 50), (i, 90, 30)).save(folder / "JPEGImages" / f"r{i}.jpg")
        (folder / "Annotations" / f"r{i}.xml").write_text(
            f"<annotation><filename>r{i}.jpg</filename><size><width>60</width><height>50</height></size><object>"
            "<name>raccoon</name><bndbox><xmin>3</xmin><ymin>4</ymin><xmax>30</xmax><ymax>40</ymax></bndbox></object>"
            "</annotation>"
        )


@pytest.mark.parametrize("path", ["voc", "voc/Annotations"])
def test_a_folder_that_grew_is_read_whole(tmp_path, path):
    made = Made(tmp_path / path, tmp_path / "out", "voc")
    write_voc(tmp_path / "voc", range(10))
    assert made.run()["rows"] == 10
    write_voc(tmp_path / "voc", range(10, 35))
    assert made.run()["rows"] == 35
    assert "source 'made'" in made.said and "and 24 more new" in made.said
    (tmp_path / "voc/Annotations/r7.xml").unlink()
    assert made.run()["rows"] == 34


def test_an_image_folder_that_a_reader_looked_for_in_vain_is_noticed(tmp_path):
    made = Made(tmp_path / "voc" / "Annotations", tmp_path / "out", "voc")
    write_voc(tmp_path / "voc", range(4))
    (tmp_path / "voc" / "JPEGImages").rename(tmp_path / "elsewhere")
    with pytest.raises(RecipeError, match="no row is left"):
        made.run()
    (tmp_path / "elsewhere").rename(tmp_path / "voc" / "JPEGImages")
    assert made.run()["rows"] == 4


def test_a_video_that_a_pattern_did_not_find_is_noticed(tmp_path, video):
    (tmp_path / "moments.json").write_text(
        json.dumps({"v_1": {"duration": 2.0, "timestamps": [[0.2, 1.0]], "sentences": ["A square moves."]}})
    )
    media = tmp_path / "videos"
    options = {"media": str(media), "video": "{id}.*"}
    made = Made(
        tmp_path / "moments.json", tmp_path / "out", "activitynet_captions", of_source={"options": options}
    )
    with pytest.raises(RecipeError, match="no row is left"):
        made.run()
    media.mkdir()
    shutil.copy(video, media / "v_1.mp4")
    assert made.run()["rows"] == 1


@pytest.fixture
def video(tmp_path):
    import av
    import numpy as np

    path = tmp_path / "clip.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width = stream.height = 64
        for i in range(20):
            frame = np.full((64, 64, 3), 10 * i, np.uint8)
            for packet in stream.encode(av.VideoFrame.from_ndarray(frame, "rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


def write_questions(path: Path, texts: list[str]) -> None:
    rows = [
        {"id": f"q{i}", "task": "math", "prompt": [{"role": "user", "content": t}], "answer": {"value": "4"}}
        for i, t in enumerate(texts)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


QUESTIONS = [
    f"How many {noun} stand in the yard of the old house on the hill, if {i} of them are away?"
    for i, noun in enumerate(["horses", "chairs", "trees", "carts", "dogs", "ladders"], 3)
]


def test_a_benchmark_that_grew_removes_what_it_has_now(tmp_path):
    write_questions(tmp_path / "rows.jsonl", QUESTIONS)
    write_questions(tmp_path / "benchmark.jsonl", QUESTIONS[:1])
    benchmarks = [{"path": str(tmp_path / "benchmark.jsonl")}]
    made = Made(
        tmp_path / "rows.jsonl", tmp_path / "out", operations=[{"decontaminate": {"benchmarks": benchmarks}}]
    )
    assert made.run()["rows"] == 5
    write_questions(tmp_path / "benchmark.jsonl", QUESTIONS[:3])
    assert made.run()["rows"] == 3
    assert "options of decontaminate" in made.said


def test_a_benchmark_whose_images_are_unpacked_later_removes_their_rows(source, tmp_path):
    benchmark = write_source(tmp_path / "benchmark" / "rows.jsonl", 4)
    hidden = hide(benchmark, images_of(benchmark)[1:])
    options = {"benchmarks": [{"path": str(benchmark)}]}
    made = Made(source, tmp_path / "out", operations=[{"decontaminate": options}])
    assert made.run()["rows"] == 59  # both files begin with the same random images
    unpack(benchmark, hidden)
    assert made.run()["rows"] == 56


def test_the_code_of_a_reward_is_part_of_what_was_made(source, tmp_path):
    plugin = tmp_path / "mine.py"
    plugin.write_text("def score(completion, answer, **row):\n    return 1.0\n")
    rewards = dict.fromkeys(("math", "counting", "grounding", "pointing"), f"{plugin}:score")
    made = Made(source, tmp_path / "out", validation={"rewards": rewards})
    assert made.run()["rows"] == 60
    plugin.write_text("# a remark\n" + plugin.read_text())
    made.run()
    assert not made.was_made_already and str(plugin) in made.said


def test_another_version_of_the_code_makes_the_rows_again(source, tmp_path, monkeypatch):
    made = Made(source, tmp_path / "out")
    made.run()
    monkeypatch.setattr(inputs, "code_version", lambda: "later")
    made.run()
    assert not made.was_made_already and "the code that makes rows" in made.said


def test_copied_media_or_shards_that_went_missing_are_made_again(source, tmp_path):
    out = tmp_path / "out"
    made = Made(source, out, output_dir=str(out), output={"media": "copy"})
    made.run()
    shutil.rmtree(out / "media")
    assert made.run()["rows"] == 60 and "is gone" in made.said
    shard = sorted(out.glob("rows-*.jsonl"))[0]
    shard.write_text(shard.read_text().splitlines()[0] + "\n")
    made.run()
    assert len(read_rows(out)) == 60


def test_fresh_starts_over(source, tmp_path):
    made = Made(source, tmp_path / "out")
    made.run()
    made.run(fresh=True)
    assert not made.was_made_already and "stage 0" in made.said
    with pytest.raises(RecipeError, match="one machine"):
        made.run(fresh=True, machine=(0, 2))


def test_a_source_that_changes_while_it_is_read_is_no_set(source, tmp_path, monkeypatch):
    made = Made(source, tmp_path / "out")
    from data_recipes import runner

    run_stage = runner.run_stage

    def and_append(*arguments):
        run_stage(*arguments)
        source.write_text(source.read_text() + "\n")

    monkeypatch.setattr(runner, "run_stage", and_append)
    with pytest.raises(RecipeError, match="changed while they were read"):
        made.run()


def command(file: Path) -> list[str]:
    return [sys.executable, "-m", "data_recipes", "run", str(file)]


@pytest.mark.slow
@pytest.mark.parametrize("what", ["shard", "images"])
def test_what_is_added_after_a_kill_is_read(tmp_path, what):
    for n in range(2):
        write_source(tmp_path / "data" / f"rows-{n}.jsonl", 300, seed=n)
        text = (tmp_path / "data" / f"rows-{n}.jsonl").read_text()
        (tmp_path / "data" / f"rows-{n}.jsonl").write_text(text.replace('"id": "r', f'"id": "{n}-r'))
    second, out = tmp_path / "data" / "rows-1.jsonl", tmp_path / "out"
    if what == "shard":
        later = second.rename(tmp_path / "later.jsonl")
    else:
        hidden = hide(second, images_of(second))
    file = tmp_path / "r.yaml"
    file.write_text(
        f"name: killed\ntasks: 12\nworkers: 1\noutput_dir: {out}\n"
        f"sources: [{{name: made, format: rows, path: {tmp_path / 'data'}}}]\n"
    )
    process = subprocess.Popen(
        command(file), cwd=REPOSITORY, start_new_session=True, stdout=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 120
    while len(list(out.glob(".work/*/log/stage0/completions/*"))) < 3:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.002)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if what == "shard":
        later.rename(second)
    else:
        unpack(second, hidden)
    done = subprocess.run(command(file), cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(read_rows(out)) == 600
    assert ("rows-1.jsonl new" if what == "shard" else ".png is new") in done.stdout
