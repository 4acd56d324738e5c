"""The four training stages in order, each from the last one's checkpoint, and their losses by stage and kind of data.

    python -m launch.stages --model runs/assembled --out runs/stages                8 GPUs, launch/configs/stage*.yaml
    python -m launch.stages --tiny --out runs/tiny_stages                           a laptop: a tiny model on drawn shapes

The same command goes on where a stopped one was: finished stages are left as they are, the one that was running goes on
from its newest checkpoint. OUT gets a run folder for each stage, `stages.json` with the held-out losses, and `stages.html`
with their curves. `stage2.optimizer.learning_rate=1e-5` after the options changes a setting of one stage, `seed=1` of all.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jinja2 import Template
from markupsafe import Markup

from core.files.jsonl import read
from evaluation.page.charts import Series, line_chart

ROOT = Path(__file__).parents[1]
CONFIGS = Path(__file__).parent / "configs"
NAMES = ("stage1_projector", "stage2_alignment", "stage3_multimodal", "stage4_long_context")
EIGHT_GPUS = f"bash {shlex.quote(str(ROOT / 'launch/pretrain_8xh100.sh'))}"
ONE_PROCESS = shlex.join([sys.executable, str(ROOT / "pretrain.py")])
COLOURS = 8

TINY_TOKENS = {
    "stage1_projector": {"captions": 60_000},
    "stage2_alignment": {"captions": 60_000, "interleaved": 90_000},
    "stage3_multimodal": {"captions": 60_000, "interleaved": 120_000, "text": 60_000, "instruction": 120_000},
    "stage4_long_context": {"interleaved": 60_000, "text": 30_000, "instruction": 60_000, "long": 90_000},
}
"""Of each stage of the tiny form, by kind of data (data_recipes/synthetic/shapes/stages.py)."""
TINY_SETTINGS = (
    *("model.dtype=float32", "model.gradient_checkpointing=false", "model.min_pixels=null", "model.max_pixels=null"),
    *("model.video_min_pixels=null", "model.video_max_pixels=null", "autocast=none", "data.media=[image]"),
    *("data.workers=0", "data.shuffle_rows=256", "data.eval_limit=32", "data.max_bad_rows=0", "log_every=5"),
    *("optimizer.learning_rate=3e-3", "optimizer.warmup_steps=5", "eval_every=20", "save_every=20"),
)  # fmt: skip
"""High learning rates: the tiny model is trained from random weights."""
TINY_WINDOW = dict.fromkeys(NAMES[:3], 512) | {NAMES[3]: 2048}


@dataclass(frozen=True)
class Stage:
    """config: its YAML file. settings: changes of it, as `dotted.key=value`. output: its run folder."""

    name: str
    config: Path
    output: Path
    settings: tuple[str, ...] = ()

    def arguments(self, model: Path | str) -> list[str]:
        """Of pretrain.py, to train from `model`; later settings win."""
        own = (f"model.path={model}", f"output_dir={self.output}")
        return [f"--config={self.config}", *self.settings, *own]

    @property
    def result(self) -> Path:
        return self.output / "final"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--out", type=Path, default=Path("runs/stages"), help="folder of all run folders")
    parser.add_argument("--model", help="checkpoint that stage 1 starts from; default: its config's")
    parser.add_argument(
        "--tiny", action="store_true", help="a tiny model on drawn shapes, in minutes on two cores"
    )
    parser.add_argument(
        "--compare",
        action="store_true",
        help="also train on all stages' tokens in one stage of as many steps",
    )
    parser.add_argument(
        "--launch", help="command that starts pretrain.py; default: the script for 8 GPUs, or one process"
    )
    parser.add_argument("settings", nargs="*", metavar="[stageN.]key=value")
    args = parser.parse_args()
    command = shlex.split(args.launch or (ONE_PROCESS if args.tiny else EIGHT_GPUS))
    out = args.out.expanduser().resolve()
    model, stages = (tiny if args.tiny else large)(out, args.model)
    stages = [changed(stage, number, args.settings) for number, stage in enumerate(stages, 1)]

    def start(arguments: Sequence[str]) -> None:
        run([*command, *arguments])

    run_stages(stages, model, start)
    if args.compare:
        one = in_one_stage(stages, out / "one_stage")
        run_stages([one], model, start)
        stages = [*stages, one]
    print(report(out, stages))


def large(out: Path, model: str | None) -> tuple[str, list[Stage]]:
    """The model that stage 1 starts from, and the four stages as their configs have them."""
    stages = [Stage(name, CONFIGS / f"{name}.yaml", out / name) for name in NAMES]
    return model or str(config_of(stages[0])["model"]["path"]), stages


def tiny(
    out: Path,
    model: str | None,
    *,
    rows: int = 1500,
    held_out: int = 32,
    tokens: Mapping[str, Mapping[str, int]] = TINY_TOKENS,
) -> tuple[str, list[Stage]]:
    """The same in a size for two cores; data and model are made where they are not there."""
    data, untrained = out / "data", out / "untrained"
    python = [sys.executable, "-m"]
    if not (data / "corpus.txt").is_file():
        run(
            [
                *python,
                "data_recipes.synthetic.shapes.stages",
                str(data),
                f"--rows={rows}",
                f"--held-out={held_out}",
            ]
        )
    if model is None and not (untrained / "config.json").is_file():
        run([*python, "vlm.tiny", str(untrained), f"--corpus={data / 'corpus.txt'}"])
    stages = []
    for name in NAMES:
        sources = {
            kind: {
                "rows": f"{data / kind}.jsonl",
                "tokens": n,
                "eval_rows": f"{data / f'held_out_{kind}'}.jsonl",
            }
            for kind, n in tokens[name].items()
        }
        window = TINY_WINDOW[name]
        sizes = (
            f"data.window={window}",
            f"data.tokens_per_step={4 * window}",
            f"data.sources={json.dumps(sources)}",
        )
        stages.append(Stage(name, CONFIGS / f"{name}.yaml", out / name, (*TINY_SETTINGS, *sizes)))
    return model or str(untrained), stages


def changed(stage: Stage, number: int, settings: Sequence[str]) -> Stage:
    """The stage with the settings of the command line: those of all stages, and its own."""
    own = []
    for text in settings:
        match = re.fullmatch(r"stage(\d+)\.(.*)", text, re.S)
        if match is None or int(match.group(1)) == number:
            own.append(text if match is None else match.group(2))
    return Stage(stage.name, stage.config, stage.output, (*stage.settings, *own))


def in_one_stage(stages: Sequence[Stage], output: Path) -> Stage:
    """All tokens of all stages at once, in as many steps, with the other settings of the last stage."""
    sources: dict[str, dict[str, Any]] = {}
    steps = 0
    for stage in stages:
        data = config_of(stage)["data"]
        steps += math.ceil(
            sum(source["tokens"] for source in data["sources"].values()) / data["tokens_per_step"]
        )
        for kind, source in data["sources"].items():
            before = sources.get(kind, {"tokens": 0})["tokens"]
            sources[kind] = source | {"tokens": before + source["tokens"]}
    tokens = sum(source["tokens"] for source in sources.values())
    own = (f"data.sources={json.dumps(sources)}", f"data.tokens_per_step={math.ceil(tokens / steps)}")
    return Stage(output.name, stages[-1].config, output, (*stages[-1].settings, *own))


def config_of(stage: Stage) -> dict[str, Any]:
    """The stage's config, resolved."""
    from core.config import read_config
    from pretraining.config import PretrainConfig

    own = [f"output_dir={stage.output}"]
    return read_config(PretrainConfig, stage.config, [*stage.settings, *own]).model_dump(mode="json")


