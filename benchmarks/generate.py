"""Rollouts per second of vLLM and the transformers engine, in one process, with the same weights, prompts and lengths.

    python benchmarks/generate.py [--hidden 128 --layers 4] [--prompts 32 --completions 8 --tokens 80] [--repeats 5]

Images differ between prompts and between runs, as in training; the model is random, so about one completion in five ends
before `--tokens`. The engines alternate, so that changes of the machine's load affect both; medians are reported, in wall
time and in CPU time of the process, which depends less on other load. The last line is JSON; `ratio` is vLLM /
transformers in tokens per second (above 1: vLLM is faster).
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import torch
from PIL import Image

from core.rows import Row
from engines.build import build_engine
from engines.config import EngineConfig, TransformersConfig, VLLMConfig
from engines.engine import Engine
from engines.rollout import Request, Sampling
from vlm.inputs import encode
from vlm.load import load_model, load_processor
from vlm.tiny import build_tiny_vlm

QUESTION = "How many red circles are there, and where is the blue square?"


def requests(processor, rng: np.random.Generator, prompts: int, completions: int) -> list[Request]:
    """One 112 px image (16 visual tokens) and a question each."""
    content = [{"type": "image"}, {"type": "text", "text": QUESTION}]
    messages = [{"role": "user", "content": content}]
    images = (Image.fromarray(rng.integers(0, 255, (112, 112, 3), dtype=np.uint8)) for _ in range(prompts))
    rows: list[Row] = [{"id": str(i), "task": "t", "answer": {}} for i in range(prompts)]
    return [
        Request(row, encode(processor, messages, [image]), completions)
        for row, image in zip(rows, images, strict=True)
    ]


def one_run(engine: Engine, batch: list[Request], tokens: int, seed: int) -> tuple[int, float, float]:
    """Tokens generated, wall seconds, CPU seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    rollouts = engine.generate(batch, Sampling(max_tokens=tokens, seed=seed))
    return (
        sum(len(r.completion_ids) for r in rollouts),
        time.perf_counter() - wall,
        time.process_time() - cpu,
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--prompts", type=int, default=32)
    parser.add_argument("--completions", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=80)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    with tempfile.TemporaryDirectory() as folder:
        path = build_tiny_vlm(folder, [QUESTION] * 20, hidden=args.hidden, layers=args.layers)
        processor, model = load_processor(path), load_model(path)
        parameters = sum(p.numel() for p in model.parameters())
        configs: dict[str, EngineConfig] = {
            "vllm": VLLMConfig(max_model_len=512, threads=args.threads),
            "transformers": TransformersConfig(max_model_len=512),
        }
        engines = {
            kind: build_engine(configs[kind], path, processor, device="cpu")
            for kind in ("vllm", "transformers")
        }
        runs: dict[str, list[tuple[int, float, float]]] = {kind: [] for kind in engines}
        syncs: dict[str, list[float]] = {kind: [] for kind in engines}
        rng = np.random.default_rng(0)
        for repeat in range(args.repeats + 1):
            batch = requests(processor, rng, args.prompts, args.completions)
            for kind, engine in engines.items():
                began = time.perf_counter()
                engine.sync(model.state_dict().items(), repeat)
                syncs[kind].append(time.perf_counter() - began)
                runs[kind].append(one_run(engine, batch, args.tokens, seed=repeat))
        engines["vllm"].close()

    result: dict[str, object] = {
        "parameters": parameters,
        "completions": args.prompts * args.completions,
        "tokens": args.tokens,
        "threads": args.threads,
    }
    for kind, timings in runs.items():
        timed = timings[1:]  # the first run warms up
        result[kind] = {
            "tokens_per_second": round(statistics.median(n / wall for n, wall, _ in timed)),
            "tokens_per_cpu_second": round(statistics.median(n / cpu for n, _, cpu in timed)),
            "sync_seconds": round(statistics.median(syncs[kind][1:]), 3),
        }
        print(f"{kind:>13}: {result[kind]}")
    for name in ("tokens_per_second", "tokens_per_cpu_second"):
        key = "ratio" if name == "tokens_per_second" else "ratio_cpu"
        result[key] = round(result["vllm"][name] / result["transformers"][name], 2)  # type: ignore[index]
    print(json.dumps(result))


if __name__ == "__main__":
    main()
