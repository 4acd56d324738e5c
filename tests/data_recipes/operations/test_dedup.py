"""Near-duplicates within a mixture, and rows too close to a benchmark, on real and made images and a real video."""

from __future__ import annotations

import itertools
import json
import random
import shutil
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw, ImageFont

from benchmarks.dedup_set import bases, copies
from data_recipes.operations import OPERATIONS, media_judge
from data_recipes.operations.dedup import DedupOptions
from data_recipes.operations.image_hashes import image_hash
from data_recipes.operations.image_likeness import likeness
from data_recipes.operations.media_hashes import is_alike
from data_recipes.records import Context, Decision, Options, Signature

Row = dict[str, Any]


def row(name: str, image: Path | None = None, question: str = "What is shown?", **columns: Any) -> Row:
    content: list[dict[str, str]] = [{"type": "text", "text": question}]
    return {
        "id": name,
        "task": "vqa",
        "prompt": [{"role": "user", "content": ([{"type": "image"}] if image else []) + content}],
        "images": [str(image)] if image else [],
        "videos": [],
        "answer": None,
        "trace": None,
        "source": {"dataset": "set"},
    } | columns


def decisions(name: str, rows: list[Row], folder: Path, **options: Any) -> tuple[list[Decision], Context]:
    operation = OPERATIONS[name]
    chosen: Options = operation.options(**options)
    signed = [
        Signature(
            r["id"], r["task"], r["source"]["dataset"], json.loads(json.dumps(operation.sign(r, chosen)))
        )
        for r in rows
    ]
    context = Context(folder)
    return list(operation.decide(lambda: iter(signed), chosen, context)), context


def kept(name: str, rows: list[Row], folder: Path, **options: Any) -> dict[str, str | None]:
    """The kept row by id of the one that leaves."""
    return {d.id: d.kept for d in decisions(name, rows, folder, **options)[0]}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> dict[str, Path]:
    """One base of each kind, its look-alike and a few of its copies, as files."""
    folder = tmp_path_factory.mktemp("pictures")
    files = {}
    for kind, image, lookalike in bases(6, seed=5):
        made = {"base": image, "look-alike": lookalike} | {
            what.split(",")[0].split(" to")[0]: copy for what, copy in copies(image, kind)
        }
        for what, picture in made.items():
            files[f"{kind} {what}"] = folder / f"{kind} {what}.png"
            picture.save(files[f"{kind} {what}"])
    return files


COPIES = ("jpeg", "0.3", "cropped 4%", "grey", "contrast x0.6 or x1.4")


KINDS = ("table", "chart", "scene", "photo", "page", "figure")


def test_copies_leave_and_look_alikes_stay(pictures, tmp_path):
    names = [name for name in pictures if name.split(" ", 1)[1] in ("base", "look-alike", *COPIES)]
    expected = {f"{kind} {what}": f"{kind} base" for kind in KINDS for what in COPIES}
    assert kept("dedup", [row(name, pictures[name]) for name in names], tmp_path) == expected


def test_a_copy_too_small_to_read_does_not_join_tables_with_other_numbers(pictures, tmp_path):
    """Whichever comes first, the small copy goes to the table that it was made of."""
    limits = DedupOptions().thresholds()
    base, small, other = (
        image_hash(Image.open(pictures[f"table {what}"])) for what in ("base", "0.3", "look-alike")
    )
    assert is_alike(likeness(small, base), limits) and is_alike(likeness(small, other), limits)
    assert not is_alike(likeness(base, other), limits)
    *rows, last = (row(what, pictures[f"table {what}"]) for what in ("base", "0.3", "look-alike", "jpeg"))
    for order in itertools.permutations(rows):
        found = kept("dedup", [*order, last], tmp_path)
        first = next(r["id"] for r in order if r["id"] != "look-alike")
        assert found == dict.fromkeys({"base", "0.3", "jpeg"} - {first}, first)


def test_one_image_may_have_many_questions(pictures, tmp_path):
    base, copy = pictures["photo base"], pictures["photo jpeg"]
    rows = [
        row("first", base, "How many birds sit on the long wire above the street?"),
        row("other question", base, "Which colour has the house behind the tree?"),
        row("same question", copy, "How many birds sit on the long wire above the street"),
        row(
            "other number",
            base,
            "On the long wire above the street sit three kinds of birds. Are there 3 white birds among them?",
        ),
        row(
            "other number too",
            base,
            "On the long wire above the street sit three kinds of birds. Are there 4 white birds among them?",
        ),
    ]
    assert kept("dedup", rows, tmp_path) == {"same question": "first"}
    assert set(kept("dedup", rows, tmp_path, numbers=False)) == {"same question", "other number too"}
    assert set(kept("dedup", rows, tmp_path, mode="media")) == {r["id"] for r in rows[1:]}
    rows.append(row("other image", pictures["chart base"], rows[0]["prompt"][0]["content"][1]["text"]))
    assert set(kept("dedup", rows, tmp_path, mode="text")) == {"same question", "other image"}
    assert "other image" not in kept("dedup", rows, tmp_path)


