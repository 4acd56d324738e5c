"""Episodes of uneven turns, played continuously and in lock-step, and what a further turn costs.

    python -m benchmarks.episodes [--engine vllm] [--episodes 32 --turns 8] [--tool-seconds 0.1] [--repeats 3]

Continuous: an episode's next turn joins the running batch as soon as its observation is ready (`environments/episodes.py`).
Lock-step: all episodes finish a turn, then all tools answer, then all go on, as engines that are called once a turn play. Both
run the same engine with the same weights, seeds, environment and threads, and must sample the same tokens. They alternate;
medians are reported.

Cost: episodes of 2, 4, 8 and 16 turns with the same number of new tokens in each, an image among them. `tokens` counts what
goes through the language model, `patches` what goes through the vision tower, both per turn. `exponent` is that of the process's
CPU seconds as a power of the turns: 1 is linear. Beside it the same turns as prompts of their own, without what the engine has kept: 2 is
quadratic. The model is random and tiny. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from core.rows import Row
from engines.build import build_engine
from engines.config import EngineConfig, TransformersConfig, VLLMConfig
from engines.engine import Engine, FollowUp, OnRollout
from engines.rollout import Request, Rollout, Sampling
from environments.dialogue import as_message
from environments.episodes import Episodes
from environments.types import Done, Observation
from vlm.inputs import encode, encode_ids, extend, joined, reply_ids
from vlm.load import load_processor
from vlm.tiny import build_tiny_vlm

QUESTION = "How many red circles are there, and where is the blue square?"
SEED = 0


class Look:
    """Shows an image after every turn, as many as the row says, after a time of its own."""

    stop = tuple("aeiou5 ")  # turns of a random policy then have different lengths

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def reset(self, row: Row) -> dict[str, Any]:
        return {"turns": 0, "draws": random.Random(row["id"])}

    def respond(self, state: dict[str, Any], text: str) -> Observation | Done:
        state["turns"] += 1
        draws = state["draws"]
        if state["turns"] == 1:
            state["last"] = draws.randint(1, self.most)
        if state["turns"] >= state["last"]:
            return Done()
        time.sleep(2 * self._seconds * draws.random())
        return Observation(("Here it is:", picture(draws.randrange(2**32), 56), "Go on."))

    most = 8

    def close(self) -> None:
        pass


class LockStep:
    """An engine whose follow-ups all wait for the last rollout of their turn, and for its observation."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.config = engine.config

    def generate(
        self, requests: Sequence[Request], sampling: Sampling, on_rollout: OnRollout | None = None
    ) -> list[Rollout]:
        assert on_rollout is not None
        left = sum(request.n for request in requests)
        gates: dict[int, tuple[Future[Request | None], FollowUp]] = {}

        def answer(place: int, rollout: Rollout) -> FollowUp:
            nonlocal left, gates
            gate: Future[Request | None] = Future()
            gates[place] = gate, on_rollout(place, rollout)
            left -= 1
            if left == 0:
                ready = [(g, f.result() if isinstance(f, Future) else f) for g, f in gates.values()]
                left, gates = sum(request is not None for _, request in ready), {}
                for opened, request in ready:
                    opened.set_result(request)
            return gate

        return self._engine.generate(requests, sampling, answer)


