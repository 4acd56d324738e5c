"""Join a vision tower, a new MLP projector and a language model into one vision-language checkpoint.

    python -m vlm.assemble --vision Qwen/Qwen2.5-VL-7B-Instruct --language XiaomiMiMo/MiMo-7B-Base --output models/new
    python -m vlm.assemble --vision Qwen/Qwen3-VL-4B-Instruct --language Qwen/Qwen3-8B-Base --output models/new

The result is a checkpoint of the tower's family (weights, config, processor, tokenizer, chat template) that transformers
and vLLM load: Qwen2.5-VL with a Qwen2, MiMo or Llama language model, or Qwen3-VL with a Qwen3 one. The ViT's features
before the projector and the language model's logits on text are preserved exactly. The projector is freshly initialised
(train it first: preset `projector`): a norm, 2x2 patches concatenated, Linear, GELU, Linear to the language model's
width. Qwen3-VL has one more for each level of DeepStack, which are part of it.

Weights are copied one tensor at a time, so peak memory is that of the largest tensor. Everything that can fail is
checked from the configs and file headers before any weight is read. The output folder gets its final name only when it
is complete.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from core.errors import UserError
from core.files.hub.paths import fetch
from vlm.assemble_config import Tower, build_config, read_language_config, read_vision_config
from vlm.assemble_weights import is_missing_bias, plan_tensors, stored_dtype, take_sources
from vlm.checkpoint import CheckpointError, read_config, resolve_checkpoint
from vlm.families.family import Family, Part, renamed
from vlm.parts import PARTS, part_of
from vlm.safetensors_stream import PlannedTensor, write_sharded
from vlm.vocabulary import Vocabulary, extend_vocabulary

if TYPE_CHECKING:
    from transformers import PretrainedConfig


@dataclass(frozen=True)
class Assembled:
    """Summary of an assembled checkpoint."""

    path: Path
    files: tuple[str, ...]  # weight files, in order
    parameters: dict[Part, int]  # number of scalars in each part
    vocabulary: int  # rows of the embedding
    added_tokens: tuple[str, ...]  # tokens the language model lacked
    zero_biases: int  # q/k/v biases the language model lacked, written as zeros
    dropped: dict[str, int]  # source tensors left out on purpose: count by reason

    def summary(self) -> str:
        """Human-readable summary of a few lines."""
        parts = ", ".join(f"{part} {self.parameters[part]:,}" for part in PARTS)
        lines = [
            f"Assembled {self.path}: {sum(self.parameters.values()):,} parameters ({parts}) in {len(self.files)} file(s)",
            f"  vocabulary: {self.vocabulary:,} rows, new tokens: {' '.join(self.added_tokens) or 'none'}",
        ]
        if self.zero_biases:
            lines.append(
                f"  q/k/v biases that the language model does not have, written as zeros: {self.zero_biases}"
            )
        lines += [f"  left out, {reason}: {count} tensors" for reason, count in self.dropped.items() if count]
        return "\n".join(lines)


def assemble(
    vision: str | Path,
    language: str | Path,
    output: str | Path,
    *,
    seed: int = 0,
    dtype: str | None = None,
    max_shard_bytes: int = 5 * 10**9,
    overwrite: bool = False,
    need_vllm: bool = True,
    quiet: bool = False,
) -> Assembled:
    """Write the assembled checkpoint to the folder `output`.

    Args:
        vision: Qwen2.5-VL or Qwen3-VL checkpoint whose ViT is taken (without its projector), and its image and video
            processors.
        language: causal language model: Qwen2 family (Qwen2.5, MiMo) or Llama family without biases for a Qwen2.5-VL
            tower, Qwen3 for a Qwen3-VL tower.
        seed: random seed for the projector's weights and new vocabulary rows.
        dtype: `float32`, `bfloat16` or `float16`: cast every weight; None keeps each tensor's stored dtype (the
            projector takes the language model's).
        max_shard_bytes: maximum size of one weight file.
        overwrite: replace a non-empty `output`; it stays untouched until the new one is complete.
        need_vllm: False accepts language models whose position encoding transformers supports and vLLM does not.

    Raises:
        HubError: a source is neither a folder nor to be had from the Hub.
        CheckpointError: a source is incomplete, or of an unsupported family or shape.
        FileExistsError: `output` is not empty and `overwrite` is False.
    """
    target = Path(output)
    fetch({"--vision": str(vision), "--language": str(language)})
    vision_folder, language_folder = resolve_checkpoint(vision), resolve_checkpoint(language)
    _check_output(target, (vision_folder, language_folder), overwrite)
    tower, vision_config = read_vision_config(vision_folder, read_config(vision_folder))
    raw_language = read_config(language_folder)
    language_config = read_language_config(language_folder, raw_language, tower=tower, need_vllm=need_vllm)
    vision_source, language_source, dropped = take_sources(
        vision_folder, language_folder, raw_language, language_config
    )
    vocabulary = extend_vocabulary(language_folder, language_config)
    config = build_config(tower, language_config, vision_config, vocabulary)

    stored = stored_dtype(language_source)
    config.dtype = config.text_config.dtype = config.vision_config.dtype = _dtype(dtype) or stored
    plan = plan_tensors(
        tower, config, vision_source, language_source, raw_language["model_type"], seed, _dtype(dtype)
    )

    def write_configs(folder: Path) -> None:
        _write_configs(folder, tower, config, vocabulary, vision_folder, language_folder, language_config)

    written = [replace(tensor, name=renamed(tensor.name, tower.written_names)) for tensor in plan]
    files = _write(target, written, max_shard_bytes, write_configs, quiet)
    result = Assembled(
        path=target,
        files=tuple(file.name for file in files),
        parameters=_count_parameters(tower.family, plan),
        vocabulary=vocabulary.size,
        added_tokens=vocabulary.added,
        zero_biases=sum(is_missing_bias(t.name, language_source) for t in plan),
        dropped=dropped,
    )
    if not quiet:
        print(result.summary(), flush=True)
    return result


def _check_output(target: Path, sources: Sequence[Path], overwrite: bool) -> None:
    for source in sources:
        if target.resolve() == source.resolve() or target.resolve() in source.resolve().parents:
            raise CheckpointError(f"{target}: the output would replace its own source {source}")
    if target.exists() and not target.is_dir():
        raise FileExistsError(f"{target}: the output exists and is not a folder")
    if target.is_dir() and any(target.iterdir()) and not overwrite:
        raise FileExistsError(f"{target}: the output folder is not empty (--overwrite replaces it)")


def _write(
    target: Path,
    plan: Sequence[PlannedTensor],
    max_shard_bytes: int,
    write_configs: Callable[[Path], None],
    quiet: bool,
) -> list[Path]:
    """Write the weights and everything else to a temporary folder and rename it to `target`; returns the weight files."""
    target.parent.mkdir(parents=True, exist_ok=True)
    needed, free = sum(t.nbytes for t in plan), shutil.disk_usage(target.parent).free
    if needed > free:
        raise CheckpointError(f"{target}: the weights need {needed:,} bytes, the disk has {free:,} left")
    # Beside the output, so that the final rename stays on one file system and is atomic.
    partial_folder = Path(tempfile.mkdtemp(prefix=f".{target.name}.partial-", dir=target.parent))
    try:
        with _progress(needed, quiet) as bar:
            files = write_sharded(partial_folder, plan, max_shard_bytes, bar.update)
        write_configs(partial_folder)
        partial_folder.chmod(0o755)  # mkdtemp makes it private
        _move_into_place(partial_folder, target)
    finally:
        shutil.rmtree(partial_folder, ignore_errors=True)
    return files


def _count_parameters(family: Family, plan: Sequence[PlannedTensor]) -> dict[Part, int]:
    parameters = dict.fromkeys(PARTS, 0)
    for tensor in plan:
        name = renamed(tensor.name, {"model.": "language_model."})
        parameters[part_of(family, name)] += torch.Size(tensor.shape).numel()
    return parameters


def _write_configs(
    folder: Path,
    tower: Tower,
    config: PretrainedConfig,
    vocabulary: Vocabulary,
    vision: Path,
    language: Path,
    language_config: Any,
) -> None:
    from transformers import GenerationConfig

    config.save_pretrained(folder)
    image_processor, video_processor = _media_processors(vision, tower, config.vision_config)
    processor = tower.family.processor_class()(
        image_processor=image_processor,
        tokenizer=vocabulary.tokenizer,
        video_processor=video_processor,
        chat_template=vocabulary.chat_template,
    )
    processor.save_pretrained(folder)
    _check_written_tokenizer(folder, vocabulary)
    ends = [vocabulary.id("<|im_end|>")]
    own = language_config.eos_token_id
    if (language / "generation_config.json").is_file():
        own = GenerationConfig.from_pretrained(language).eos_token_id or own
    ends += [end for end in ([own] if isinstance(own, int) else own or []) if end not in ends]
    GenerationConfig(
        bos_token_id=language_config.bos_token_id,
        eos_token_id=ends,
        pad_token_id=vocabulary.tokenizer.pad_token_id,
    ).save_pretrained(folder)


def _media_processors(vision: Path, tower: Tower, config: Any) -> tuple[Any, Any]:
    """Image and video processors of the vision checkpoint, or default ones with its patch sizes if it has none."""
    import transformers

    sizes = {
        "patch_size": config.patch_size,
        "temporal_patch_size": config.temporal_patch_size,
        "merge_size": config.spatial_merge_size,
    }
    made = []
    for cls in (transformers.Qwen2VLImageProcessor, getattr(transformers, tower.video_processor)):
        try:
            processor = cls.from_pretrained(vision)
        except OSError:  # the vision checkpoint came without a processor
            processor = cls(**sizes, **tower.normalisation)
        for field, expected in sizes.items():
            if getattr(processor, field) != expected:
                raise CheckpointError(
                    f"{vision}: its {cls.__name__} has {field} {getattr(processor, field)}, its ViT {expected}"
                )
        made.append(processor)
    return made[0], made[1]


def _check_written_tokenizer(folder: Path, vocabulary: Vocabulary) -> None:
    """Reload the saved tokenizer and compare: some tokenizer classes rebuild parts of themselves on loading."""
    from transformers import AutoTokenizer

    reloaded = AutoTokenizer.from_pretrained(folder)
    text = "<|im_start|>user\nHow many? 12 a<|vision_start|><|image_pad|><|vision_end|><|im_end|>\n"
    expected = vocabulary.tokenizer(text, add_special_tokens=False)["input_ids"]
    got = reloaded(text)["input_ids"]
    if got != expected:
        raise CheckpointError(
            f"{folder}: the tokenizer changed when saved: {text!r} was {expected}, is now {got}"
        )


def _move_into_place(partial_folder: Path, target: Path) -> None:
    if not target.exists() or not any(target.iterdir()):
        partial_folder.rename(target)  # also replaces an empty folder
        return
    old = Path(tempfile.mkdtemp(prefix=f".{target.name}.replaced-", dir=target.parent))
    target.rename(old)
    partial_folder.rename(target)
    shutil.rmtree(old)


def _dtype(name: str | None) -> torch.dtype | None:
    if name is None:
        return None
    if name not in ("float32", "bfloat16", "float16"):
        raise ValueError(f"dtype: expected float32, bfloat16 or float16, got {name!r}")
    return getattr(torch, name)


def _progress(total: int, quiet: bool):
    from tqdm import tqdm

    return tqdm(total=total, unit="B", unit_scale=True, desc="writing weights", disable=quiet or None)


def _bytes(text: str) -> int:
    match = re.fullmatch(r"(\d+)\s*([KMG]?)B?", text.strip(), re.IGNORECASE)
    if not match or not int(match[1]):
        raise argparse.ArgumentTypeError(f"expected a size such as 5GB or 500MB, got {text!r}")
    return int(match[1]) * {"": 1, "K": 10**3, "M": 10**6, "G": 10**9}[match[2].upper()]


def main(argv: Sequence[str] | None = None) -> None:
    """Command line; user errors are printed in one line, with exit status 1."""
    parser = argparse.ArgumentParser(prog="python -m vlm.assemble", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--vision",
        required=True,
        help="Qwen2.5-VL or Qwen3-VL checkpoint whose ViT is taken: a folder or a Hub id",
    )
    parser.add_argument(
        "--language",
        required=True,
        help="Qwen2, MiMo or Llama checkpoint, Qwen3 for a Qwen3-VL tower: a folder or a Hub id",
    )
    parser.add_argument("--output", required=True, help="folder to write")
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        help="random seed for the projector and new vocabulary rows (default 0)",
    )
    parser.add_argument(
        "--dtype", choices=("float32", "bfloat16", "float16"), help="cast weights (default: as stored)"
    )
    parser.add_argument(
        "--max-shard-size", type=_bytes, default="5GB", help="maximum size of one weight file (default 5GB)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace a non-empty output folder")
    parser.add_argument(
        "--without-vllm",
        action="store_true",
        help="accept position encodings that transformers supports and vLLM does not",
    )
    args = parser.parse_args(argv)
    try:
        assemble(
            args.vision,
            args.language,
            args.output,
            seed=args.seed,
            dtype=args.dtype,
            max_shard_bytes=args.max_shard_size,
            overwrite=args.overwrite,
            need_vllm=not args.without_vllm,
        )
    except (UserError, FileExistsError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    main()