def test_the_answer_counts_where_asked(pictures, tmp_path):
    traces = ["Add the first two and subtract.", "Count all of them from the left side."]
    rows = [
        row(str(i), pictures["table base"], trace=[{"role": "assistant", "content": t}])
        for i, t in enumerate(traces)
    ]
    assert kept("dedup", rows, tmp_path) == {"1": "0"}
    assert kept("dedup", rows, tmp_path, text="question_and_answer") == {}


def test_rows_without_media_are_compared_by_text_with_each_other_alone(pictures, tmp_path):
    question = "A farmer has 12 cows and buys 5 more of them at the market. How many cows are there now?"
    rows = [
        row("a", None, question),
        row("b", pictures["photo base"], question),
        row("c", None, f"Question: {question.upper()}"),
        row("d", None, question.replace("5", "6")),
    ]
    for mode in ("both", "media"):
        assert kept("dedup", rows, tmp_path, mode=mode) == {"c": "a"}
    assert kept("dedup", rows, tmp_path, mode="text") == {"b": "a", "c": "a"}


def test_groups_do_not_depend_on_the_order_and_the_preferred_source_is_kept(pictures, tmp_path):
    rows = [row(n, pictures[f"scene {n}"]) for n in ("base", "jpeg", "grey", "cropped 4%")]
    rows[2]["source"] = {"dataset": "preferred"}
    rows.append(row("other", pictures["chart base"]))
    for order in itertools.islice(itertools.permutations(rows), 0, 120, 17):
        first = next(r["id"] for r in order if r["id"] != "other")
        found = kept("dedup", list(order), tmp_path)
        assert set(found) == {"base", "jpeg", "grey", "cropped 4%"} - {first}
        assert set(found.values()) == {first}
        preferred = kept("dedup", list(order), tmp_path, prefer=("preferred",))
        assert preferred == dict.fromkeys({"base", "jpeg", "cropped 4%"}, "grey")


def test_a_removal_says_its_rule_and_figures(pictures, tmp_path):
    rows = [
        row("a", pictures["photo base"]),
        row("b", pictures["photo base"]),
        row("c", pictures["photo jpeg"]),
    ]
    (same, near), context = decisions("dedup", rows, tmp_path)
    assert (same.rule, same.reason) == ("image_and_text_duplicate", "near-duplicate: the same")
    assert "of 256 bits differ, correlation" in near.reason and "texts alike (similarity 1.00)" in near.reason
    assert context.counts["removed"] == 2


def test_all_images_of_a_row_are_compared_in_order(pictures, tmp_path):
    one, two, copy = (str(pictures[f"photo {n}"]) for n in ("base", "look-alike", "jpeg"))
    content = [{"type": "image"}, {"type": "image"}, {"type": "text", "text": "Which is larger?"}]
    prompt = [{"role": "user", "content": content}]
    rows = [
        row(str(i), prompt=prompt, images=images)
        for i, images in enumerate([[one, two], [two, one], [copy, two], [one]])
    ]
    assert kept("dedup", rows, tmp_path) == {"2": "0"}


def drawn(path: Path, lines: list[str], size: int = 16) -> Path:
    """Lines of text in a frame, as a table or a window of settings is."""
    image = Image.new("RGB", (380, 24 * len(lines) + 20), "white")
    draw = ImageDraw.Draw(image)
    for i, line in enumerate(lines):
        draw.rectangle((6, 8 + 24 * i, 373, 32 + 24 * i), outline="#999999")
        draw.text((14, 11 + 24 * i), line, fill="black", font=ImageFont.load_default(size))
    image.save(path)
    return path


@pytest.mark.parametrize("mode", ["both", "media"])
def test_tables_of_which_only_the_numbers_differ_stay(tmp_path, mode):
    r = random.Random(0)
    names = ["apples", "pears", "plums", "figs", "dates"]
    rows = []
    for i in range(20):
        lines = [f"{name}   {r.randint(100, 999)}" for name in names]
        rows.append(row(f"table {i}", drawn(tmp_path / f"table{i}.png", lines), "How many apples are there?"))
        lines = [f"{name}   {'on' if r.random() < 0.5 else 'off'}" for name in names] + [f"volume {i}"]
        rows.append(row(f"window {i}", drawn(tmp_path / f"window{i}.png", lines), "Is pears on?"))
        jpeg = tmp_path / f"table{i}.jpg"
        Image.open(tmp_path / f"table{i}.png").save(jpeg, quality=60)
        rows.append(row(f"copy {i}", jpeg, "How many apples are there?"))
    expected = {f"copy {i}": f"table {i}" for i in range(20)}
    assert kept("dedup", rows, tmp_path / "work", mode=mode) == expected