def picture(seed: int, side: int) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 255, (side, side, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def requests(processor: Any, count: int) -> list[Request]:
    messages = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": QUESTION}]}]
    return [Request({"id": str(i)}, encode(processor, messages, [picture(i, 112)])) for i in range(count)]


def continuous_and_lock_step(engine: Engine, processor: Any, args: argparse.Namespace) -> dict[str, Any]:
    environment = Look(args.tool_seconds)
    environment.most = args.turns
    episodes = Episodes(environment, processor, threads=args.episodes)
    made, sampling = requests(processor, args.episodes), Sampling(max_tokens=args.tokens, seed=SEED)
    players: dict[str, Any] = {"continuous": engine, "lock-step": LockStep(engine)}
    seconds: dict[str, list[float]] = {name: [] for name in players}
    tokens: dict[str, list[tuple[int, ...]]] = {}
    turns: list[int] = []
    for repeat in range(args.repeats + 1):  # the first is a warm-up
        for name, player in players.items():
            began = time.perf_counter()
            rollouts = episodes.generate(player, made, sampling)
            if repeat:
                seconds[name].append(time.perf_counter() - began)
            tokens[name] = [rollout.completion_ids for rollout in rollouts]
            turns = [len(rollout.turns) for rollout in rollouts]
    episodes.close()
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    return {
        "seconds": medians,
        "ratio": medians["lock-step"] / medians["continuous"],
        "same_tokens": tokens["continuous"] == tokens["lock-step"],
        "turns": {str(n): turns.count(n) for n in sorted(set(turns))},
    }


def next_prompt(processor: Any, rollout: Rollout, turn: int, side: int) -> Request:
    """What follows a turn of any length: an image and a few words."""
    image = picture(1000 * int(rollout.row_id) + turn, side)
    ids = reply_ids(processor, as_message(("Here it is:", image, "Go on.")))
    reply = encode_ids(processor, ids, [image])
    return Request({"id": rollout.row_id}, joined(extend(rollout.prompt, rollout.completion_ids), reply))


def play_turns(engine: Engine, processor: Any, count: int, turns: int, args: argparse.Namespace) -> None:
    """Episodes of `turns` turns by follow-ups."""
    played = [1] * count

    def answer(place: int, rollout: Rollout) -> FollowUp:
        if played[place] == turns:
            return None
        played[place] += 1
        return next_prompt(processor, rollout, played[place], args.side)

    engine.generate(requests(processor, count), Sampling(max_tokens=args.tokens, seed=SEED), answer)


def play_prompts(
    engine: Engine,
    processor: Any,
    count: int,
    turns: int,
    args: argparse.Namespace,
    forget: Callable[[], None],
) -> None:
    """The same turns, each a call of its own on a prompt of which nothing is kept."""
    sampling = Sampling(max_tokens=args.tokens, seed=SEED)
    prompts = requests(processor, count)
    for turn in range(2, turns + 2):
        forget()
        rollouts = engine.generate(prompts, sampling)
        prompts = [next_prompt(processor, rollout, turn, args.side) for rollout in rollouts]


def cost_of_turns(engine: Engine, processor: Any, args: argparse.Namespace) -> dict[str, Any]:
    counts, count = [2, 4, 8, 16], args.cost_episodes
    counters, unhook = watched(engine)
    forget = partial(forget_all, engine)
    ways: dict[str, Callable[[int], None]] = {
        "follow_ups": lambda turns: play_turns(engine, processor, count, turns, args),
        "prompts": lambda turns: play_prompts(engine, processor, count, turns, args, forget),
    }
    result: dict[str, Any] = {}
    for name, play in ways.items():
        play(2)
        rows = []
        for turns in counts:
            forget()
            counters.update(tokens=0, patches=0)
            began = time.process_time()
            play(turns)
            rows.append({"turns": turns, "seconds": time.process_time() - began} | counters)
        per_turn = {
            key: [round(row[key] / row["turns"] / count, 4) for row in rows]
            for key in ("seconds", "tokens", "patches")
        }
        slope, _ = np.polyfit(np.log(counts), np.log([row["seconds"] for row in rows]), 1)
        growth, _ = np.polyfit(np.log(counts), np.log([row["tokens"] for row in rows]), 1)
        result[name] = {
            "turns": counts,
            "per_turn": per_turn,
            "exponent": slope,
            "exponent_of_tokens": growth,
        }
    unhook()
    return result


def forget_all(engine: Any) -> None:
    """Empty the caches that vLLM keeps between calls; the transformers engine keeps nothing."""
    if hasattr(engine, "_llm"):
        engine._llm.reset_prefix_cache()
        engine._llm.llm_engine.reset_mm_cache()
        engine._llm.llm_engine.reset_encoder_cache()


def watched(engine: Any) -> tuple[dict[str, int], Callable[[], None]]:
    """Counters of the tokens and patches that go through the model, and what takes them off again."""
    counters = {"tokens": 0, "patches": 0}
    vllm = hasattr(engine, "_llm")

    def watch(model: Any) -> list[Any]:
        tower = model.visual if vllm else model.model.visual
        layers = (model.language_model.model if vllm else model.model.language_model).layers

        def on_tokens(module: Any, args: Any, kwargs: Any) -> None:
            hidden = kwargs.get("hidden_states", args[-1] if len(args) < 2 else args[1])
            counters["tokens"] += hidden.shape[:-1].numel()

        def on_patches(module: Any, args: Any, kwargs: Any) -> None:
            counters["patches"] += len(args[0] if args else kwargs["x"])

        return [
            layers[0].register_forward_pre_hook(on_tokens, with_kwargs=True),
            tower.register_forward_pre_hook(on_patches, with_kwargs=True),
        ]

    hooks = engine._llm.apply_model(watch)[0] if vllm else watch(engine._model)
    return counters, lambda: [hook.remove() for hook in hooks] and None


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--engine", choices=["vllm", "transformers"], default="vllm")
    parser.add_argument("--episodes", type=int, default=32)
    parser.add_argument(
        "--turns", type=int, default=8, help="of the longest episode; even numbers of 1 to this"
    )
    parser.add_argument("--tokens", type=int, default=32, help="of the longest turn")
    parser.add_argument("--tool-seconds", type=float, default=0.1, help="mean time of a call")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument(
        "--side", type=int, default=112, help="of observed images in the measurement of cost, in pixels"
    )
    parser.add_argument("--cost-episodes", type=int, default=4)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = build_tiny_vlm(Path(folder), [QUESTION] * 20, hidden=args.hidden, layers=args.layers)
        processor = load_processor(model)
        config: EngineConfig = TransformersConfig(max_model_len=2048, images_per_prompt=24)
        if args.engine == "vllm":
            config = VLLMConfig(max_model_len=2048, images_per_prompt=24)
        engine = build_engine(config, model, processor, device="cpu")
        result: dict[str, Any] = {"engine": args.engine}
        result |= continuous_and_lock_step(engine, processor, args)
        print(
            f"{args.episodes} episodes, turns {result['turns']}, calls of {args.tool_seconds:g} s on average:"
            f" continuous {result['seconds']['continuous']:.2f} s, lock-step {result['seconds']['lock-step']:.2f} s:"
            f" ratio {result['ratio']:.2f}, the same tokens: {result['same_tokens']}"
        )
        result["cost"] = cost_of_turns(engine, processor, args)
        for name, cost in result["cost"].items():
            print(
                f"{name:<12} turns {cost['turns']}, per turn {cost['per_turn']}, exponent {cost['exponent']:.2f}"
            )
        print(json.dumps(result))
        engine.close()


if __name__ == "__main__":
    main()
