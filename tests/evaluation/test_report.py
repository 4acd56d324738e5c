"""The report from the reader's files: what it needs, what it refuses, what it picks and draws."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
from pathlib import Path

import pytest

from evaluation.page.charts import Series, area_chart, line_chart
from evaluation.page.marks import answer_text, gold_marks, model_marks
from evaluation.page.pictures import Marks, MediaStore
from evaluation.page.run_folder import (
    RunFolderError,
    pick_held_out_groups,
    pick_training_groups,
    read_run_folder,
)
from evaluation.page.values import GAP_LIMITS
from evaluation.report import main, write_report
from rl.checks import GapLimits
from tests.evaluation.mini_run import GOLD_BOX, STEPS, TASKS, make_run_folder


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory) -> Path:
    return make_run_folder(tmp_path_factory.mktemp("report") / "mini")


@pytest.fixture
def copy(run_folder, tmp_path) -> Path:
    return Path(shutil.copytree(run_folder, tmp_path / "copy"))


def test_one_small_file_that_refers_to_nothing_outside(copy, capsys):
    main([str(copy)])
    target = copy / "report.html"
    assert capsys.readouterr().out.strip() == str(target)
    page = target.read_text()
    assert len(page) < 6_000_000
    assert not re.search(r"(?:src|href)=\"(?!data:|#)", page) and "url(" not in page and "@import" not in page
    script = page.split("<script>")[1].split("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src &#39;sha256-{digest}&#39;" in page or f"script-src 'sha256-{digest}'" in page


def test_writing_twice_gives_the_same_page(copy):
    assert write_report(copy).read_bytes() == write_report(copy).read_bytes()


def test_each_medium_is_embedded_once(copy):
    page = write_report(copy).read_text()
    assert page.count("data:image/") == 4  # three images and a frame strip, in hundreds of figures
    assert page.count("<use ") > 100


def test_a_running_or_partial_run_has_a_report_too(copy):
    for name in ("summary.json", "eval.json", "eval_rollouts.jsonl", "data_card.json"):
        (copy / name).unlink()
    with (copy / "rollouts.jsonl").open("a") as file:
        file.write('{"step": 30, "task": "ma')  # a line being written
    page = write_report(copy).read_text()
    assert f"{STEPS} steps so far" in page and "is cut off and was left out" in page
    for name in ("rollouts.jsonl", "metrics.jsonl"):
        (copy / name).unlink()
    with pytest.raises(RunFolderError, match=r"expected summary.json, metrics.jsonl or eval.json"):
        write_report(copy)


def test_summary_alone_gives_the_table(copy):
    for path in copy.iterdir():
        if path.name != "summary.json":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    page = write_report(copy).read_text()
    assert "Before and after" in page and "After RL" in page and "grounding" in page


def test_a_broken_line_is_named(copy):
    lines = (copy / "metrics.jsonl").read_text().splitlines()
    lines[4] = '{"step": 4, '
    (copy / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    with pytest.raises(RunFolderError, match=r"metrics.jsonl:5: expected a JSON object"):
        write_report(copy)


def test_a_missing_image_is_said_and_the_rest_is_shown(copy):
    (copy / "media/1.png").unlink()
    page = write_report(copy).read_text()
    assert "image not found" in page and page.count("data:image/") == 3


def test_media_stop_at_their_budget_and_say_so(run_folder):
    media = MediaStore(budget=10)
    assert media.image(str(run_folder / "media/0.png")) == "not embedded: the page's media budget is used up"
    assert media.definitions == []


def test_gap_above_its_limit_is_a_warning(copy):
    page = write_report(copy).read_text()
    assert "stayed below both limits" in page
    lines = [json.loads(line) for line in (copy / "metrics.jsonl").read_text().splitlines()]
    lines[3]["logprob_gap/mean"] = 0.02
    lines[4]["logprob_gap/max"] = None  # NaN in the log
    (copy / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    page = write_report(copy).read_text()
    assert f"above a limit (or not a number) 2 times in {STEPS} steps" in page
    assert GapLimits(**GAP_LIMITS) == GapLimits()


def test_a_distilled_run_of_several_tasks_shows_its_distance_and_how_the_tasks_agree(copy):
    plain = write_report(copy).read_text()
    assert "Reverse KL to the teacher" not in plain and "Agreement of the tasks" not in plain
    lines = [json.loads(line) for line in (copy / "metrics.jsonl").read_text().splitlines()]
    for step, line in enumerate(lines):
        line |= {f"reverse_kl/{task}": 0.5 / (step + 1) for task in TASKS}
        if step % 10 == 0:  # measured on a schedule
            line |= {
                "interference/cosine/grounding~math/all": -0.25,
                "interference/cosine/grounding~math/vision": 0.5,
            }
    (copy / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    page = write_report(copy).read_text()
    kl = page[page.index("Reverse KL to the teacher") :].split("</figure>")[0]
    assert all(task in kl for task in TASKS) and "in nats" in kl
    agreement = page[page.index("Agreement of the tasks") :].split("</figure>")[0]
    assert "grounding~math" in agreement and "vision" not in agreement
    assert agreement.count("<circle") == 3  # one for each step that measured


def test_training_prompts_are_picked_by_order_not_by_reward(run_folder):
    groups, total = pick_training_groups(read_run_folder(run_folder), moments=3, prompts=2, members=3)
    assert total == STEPS * len(TASKS) * 3 * 4
    assert [(g.task, g.step) for g in groups] == [
        (t, s) for t in TASKS for s in (0, 14, STEPS - 1) for _ in (0, 1)
    ]
    assert all(len(g.members) == 3 and g.left_out == 1 for g in groups)
    for group in groups:
        rewards = [one["reward"] for one in group.members]
        assert rewards == sorted(rewards)


def test_held_out_rows_show_gains_and_losses_under_every_checkpoint(run_folder):
    groups, _ = pick_held_out_groups(read_run_folder(run_folder))
    for group in groups:
        assert [one["checkpoint"] for one in group.members] == ["untrained", "sft", "rl"]
    math = [g.why for g in groups if g.task == "math"]
    assert sum("largest gain" in why for why in math) == 1 and sum("at random" in why for why in math) == 2
    assert any("largest loss" in g.why for g in groups)


def test_marks_are_read_as_the_rewards_read_them():
    box = {"task": "grounding", "answer": {"boxes": [GOLD_BOX], "frame": "pixel"}}
    assert gold_marks(box) == Marks(boxes=(tuple(GOLD_BOX),))
    assert model_marks(box, '```json\n[{"bbox_2d": [1, 2, 30, 40]}]\n```') == Marks(boxes=((1, 2, 30, 40),))
    assert model_marks(box, "[30, 40, 1, 2]") == Marks()  # inverted: no valid box
    assert model_marks(box, None) == Marks()
    point = {"task": "pointing", "answer": {"box": GOLD_BOX}}
    assert model_marks(point, "click(3, 4)") == Marks(points=((3, 4),))
    span = {"task": "temporal", "answer": {"spans": [[1, 2.5]]}}
    assert (gold_marks(span), model_marks(span, "from 00:01 to 00:03")) == (
        Marks(spans=((1, 2.5),)),
        Marks(spans=((1, 3),)),
    )
    assert not model_marks({"task": "math", "answer": {"value": "4"}}, "[1, 2, 3, 4]")


def test_marks_in_other_frames_are_converted_to_pixels():
    record = {"task": "grounding", "frame_out": "norm1000", "image_size": [200, 100], "answer": {"boxes": [[0.5, 0.5, 1, 1]], "frame": "norm1"}}  # fmt: skip
    assert gold_marks(record).boxes == ((100, 50, 200, 100),)
    assert model_marks(record, "[250, 500, 750, 1000]").boxes == ((50, 50, 150, 100),)


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ({"value": "4,656"}, "4,656"),
        ({"letter": "B", "options": ["red", "blue"]}, "B (blue)"),
        ({"boxes": [[1, 2, 3, 4]], "frame": "pixel"}, "box [1, 2, 3, 4]"),
        ({"box": [0.1, 0.2, 0.3, 0.4], "frame": "norm1"}, "box [0.1, 0.2, 0.3, 0.4] (norm1)"),
        ({"spans": [[2.0, 4.5], [6, 7]]}, "spans [2, 4.5], [6, 7] s"),
        (None, "none given"),
    ],
)
def test_answers_in_words(answer, text):
    assert answer_text(answer) == text


def test_charts_put_values_where_the_axis_says():
    chart = line_chart("t", "n", [0, 10], [Series("a", (0.0, 1.0), 0)], span=(0, 1))
    (path,) = re.findall(r'class="mean" d="([^"]+)"', chart)
    assert path == "M46 204L410 10"  # bottom left to top right of the plot
    log = line_chart(
        "t",
        "n",
        [0, 1, 2],
        [Series("a", (1e-6, None, 1e-2), 0)],
        log=True,
        limits=[("limit", 1e-4)],
        smooth=False,
    )
    y = [float(v) for v in re.findall(r'class="limit"><line [^>]*y1="([\d.]+)"', log)]
    assert y == [pytest.approx((10 + 204) / 2)]  # 1e-4 lies halfway between 1e-6 and 1e-2
    assert line_chart("t", "n", [1], [Series("a", (None,), 0)]) == ""
    area = area_chart("t", "n", [0, 1], [Series("a", (1.0, 1.0), 0), Series("b", (1.0, 3.0), 1)])
    assert re.findall(r'class="area" d="([^"]+)"', area)[1] == "M46 107L410 10L410 155.5L46 155.5Z"


def test_long_runs_are_binned():
    chart = line_chart(
        "t", "n", list(range(5000)), [Series("a", tuple(float(i % 7) for i in range(5000)), 0)]
    )
    assert len(chart) < 40_000
