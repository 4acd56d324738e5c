"""Small real checkpoints with random weights, saved to disk: language models of each kind, a Qwen2.5-VL and a Qwen3-VL."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
)

from vlm.tiny import build_processor, build_tokenizer

CORPUS = [
    "how many red squares are there in the picture",
    "the box is at 28 56 84 112",
    "a b c d e f 1 2 3",
] * 5
SIZES = {
    "hidden_size": 128,
    "intermediate_size": 160,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,  # 32 wide, as vLLM's attention on CPU asks for
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "rms_norm_eps": 1e-4,
}


def randomise(model: torch.nn.Module, seed: int) -> None:
    """Randomise all weights, including norms and biases, so that a weight that was not copied is noticed."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            noise = torch.randn(weight.shape, generator=generator)
            weight.copy_(1 + 0.2 * noise if "norm" in name or "ln_q" in name else 0.15 * noise)


def llama_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE like Llama 3's: prepends a begin token to each text, and has no chat or vision tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    specials = ["<|begin_of_text|>", "<|end_of_text|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=specials,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<|begin_of_text|> $A", special_tokens=[("<|begin_of_text|>", 0)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=specials[0], eos_token=specials[1])


def qwen2(
    folder: Path, *, tied: bool = False, seed: int = 1, dtype: torch.dtype = torch.float32, **changes
) -> Path:
    """Qwen2 whose tokenizer already has all chat and vision tokens."""
    tokenizer = build_tokenizer(CORPUS)
    settings = {
        **SIZES,
        "vocab_size": len(tokenizer) + 3,
        "tie_word_embeddings": tied,
        "eos_token_id": 0,
        **changes,
    }
    settings.setdefault("rope_parameters", {"rope_type": "default", "rope_theta": 640000.0})
    model = Qwen2ForCausalLM(Qwen2Config(**settings))
    randomise(model, seed)
    model.to(dtype).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def qwen3(folder: Path, *, tied: bool = False, seed: int = 1, **changes) -> Path:
    """Qwen3, whose heads are together wider than the model."""
    tokenizer = build_tokenizer(CORPUS)
    settings = {**SIZES, "head_dim": 64, "vocab_size": len(tokenizer), "tie_word_embeddings": tied}
    settings |= {"eos_token_id": 0, "rope_parameters": {"rope_type": "default", "rope_theta": 5e6}, **changes}
    model = Qwen3ForCausalLM(Qwen3Config(**settings))
    randomise(model, seed)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def mimo(folder: Path, *, seed: int = 1) -> Path:
    """Qwen2 with MiMo's model_type and code references, an old-style RoPE field, and one MTP layer."""
    qwen2(folder, seed=seed)
    edit_config(
        folder,
        remove=("rope_parameters",),
        model_type="mimo",
        architectures=["MiMoForCausalLM"],
        auto_map={"AutoConfig": "configuration_mimo.MiMoConfig"},
        num_nextn_predict_layers=1,
        attention_bias=True,
        head_dim=32,
        rope_theta=640000.0,
        rope_scaling=None,
    )
    weights = load_file(folder / "model.safetensors")
    weights |= {
        name.replace("model.layers.0.", "model.mtp_layers.0."): w.clone()
        for name, w in weights.items()
        if name.startswith("model.layers.0.")
    }
    weights["model.mtp_layers.0.input_proj.weight"] = torch.randn(128, 256)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def llama(folder: Path, *, seed: int = 1, **changes) -> Path:
    """Llama without biases, whose tokenizer has no chat or vision tokens and prepends a begin token to each text."""
    tokenizer = llama_tokenizer()
    settings = {**SIZES, "vocab_size": len(tokenizer), "bos_token_id": 0, "eos_token_id": 1, **changes}
    settings.setdefault("rope_parameters", {"rope_type": "default", "rope_theta": 500000.0})
    model = LlamaForCausalLM(LlamaConfig(**settings))
    randomise(model, seed)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def qwen_vl(folder: Path, *, seed: int = 2, language_hidden: int = 32) -> Path:
    """Qwen2.5-VL whose language model has a different width than the sources above, and its processor."""
    tokenizer = build_tokenizer(CORPUS)
    config = Qwen2_5_VLConfig(
        text_config={
            **SIZES,
            "hidden_size": language_hidden,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "num_hidden_layers": 1,
            "vocab_size": len(tokenizer),
            "bos_token_id": 0,
            "eos_token_id": 2,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3]},
        },
        vision_config={
            "depth": 3,
            "hidden_size": 48,
            "intermediate_size": 100,
            "num_heads": 4,
            "out_hidden_size": language_hidden,
            "fullatt_block_indexes": [1],
            "window_size": 56,
            "tokens_per_second": 2,
        },
        image_token_id=tokenizer.convert_tokens_to_ids("<|image_pad|>"),
        video_token_id=tokenizer.convert_tokens_to_ids("<|video_pad|>"),
        vision_start_token_id=tokenizer.convert_tokens_to_ids("<|vision_start|>"),
        vision_end_token_id=tokenizer.convert_tokens_to_ids("<|vision_end|>"),
    )
    model = Qwen2_5_VLForConditionalGeneration(config)
    randomise(model, seed)
    model.save_pretrained(folder)
    build_processor(tokenizer).save_pretrained(folder)
    return folder


def qwen3_vl(folder: Path, *, seed: int = 2) -> Path:
    """Qwen3-VL whose language model has a different width than the sources above, and its processor."""
    tokenizer = build_tokenizer(CORPUS)
    config = Qwen3VLConfig(
        text_config={
            **SIZES,
            "hidden_size": 32,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "num_hidden_layers": 2,
            "head_dim": 16,
            "vocab_size": len(tokenizer),
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 10000.0,
                "mrope_section": [4, 2, 2],
                "mrope_interleaved": True,
            },
        },
        vision_config={
            "depth": 4,
            "hidden_size": 48,
            "intermediate_size": 100,
            "num_heads": 4,
            "out_hidden_size": 32,
            "deepstack_visual_indexes": [0, 2],
            "num_position_embeddings": 36,
        },
        image_token_id=tokenizer.convert_tokens_to_ids("<|image_pad|>"),
        video_token_id=tokenizer.convert_tokens_to_ids("<|video_pad|>"),
        vision_start_token_id=tokenizer.convert_tokens_to_ids("<|vision_start|>"),
        vision_end_token_id=tokenizer.convert_tokens_to_ids("<|vision_end|>"),
    )
    model = Qwen3VLForConditionalGeneration(config)
    randomise(model, seed)
    model.save_pretrained(folder)
    build_processor(tokenizer, family="qwen3_vl").save_pretrained(folder)
    return folder


def edit_config(folder: Path, remove: tuple[str, ...] = (), **changes) -> Path:
    """Change fields of a checkpoint's config.json."""
    file = folder / "config.json"
    config = json.loads(file.read_text()) | changes
    file.write_text(json.dumps({k: v for k, v in config.items() if k not in remove}))
    return folder


def edit_weights(folder: Path, change) -> Path:
    """Replace a checkpoint's weights by `change(weights)`."""
    file = folder / "model.safetensors"
    weights = change(load_file(file))
    save_file(weights, file, metadata={"format": "pt"})
    return folder
