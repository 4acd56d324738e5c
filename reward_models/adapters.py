"""Adapters for published multimodal reward models that are no sequence classifiers of transformers.

    {function: reward_model, path: models/Skywork-VL-Reward-7B, adapter: skywork_vl, mean: 0, std: 5}

An adapter is a function `adapter(path, *, device, dtype)` that returns `score(messages, images, response) -> float`: messages are
those of the row, images the decoded ones that fill their placeholders in order. For another model write your own and name it as
`file.py:function`. Such checkpoints hold no statistics: set `mean` and `std` from the scores of your own rows, which `python -m
reward_models evaluate` prints; otherwise rewards are sigmoid(score).
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors.torch import load_file

from vlm.checkpoint import CheckpointError, resolve_checkpoint
from vlm.inputs import check_texts, collate, encode_ids
from vlm.load import load_model, load_processor

Score = Callable[[Sequence[Mapping[str, Any]], Sequence[Image.Image], str], float]
VALUE_HEAD = "value_head.safetensors"
WEIGHT, BIAS = "v_head.summary.weight", "v_head.summary.bias"


def skywork_vl(path: str, *, device: str, dtype: str) -> Score:
    """Skywork-VL-Reward (arXiv 2505.07263): a vision-language model with TRL's value head beside it, read at the last token of the
    chat template. Raises CheckpointError where the folder has no value head."""
    folder = resolve_checkpoint(path)
    file = folder / VALUE_HEAD
    if not file.is_file():
        raise CheckpointError(f"{folder}: expected TRL's value head in {VALUE_HEAD}, found none")
    head = load_file(file)
    if set(head) != {WEIGHT, BIAS}:
        raise CheckpointError(f"{file}: expected {WEIGHT} and {BIAS}, got {', '.join(sorted(head))}")
    weight, bias = (head[name].float().to(device) for name in (WEIGHT, BIAS))
    processor, model = load_processor(folder), load_model(folder, dtype=dtype).to(device).eval()

    @torch.no_grad()
    def score(messages: Sequence[Mapping[str, Any]], images: Sequence[Image.Image], response: str) -> float:
        turns = [*messages, {"role": "assistant", "content": response}]
        check_texts(processor.tokenizer, turns)
        text = processor.apply_chat_template(turns, tokenize=False)
        ids = processor.tokenizer(text, add_special_tokens=False)["input_ids"]
        batch = collate([encode_ids(processor, ids, images)], processor.tokenizer.pad_token_id)
        inputs = {name: tensor.to(device) for name, tensor in batch.items()}
        hidden = model.base_model(**inputs, use_cache=False).last_hidden_state[0, -1].float()
        return float(weight[0] @ hidden + bias[0])

    return score


def internlm_xcomposer(path: str, *, device: str, dtype: str) -> Score:
    """InternLM-XComposer2.5-Reward (arXiv 2501.12368), scored as LLaVA-CoT does: its own `get_score` with hd_num 9.

    The model's code comes with its checkpoint and is run: take it from its authors only.
    """
    from transformers import AutoModel, AutoTokenizer

    folder = resolve_checkpoint(path)
    loaded = AutoModel.from_pretrained(folder, dtype=getattr(torch, dtype), trust_remote_code=True)
    model: Any = loaded.to(device).eval()
    model.tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=True)

    def score(messages: Sequence[Mapping[str, Any]], images: Sequence[Image.Image], response: str) -> float:
        chat = [{"role": m["role"], "content": _text(m["content"])} for m in messages]
        chat.append({"role": "assistant", "content": response})
        with tempfile.TemporaryDirectory() as files:  # it opens its images itself
            paths = [str(Path(files) / f"{i}.png") for i in range(len(images))]
            for image, file in zip(images, paths, strict=True):
                image.save(file)
            return float(model.get_score(chat, paths, hd_num=9))

    return score


def _text(content: Any) -> str:
    return content if isinstance(content, str) else "".join(p["text"] for p in content if p["type"] == "text")
