"""Kill runs at random moments, restart them, and compare them with runs that were not interrupted.

    python -m benchmarks.crash_campaign      # 32 killed and 8 stopped runs: SFT and GRPO, 1 and 2 processes, every phase
    python -m benchmarks.crash_campaign --kills 6 --stops 2 --processes 1          # what the tests run, for 1 process

Uses a tiny random model on a CPU in float32, the transformers engine and gloo. A kill is a SIGKILL (to all processes, or to
one, after which the other is ended as a launcher would) at a random moment of one phase at a random step. The same command
is repeated until the run is finished. A stop is a SIGTERM to one process at such a moment: all processes must exit with code
143 and leave a checkpoint of the last logged step. At the end, metrics (except times), rollouts and the final weights must
equal those of the uninterrupted run bit for bit. Exit code 1 if any differ.

Processes are forked from one that has imported everything, because importing takes longer than these runs.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import rl.loop
import rl.scoring
import sft.loading
import sft.loop
import sft.supervised.run
from core.files.jsonl import read
from core.files.run_folder import checkpoints
from data_recipes.synthetic.shapes.write import World, write_world
from rl.config import GRPOConfig
from sft.config import SFTConfig
from vlm.tiny import build_tiny_vlm

PLUGIN = """
def share_of_digits(completion, answer, **row):
    return sum(c.isdigit() for c in completion) / max(1, len(completion))