def run_stages(stages: Sequence[Stage], model: str, start: Callable[[Sequence[str]], Any]) -> None:
    """Each stage from the result of the one before. start: runs pretrain.py with its arguments to the end."""
    for number, stage in enumerate(stages, 1):
        print(f"\n=== {number}/{len(stages)}  {stage.name}, from {model}", flush=True)
        start(stage.arguments(model))
        if not stage.result.is_dir():
            raise SystemExit(f"{stage.result}: expected the stage's result, got nothing")
        model = str(stage.result)


def run(command: Sequence[str]) -> None:
    """Run a command and show its output; end if it fails."""
    print("$ " + shlex.join(command), flush=True)
    status = subprocess.run(command, cwd=ROOT).returncode
    if status:
        raise SystemExit(
            f"{command[0]} ended with exit code {status}; its message is above. The same command goes on from there"
        )


# -------------------------------------------------------------------------------------------------------------- report


@dataclass
class Curve:
    """Held-out losses of a stage. steps: of the evaluations. losses: by kind of data, one for each."""

    name: str
    steps: list[float] = field(default_factory=list)
    losses: dict[str, list[float | None]] = field(default_factory=dict)


def curves(stages: Sequence[Stage]) -> list[Curve]:
    """From the stages' metrics.jsonl."""
    found = []
    for stage in stages:
        records = [r for r in read(stage.output / "metrics.jsonl") if "eval_loss" in r]
        kinds = sorted(
            {key.removeprefix("eval_loss/") for r in records for key in r if key.startswith("eval_loss/")}
        )
        losses = {kind: [r.get(f"eval_loss/{kind}") for r in records] for kind in kinds}
        found.append(Curve(stage.name, [float(r["step"]) for r in records], losses))
    return found