def test_rows_with_other_true_answers_stay_unless_they_are_not_to_be_compared(pictures, tmp_path):
    base, copy = pictures["photo base"], pictures["photo jpeg"]
    rows = [
        row("a", base, answer={"value": "4,656"}),
        row("same value", copy, answer={"value": 4656}),
        row("other value", copy, answer={"value": "4,657"}),
        row("other case", copy, answer={"value": "4,656 "}),
        row("text a", None, "Which one is it?", answer={"value": "red"}),
        row("text b", None, "Which one is it?", answer={"value": "blue"}),
        row("text c", None, "Which one is it", answer={"value": "Red"}),
    ]
    expected = {"same value": "a", "other case": "a", "text c": "text a"}
    assert kept("dedup", rows, tmp_path) == expected
    all_of_them = kept("dedup", rows, tmp_path, answers=False)
    assert set(all_of_them) == {*expected, "other value", "text b"}


def test_decisions_do_not_depend_on_the_number_of_workers(pictures, tmp_path, monkeypatch):
    monkeypatch.setattr(media_judge, "FEW", 1)  # so that the processes are used
    rows = [row(name, path) for name, path in pictures.items()]
    operation = OPERATIONS["dedup"]
    chosen = operation.options(mode="media")
    signed = [
        Signature(r["id"], r["task"], "set", json.loads(json.dumps(operation.sign(r, chosen)))) for r in rows
    ]
    one, two = (
        list(operation.decide(lambda: iter(signed), chosen, Context(tmp_path / str(n), workers=n)))
        for n in (1, 2)
    )
    assert one == two and len(one) > 20


def test_real_tables_are_not_merged(shared_data, tmp_path):
    """TabMWP's tables look nearly alike; all of them differ."""
    rows = [row(path.name, path) for path in sorted((shared_data / "tabmwp").rglob("*.png"))]
    assert len(rows) > 100
    found, context = decisions("dedup", rows, tmp_path, mode="media")
    assert found == []
    assert context.counts["pairs_of_media"] > 20  # the perceptual hash alone would have taken some


def test_a_re_encoded_video_is_found(shared_data, tmp_path):
    import av

    (video,) = (shared_data / "tvg_videos").glob("*.mp4")
    small = tmp_path / "small.mp4"
    with av.open(str(video)) as source, av.open(str(small), "w") as target:
        stream = target.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = 192, 144, "yuv420p", 400_000
        length = float(source.streams.video[0].duration * source.streams.video[0].time_base)
        shown = 0
        for frame in source.decode(video=0):
            if frame.time < min(length, 40) and frame.time >= shown / 10:
                picture = frame.reformat(192, 144, "yuv420p")
                picture.pts, picture.time_base = shown, Fraction(1, 10)
                for packet in stream.encode(picture):
                    target.mux(packet)
                shown += 1
        for packet in stream.encode():
            target.mux(packet)
    prompt = [{"role": "user", "content": [{"type": "video"}, {"type": "text", "text": "What happens?"}]}]
    end = min(length, 40)
    rows = [
        row("whole", prompt=prompt, videos=[{"path": str(video), "start": 0, "end": end}]),
        row("copy", prompt=prompt, videos=[{"path": str(small), "end": end}]),
        row("other part", prompt=prompt, videos=[{"path": str(video), "start": end / 2, "end": end / 2 + 4}]),
    ]
    (decision,), _ = decisions("dedup", rows, tmp_path)
    assert (decision.id, decision.kept, decision.rule) == ("copy", "whole", "video_and_text_duplicate")


def test_a_file_that_does_not_open_is_an_error_with_the_row(tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match="row 'x': expected media that open"):
        decisions("dedup", [row("x", tmp_path / "broken.png")], tmp_path)


def test_a_mirrored_image_is_no_copy(pictures):
    image = Image.open(pictures["photo base"])
    flipped = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    assert likeness(image_hash(image), image_hash(flipped)).correlation < 0.5


# ----------------------------------------------------------------------------------------------------- decontaminate


