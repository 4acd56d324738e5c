"""Subprocess: serve checkpoints by vLLM in process and write what it generated, with log-probs, as JSON.

`python -m tests.vlm.vllm_probe OUT.json FOLDER …`; each entry has `prompt_ids` (as vLLM expanded them), `ids`,
`logprobs`, `image` (whether the prompt showed the test image).
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from core.torch_companions import adapt_torch_companions

os.environ |= {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_LOGGING_LEVEL": "ERROR",
}
adapt_torch_companions()

from vlm.families import family_of_checkpoint  # noqa: E402

IMAGE_SIZE = (84, 56)  # pixels: 3 x 2 visual tokens


def probe_image():
    """A small image whose every visual token differs."""
    import numpy as np
    from PIL import Image

    return Image.fromarray(
        np.random.default_rng(0).integers(0, 255, (IMAGE_SIZE[1], IMAGE_SIZE[0], 3), "uint8")
    )


def probe(folder: str) -> list[dict]:
    """Two sampled completions each of a text prompt and of one with an image."""
    from transformers import AutoProcessor
    from vllm import LLM, ModelRegistry, SamplingParams
    from vllm.platforms import current_platform

    family = family_of_checkpoint(Path(folder))
    # vLLM would look at the class in a child process, which takes seconds and does not import core
    ModelRegistry.register_model(family.model, family.engine_class())
    type(current_platform).simple_compile_backend = "eager"  # not worth compiling the sampler here
    template = AutoProcessor.from_pretrained(folder).apply_chat_template
    engine = LLM(
        folder,
        dtype="float32",
        max_model_len=256,
        max_num_seqs=4,
        enforce_eager=True,
        skip_mm_profiling=True,
        limit_mm_per_prompt={"image": 1, "video": 0},
        logprobs_mode="processed_logprobs",
    )
    tokenizer = engine.get_tokenizer()
    entries = []
    for image in (False, True):
        content = ([{"type": "image"}] if image else []) + [{"type": "text", "text": "how many red boxes"}]
        text = template([{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False)
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        prompt = {"prompt_token_ids": ids} | ({"multi_modal_data": {"image": probe_image()}} if image else {})
        placeholders = [
            t for name, t in tokenizer.get_vocab().items() if name.startswith("<|") and "_pad" in name
        ]
        sampling = SamplingParams(
            max_tokens=24, seed=1, logprobs=0, ignore_eos=True, logit_bias=dict.fromkeys(placeholders, -100.0)
        )
        for output in engine.generate([prompt] * 2, sampling, use_tqdm=False):
            done = output.outputs[0]
            logprobs = [
                step[token].logprob for step, token in zip(done.logprobs, done.token_ids, strict=True)
            ]
            entries.append(
                {
                    "image": image,
                    "prompt_ids": list(output.prompt_token_ids),
                    "ids": list(done.token_ids),
                    "logprobs": logprobs,
                    "suppressed": placeholders,
                }
            )
    return entries


if __name__ == "__main__":
    with open(sys.argv[1], "w") as out:
        json.dump({folder: probe(folder) for folder in sys.argv[2:]}, out)