def report(out: Path, stages: Sequence[Stage]) -> str:
    """Write stages.json and stages.html; returns the table of held-out losses at the end of each stage."""
    all_curves = curves(stages)
    kinds = list(dict.fromkeys(kind for curve in all_curves for kind in curve.losses))
    last = {c.name: {kind: losses[-1] for kind, losses in c.losses.items()} for c in all_curves}
    (out / "stages.json").write_text(json.dumps(last, indent=1) + "\n")
    charts = [chart(curve, kinds) for curve in all_curves]
    css = (ROOT / "evaluation/templates/report.css").read_text(encoding="utf-8")
    page = Template(PAGE, autoescape=True).render(css=Markup(css), charts=charts, last=last, kinds=kinds)
    (out / "stages.html").write_text(page, encoding="utf-8")
    width = max(map(len, last))
    lines = [f"{'held-out loss':{width}}  " + "  ".join(f"{kind:>14}" for kind in kinds)]
    for name, losses in last.items():
        shown = (f"{losses[kind]:14.4f}" if kind in losses else f"{'-':>14}" for kind in kinds)
        lines.append(f"{name:{width}}  " + "  ".join(shown))
    return "\n".join(["", *lines, f"\nOpen {out / 'stages.html'} in a browser."])


def chart(curve: Curve, kinds: Sequence[str]) -> Markup:
    """A stage's curves; a kind of data has the same colour in all of them."""
    series = [
        Series(kind, tuple(losses), kinds.index(kind) % COLOURS) for kind, losses in curve.losses.items()
    ]
    return line_chart(
        curve.name, "Cross-entropy on held-out rows, nats a token.", curve.steps, series, smooth=False
    )


PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Training stages</title><style>{{ css }}</style></head>
<body><main><h1>Held-out loss by stage and kind of data</h1>
<div class="charts">{% for chart in charts %}{{ chart }}{% endfor %}</div>
<table><thead><tr><th>at the end of</th>{% for kind in kinds %}<th>{{ kind }}</th>{% endfor %}</tr></thead>
<tbody>{% for name, losses in last.items() %}<tr><td>{{ name }}</td>
{%- for kind in kinds %}<td>{{ "%.4f"|format(losses[kind]) if kind in losses else "–" }}</td>{% endfor %}</tr>
{% endfor %}</tbody></table></main></body></html>
"""


if __name__ == "__main__":
    main()
