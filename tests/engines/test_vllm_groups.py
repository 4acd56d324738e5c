"""Engines come and go in a process whose groups others end."""

from __future__ import annotations

import multiprocessing

import pytest
import torch.distributed

from engines.config import VLLMConfig
from engines.rollout import Request, Sampling
from engines.vllm_engine import VLLMEngine
from vlm.inputs import encode
from vlm.load import load_processor
from vlm.tiny import build_tiny_vlm


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return build_tiny_vlm(tmp_path_factory.mktemp("model"), ["say 0 1 2 3"] * 5, hidden=64, layers=1)


def answers(model, engines: list[VLLMEngine]) -> int:
    """Completions of an engine made, asked and left open."""
    processor = load_processor(model)
    engine = VLLMEngine(VLLMConfig(max_model_len=64), model, processor)
    prompt = encode(processor, [{"role": "user", "content": "say 1"}])
    found = len(engine.generate([Request({"id": "r"}, prompt, n=2)], Sampling(max_tokens=4, seed=0)))
    engines.append(engine)
    return found


def engines_come_and_go(model) -> None:
    engines: list[VLLMEngine] = []
    assert answers(model, engines) == 2
    torch.distributed.destroy_process_group()  # as Accelerator.end_training does
    assert answers(model, engines) == 2
    torch.distributed.destroy_process_group()
    for engine in engines:
        engine.close()
    assert answers(model, engines) == 2
    engines.pop().close()


@pytest.mark.slow
def test_a_default_group_ended_by_others_takes_no_later_engine_along(model):
    process = multiprocessing.get_context("spawn").Process(target=engines_come_and_go, args=(model,))
    process.start()  # of its own: it ends the groups of engines that other tests share
    process.join()
    assert process.exitcode == 0
