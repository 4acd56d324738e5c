"""The run report: one self-contained HTML file about a run.

    python -m evaluation.report runs/demo

reads the files of a run folder (listed in `evaluation.page.run_folder`; most are optional) and writes `report.html` to
it: a summary, results by task before and after training, by data set and by turn, training curves, episodes turn by turn with
maps of attention, and a gallery of answers drawn on their images and videos. Text written by a model is escaped, and a content security policy allows only the page's own script.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path

import jinja2
from markupsafe import Markup

from evaluation.page.chains import chain_view
from evaluation.page.compute import benchmarks_part, pass_at_k_part, search_part
from evaluation.page.curves import budget_charts, rl_charts, sft_charts
from evaluation.page.gallery import group_view
from evaluation.page.pictures import MediaStore
from evaluation.page.results import data_card, evaluation_from_summary, results_table
from evaluation.page.run_folder import (
    pick_chains,
    pick_held_out_groups,
    pick_training_groups,
    read_run_folder,
)
from evaluation.page.values import LABELS, heading
from evaluation.page.words import gallery_about, gap_sentence, headline, tiles
from evaluation.tables import further_tables, task_names

TEMPLATES = Path(__file__).parent / "templates"
MEDIA_BUDGET = 3_000_000  # bytes of images in the page, before base64; keeps the page below 6 MB
NOT_TASKS = {"mean", "std", "min", "max", "total", "overall"}  # names in `reward/<name>` that are not tasks


def write_report(run_dir: str | Path) -> Path:
    """Write `report.html` for the folder of a finished or running run, and return its path.

    Raises:
        RunFolderError: The folder has none of the main files, or one is invalid (the message names file and line).
    """
    run = read_run_folder(run_dir)
    evaluation = run.evaluation or evaluation_from_summary(run.summary)
    names = list(evaluation.get("checkpoints", {}))
    labels = {name: heading(name) for name in names}
    steps_tasks = sorted(
        {key[7:] for record in run.metrics for key in record if key.startswith("reward/")} - NOT_TASKS
    )
    tasks = sorted({*steps_tasks, *(task_names(evaluation) if evaluation else ())})

    media = MediaStore(MEDIA_BUDGET)
    held_out, answers = pick_held_out_groups(run)
    training, rollouts = pick_training_groups(run)
    groups = [*held_out, *training]
    chains = [chain_view(chain, media, labels) for chain in pick_chains(run)]
    views = [group_view(group, media, labels) for group in groups]
    css, script = ((TEMPLATES / f"report.{kind}").read_text(encoding="utf-8") for kind in ("css", "js"))
    page = _environment().get_template("report.html.jinja").render(
        name=run.path.resolve().name,
        headline=headline(run, evaluation),
        tiles=tiles(run, evaluation, labels),
        notes=run.notes,
        results=results_table(evaluation, labels, "greedy") if evaluation else None,
        sampled=results_table(evaluation, labels, "sampled") if any(c.get("sampled") for c in evaluation.get("checkpoints", {}).values()) else None,
        rl_charts=rl_charts(run, steps_tasks, tasks),
        benchmarks=benchmarks_part(evaluation),
        pass_at_k=pass_at_k_part(run.pass_at_k, labels),
        search=search_part(run.inference),
        gap_sentence=gap_sentence(run),
        sft_charts=sft_charts(run),
        tables=further_tables(evaluation),
        budget_charts=budget_charts(evaluation, labels),
        chains=chains,
        groups=views,
        card_count=sum(len(view["members"]) for view in views),
        gallery_about=gallery_about(groups, answers, rollouts),
        kinds=sorted({group.kind for group in groups}),
        tasks=sorted({group.task for group in groups}),
        whens=[{"value": name, "label": f"held-out, {LABELS.get(name, name)}"} for name in names if held_out]
        + [{"value": str(step), "label": f"training step {step}"} for step in sorted({g.step for g in training if g.step is not None})],
        card=data_card(run.data_card),
        files=[file.name for file in run.files.values()],
        definitions=media.definitions,
        css=Markup(css),
        script=Markup(script),
        script_hash="sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )  # fmt: skip
    target = run.path / "report.html"
    target.write_text(page, encoding="utf-8")
    return target


def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Command line: `python -m evaluation.report RUN_DIR`."""
    parser = argparse.ArgumentParser(
        prog="python -m evaluation.report", description="Write report.html for a run folder."
    )
    parser.add_argument(
        "run_dir", type=Path, help="folder with summary.json, metrics.jsonl, rollouts.jsonl, eval.json, …"
    )
    print(write_report(parser.parse_args(argv).run_dir))


if __name__ == "__main__":
    main()