@pytest.fixture(scope="module")
def mathv(shared_data, tmp_path_factory) -> list[Row]:
    """Rows for training whose images are copies of MATH-V's: every fifth of its rows, each copied in another way."""
    folder = tmp_path_factory.mktemp("training")
    lines = (shared_data / "mathv" / "test.jsonl").read_text(encoding="utf-8").splitlines()
    rows = []
    for i, problem in enumerate([json.loads(line) for line in lines][::5]):
        made = list(copies(Image.open(shared_data / "mathv" / problem["image"]).convert("RGB"), str(i)))
        made = [copy for what, copy in made if "hue" not in what and "brightness" not in what]
        made[i % len(made)].save(folder / f"{i}.png")
        rows.append(row(f"{i} of {problem['id']}", folder / f"{i}.png", "A question of its own."))
    return rows


def test_copies_of_a_benchmarks_images_leave_with_file_and_row_named(shared_data, mathv, pictures, tmp_path):
    """Crops too, which no hash of the benchmark's whole images finds from a smaller picture."""
    clean = [row(name, path) for name, path in pictures.items() if name.endswith("base")]
    benchmark = str(shared_data / "mathv" / "images")
    found, context = decisions("decontaminate", clean + mathv, tmp_path, benchmarks=[{"path": benchmark}])
    assert {d.id for d in found} >= {r["id"] for r in mathv[:-1]} and len(found) <= len(mathv)
    for decision in found:
        image = decision.id.split(" of ")[1]
        assert f"{benchmark}: row '{image}.jpg'" in decision.reason and decision.rule == "benchmark_image"
    assert context.counts[f"near {benchmark}"] == len(found)


def test_a_benchmark_is_hashed_once_for_each_content(pictures, tmp_path):
    benchmark = tmp_path / "benchmark"
    benchmark.mkdir()
    shutil.copy(pictures["photo base"], benchmark / "a.png")
    rows = [row("x", pictures["photo jpeg"]), row("y", pictures["scene base"])]
    options = {"benchmarks": [{"path": str(benchmark)}]}
    first, context = decisions("decontaminate", rows, tmp_path / "cache", **options)
    assert [d.id for d in first] == ["x"] and context.counts["benchmark_rows_hashed"] == 1
    again, context = decisions("decontaminate", rows, tmp_path / "cache", **options)
    assert again == first and context.counts["benchmark_rows_hashed"] == 0
    shutil.copy(pictures["scene base"], benchmark / "b.png")
    changed, context = decisions("decontaminate", rows, tmp_path / "cache", **options)
    assert [d.id for d in changed] == ["x", "y"] and context.counts["benchmark_rows_hashed"] == 2


def test_rows_of_a_benchmark_file_are_compared_by_text_and_by_both(pictures, tmp_path):
    question = "How many birds sit on the long wire above the street?"
    benchmark = tmp_path / "rows.jsonl"
    shutil.copy(pictures["photo base"], tmp_path / "a.png")
    rows = [
        row("bench-1", Path("a.png"), question),
        row("bench-2", None, "What is the capital city of France?"),
    ]
    benchmark.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    training = [
        row("same", pictures["photo jpeg"], question),
        row("same image", pictures["photo jpeg"], "Which colour has the tallest house?"),
        row("same text", pictures["chart base"], question),
        row("text", None, "what is the capital city of France"),
        row("clean", None, "Which river runs through the capital of Spain?"),
    ]
    options = {"benchmarks": [{"path": str(benchmark)}]}

    def gone(mode: str) -> list[str]:
        return list(kept("decontaminate", training, tmp_path / "cache", mode=mode, **options))

    assert gone("media") == ["same", "same image", "text"]
    assert gone("both") == ["same", "text"]
    assert gone("text") == ["same", "same text", "text"]


def test_a_public_benchmark_format_is_read_by_its_reader(shared_data, tmp_path):
    path = shared_data / "gsm8k" / "train.subset.jsonl"
    first = json.loads(path.open(encoding="utf-8").readline())["question"]
    training = [row("leaked", None, first.upper()), row("clean", None, "How many legs do nine spiders have?")]
    found, _ = decisions(
        "decontaminate", training, tmp_path, benchmarks=[{"path": str(path), "format": "gsm8k"}]
    )
    assert [(d.id, d.rule) for d in found] == [("leaked", "benchmark_text")]


@pytest.mark.parametrize(
    ("benchmark", "message"),
    [
        ({"path": "nowhere.jsonl"}, "expected an existing file or folder"),
        ({"path": ".", "format": "nothing"}, "expected a format of"),
    ],
)
def test_a_wrong_benchmark_is_an_error(benchmark, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        decisions("decontaminate", [row("a")], tmp_path, benchmarks=[benchmark])