"""
PHASES: dict[str, dict[str, list[tuple[Any, str]]]] = {
    "grpo": {
        "generate": [(rl.loop, "generate")],
        "reward": [(rl.scoring.Scoring, "finish")],
        "update": [(rl.loop, "update")],
        "sync": [(rl.loop, "sync")],
        "log": [(rl.loop, "log")],
        "save": [(rl.loop, "save")],
        "resume": [(rl.loop, "begin"), (rl.loop, "start")],
        "finish": [(rl.loop, "finish")],
    },
    "sft": {
        "data": [(sft.loading.Steps, "__getitem__")],
        "loss": [(sft.loop, "summed_loss")],
        "update": [(sft.supervised.run, "apply_gradient")],
        "log": [(sft.loop, "log")],
        "save": [(sft.loop, "save")],
        "resume": [(sft.loop, "begin"), (sft.loop, "start")],
        "finish": [(sft.loop, "finish")],
    },
}
"""The functions of each phase, with the module or class where they are looked up."""
TIMING = ("seconds/", "tokens_per_second")


@dataclass
class Kill:
    """These ranks get the signal `delay` seconds into the `occurrence`-th execution (from 1) of a phase."""

    phase: str
    occurrence: int
    delay: float
    ranks: tuple[int, ...]
    signal: int = signal.SIGKILL


@dataclass
class Watch:
    """Counts and times the phases in one process, and kills the process as planned."""

    rank: int
    kill: Kill | None
    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def over(self, owner: Any, name: str, phase: str) -> None:
        watched = getattr(owner, name)

        def wrapper(*args: Any, **kwargs: Any) -> Any:
            began = time.perf_counter()
            plan = self.kill
            times = len(self.seconds[phase]) + 1
            if plan and (plan.phase, plan.occurrence) == (phase, times) and self.rank in plan.ranks:
                threading.Timer(plan.delay, os.kill, (os.getpid(), plan.signal)).start()
            try:
                return watched(*args, **kwargs)
            finally:
                self.seconds[phase].append(time.perf_counter() - began)

        setattr(owner, name, wrapper)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--kills",
        type=int,
        default=32,
        help="number of killed runs, distributed over kinds, processes and phases",
    )
    parser.add_argument(
        "--stops",
        type=int,
        default=8,
        help="number of runs that get SIGTERM, distributed over kinds and processes",
    )
    parser.add_argument("--kinds", nargs="+", default=["grpo", "sft"], choices=PHASES)
    parser.add_argument("--processes", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        campaign = Campaign(Path(name), random.Random(args.seed))
        return campaign.run(args.kills, args.stops, args.kinds, args.processes)


class Campaign:
    """Data, uninterrupted runs and killed runs, all in one folder."""

    def __init__(self, folder: Path, chance: random.Random):
        self.folder, self.chance = folder, chance
        (folder / "plugin.py").write_text(PLUGIN)
        # tqdm's lock is shared with forked processes: if one is killed while holding it, all later ones would block
        child = os.fork()
        if not child:
            write_world(folder / "data", World(sft_rows=40, rl_rows=16, test_rows=14), progress=False)
            corpus = (folder / "data/corpus.txt").read_text().split("\n")
            build_tiny_vlm(folder / "model", corpus, hidden=64, layers=1)
            os._exit(0)
        if os.waitpid(child, 0)[1]:
            raise SystemExit("creating the tiny model and its rows failed")

    def run(self, kills: int, stops: int, kinds: list[str], processes: list[int]) -> int:
        groups = [(kind, count) for kind in kinds for count in processes]
        unbroken = {group: self.unbroken(*group) for group in groups}
        turns = {group: [*PHASES[group[0]]] for group in groups}
        for phases in turns.values():
            self.chance.shuffle(phases)
        died = wrong = 0
        for number in range(kills + stops):
            kind, count = group = groups[number % len(groups)]
            phase = turns[group][number // len(groups) % len(turns[group])]
            out = self.folder / f"{kind}-{count}-{number}"
            if number < kills:
                deaths, said = self.killed(kind, count, phase, out, unbroken[group][1])
                died += deaths
            else:
                said = self.stopped(kind, count, out, unbroken[group][1])
            self.finished(kind, count, out)
            different = differences(unbroken[group][0], out)
            wrong += bool(different)
            print(f"{number + 1:3}  {kind:4} x{count}  {said}: {', '.join(different) or 'equal'}", flush=True)
        print(
            json.dumps({"runs": kills + stops, "kills": died, "stops": stops, "equal": kills + stops - wrong})
        )
        return 1 if wrong or died < kills else 0

    def unbroken(self, kind: str, count: int) -> tuple[Path, dict[str, list[float]]]:
        """An uninterrupted run, and the seconds of each execution of each phase."""
        out = self.folder / f"{kind}-{count}-unbroken"
        self.finished(kind, count, out)
        return out, json.loads((self.folder / f"{out.name}.seconds").read_text())

    def killed(
        self, kind: str, count: int, phase: str, out: Path, seconds: dict[str, list[float]]
    ) -> tuple[int, str]:
        """A killed run; for the phase of resuming it is killed a second time while it resumes."""
        deaths, said = 0, []
        for part in ("log", "resume") if phase == "resume" else (phase,):
            ranks = range(count) if self.chance.random() < 0.5 else [self.chance.randrange(count)]
            kill = self.plan(part, tuple(ranks), seconds[part])
            deaths += any(self.start(kind, count, out, kill))
            there = [p.name for p in checkpoints(out)]
            said.append(f"{told(kill, count)} -> {there[-1] if there else 'from the start'}")
        return deaths, "; ".join(said)

    def stopped(self, kind: str, count: int, out: Path, seconds: dict[str, list[float]]) -> str:
        """A run in which one process gets SIGTERM during training."""
        phase = self.chance.choice(["generate", "reward", "update"] if kind == "grpo" else ["data", "loss"])
        times = seconds[phase][: len(seconds[phase]) * 3 // 4]
        kill = self.plan(phase, (self.chance.randrange(count),), times, signal.SIGTERM)
        statuses = self.start(kind, count, out, kill)
        codes = [os.waitstatus_to_exitcode(status) for status in statuses]
        metrics = out / "metrics.jsonl"
        logged = [0, *(record["step"] for record in read(metrics))][-1] if metrics.exists() else 0
        saved = [p.name for p in checkpoints(out)][-1:]
        wanted = [f"checkpoint-{logged}"] if logged else []
        if codes != [128 + signal.SIGTERM] * count or saved != wanted:
            raise SystemExit(
                f"SIGTERM in {told(kill, count)}: exit codes {codes}, {saved}, {logged}\n{self.log(out)}"
            )
        return f"SIGTERM in {told(kill, count)} -> {saved[0] if saved else 'from the start'}"

    def plan(
        self, phase: str, ranks: tuple[int, ...], times: list[float], number: int = signal.SIGKILL
    ) -> Kill:
        delay = self.chance.uniform(0, statistics.median(times))
        return Kill(phase, self.chance.randint(1, len(times)), delay, ranks, number)

    def finished(self, kind: str, count: int, out: Path) -> None:
        if any(self.start(kind, count, out, None)):
            raise SystemExit(self.log(out))

    def log(self, out: Path) -> str:
        return (self.folder / f"{out.name}.log").read_text()[-3000:]

    def start(self, kind: str, count: int, out: Path, kill: Kill | None) -> list[int]:
        """Run the command once and return the processes' exit statuses."""
        port = free_port()
        children = [self.fork(kind, rank, count, port, out, kill) for rank in range(count)]
        statuses: dict[int, int] = {}
        while len(statuses) < count:
            pid, status = os.wait()
            statuses[pid] = status
            if os.waitstatus_to_exitcode(status) not in (0, 128 + signal.SIGTERM):
                for other in set(children) - set(statuses):  # as a launcher does
                    os.kill(other, signal.SIGKILL)
        return [statuses[child] for child in children]

    def fork(self, kind: str, rank: int, count: int, port: int, out: Path, kill: Kill | None) -> int:
        if child := os.fork():
            return child
        try:
            log = os.open(out.parent / f"{out.name}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(log, 1)
            os.dup2(log, 2)
            os.environ["ACCELERATE_USE_CPU"] = "true"
            if count > 1:
                places = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
                places |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
                os.environ.update({name: str(value) for name, value in places.items()})
            watch = Watch(rank, kill)
            for phase, functions in PHASES[kind].items():
                for owner, name in functions:
                    watch.over(owner, name, phase)
            self.train(kind, count, out)
            if not kill and not rank:
                (out.parent / f"{out.name}.seconds").write_text(json.dumps(watch.seconds))
            os._exit(0)
        except SystemExit as stop:
            os._exit(int(stop.code or 0))
        except BaseException:  # noqa: BLE001 any error: the parent reads it from the log
            import traceback

            traceback.print_exc()
            os._exit(1)

    def train(self, kind: str, count: int, out: Path) -> None:
        model, data = {"path": str(self.folder / "model")}, self.folder / "data"
        if kind == "sft":
            values: dict[str, Any] = {
                "model": model,
                "data": {"rows": str(data / "sft.jsonl")},
                "optimizer": {"learning_rate": 1e-3},
                "steps": 5,
                "rows_per_step": 4,
            }
            values |= {"save_every": 2, "keep_checkpoints": 2, "log_every": 1, "resume": "auto"}
            sft.loop.train(SFTConfig.model_validate(values | {"output_dir": str(out)}))
        else:
            reward = {"function": f"{self.folder / 'plugin.py'}:share_of_digits", "isolate": False}
            tasks = {row["task"]: [reward] for row in read(data / "rl.jsonl")}
            values = {
                "model": model,
                "prompts": {"rows": str(data / "rl.jsonl")},
                "rewards": {"grammar": "none", "tasks": tasks},
                "engine": {"kind": "transformers", "max_model_len": 256},
                "rollout": {"prompts_per_step": 4, "completions_per_prompt": 3, "max_tokens": 8},
                "optimizer": {"learning_rate": 1e-3},
                "sampling": {"easy_pool": 0.1},
                "advantage": "task_std",
                "steps": 5,
                "save_every": 2,
            }
            rl.loop.train(GRPOConfig.model_validate(values | {"output_dir": str(out)}))


def told(kill: Kill, count: int) -> str:
    who = "" if len(kill.ranks) == count else f" of process {kill.ranks[0]}"
    return f"{kill.phase} {kill.occurrence}{who}, {kill.delay * 1000:.1f} ms in"


def differences(unbroken: Path, killed: Path) -> list[str]:
    """Differences between the killed run and the uninterrupted one."""
    found = []
    one, other = ([untimed(r) for r in read(run / "metrics.jsonl")] for run in (unbroken, killed))
    if one != other:
        found.append("metrics differ")
    rollouts = [run / "rollouts.jsonl" for run in (unbroken, killed)]
    if rollouts[0].exists() and rollouts[0].read_bytes() != rollouts[1].read_bytes():
        found.append("rollouts differ")
    weights = "final/model.safetensors"
    if (unbroken / weights).read_bytes() != (killed / weights).read_bytes():
        found.append("weights differ")
    return found


def untimed(record: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if not name.startswith(TIMING)}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    sys.exit(main())
