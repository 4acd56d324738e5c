"""Questions per second of stage-level beam search: batched on vLLM, and the published way.

    python -m benchmarks.stage_beam

The published way (LLaVA-CoT's `inference_demo.py`): one question at a time, and for each stage one `model.generate` of transformers
after the other until the closing tag. Both sides have the same random model, questions, stages, candidates and lengths: a random
model never writes a closing tag, so every candidate has exactly `--tokens` tokens, and the first one is kept. Choosing is left
out on both sides. The last line is JSON; `throughput_ratio` is ours over theirs.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from typing import Any

import torch

from engines.build import build_engine
from engines.config import VLLMConfig
from inference.branches import expand
from inference.rounds import run_searches
from inference.types import Branch, Question, answer_of
from rewards.stages import STAGES
from vlm.inputs import encode
from vlm.load import load_model, load_processor
from vlm.tiny import build_tiny_vlm

QUESTION = "How many red shapes are there, times 3?"


def batched(engine: Any, processor: Any, prompts: list[Any], candidates: int, tokens: int) -> int:
    """All questions together; returns the tokens that were sampled."""

    def search(question: Question) -> Any:
        branch = Branch(question)
        for count, stage in enumerate(STAGES, 1):
            question.max_tokens = count * tokens
            found = yield from expand([branch], candidates, stage, (f"</{stage}>",))
            branch = found[0]
        return answer_of(branch)

    questions = [
        Question({"id": str(i)}, prompt, processor, STAGES, tokens, seed=0)
        for i, prompt in enumerate(prompts)
    ]
    answers = run_searches(engine, [(one, search(one)) for one in questions])
    return sum(answer.spent.tokens_generated for answer in answers)


@torch.inference_mode()
def published(model: Any, prompts: list[Any], candidates: int, tokens: int, banned: list[int]) -> int:
    """One question, one candidate at a time; returns the tokens that were sampled."""
    sampled = 0
    for prompt in prompts:
        ids = prompt.input_ids[None].to(model.device)
        for _ in STAGES:
            outputs = []
            for _ in range(candidates):
                outputs.append(
                    model.generate(
                        input_ids=ids,
                        attention_mask=torch.ones_like(ids),
                        do_sample=True,
                        top_k=0,
                        max_new_tokens=tokens,
                        min_new_tokens=tokens,
                        suppress_tokens=banned,
                    )
                )
                sampled += outputs[-1].shape[1] - ids.shape[1]
            ids = outputs[0]
    return sampled


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--questions", type=int, default=64, help="of the batched search")
    parser.add_argument(
        "--published-questions", type=int, default=2, help="of the published way, which is slow"
    )
    parser.add_argument("--candidates", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=32, help="of each candidate at each stage")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as folder:
        path = build_tiny_vlm(folder, [QUESTION] * 20, hidden=args.hidden, layers=args.layers)
        processor, model = load_processor(path), load_model(path).eval()
        prompt = encode(processor, [{"role": "user", "content": QUESTION}])
        special = sorted(processor.tokenizer.added_tokens_decoder)
        config = VLLMConfig(max_model_len=1024, threads=args.threads)
        engine = build_engine(config, path, processor, device="cpu")
        prompts = [prompt] * args.questions
        batched(engine, processor, prompts, args.candidates, 4)  # warms up
        published(model, [prompt], 1, 2, special)
        began = time.perf_counter()
        ours = batched(engine, processor, prompts, args.candidates, args.tokens)
        our_seconds = time.perf_counter() - began
        began = time.perf_counter()
        theirs = published(model, prompts[: args.published_questions], args.candidates, args.tokens, special)
        their_seconds = time.perf_counter() - began
        engine.close()
    rates = {
        "batched_questions_per_second": args.questions / our_seconds,
        "published_questions_per_second": args.published_questions / their_seconds,
    }
    result = {
        **{name: round(value, 3) for name, value in rates.items()},
        "tokens_per_question": [round(ours / args.questions), round(theirs / args.published_questions)],
        "candidates": args.candidates,
        "threads": args.threads,
        "throughput_ratio": round(
            rates["batched_questions_per_second"] / rates["published_questions_per_second"], 2
        ),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
