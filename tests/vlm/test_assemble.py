"""Assembled models against their sources, on small random checkpoints on disk."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    LlamaForCausalLM,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3ForCausalLM,
)

from tests.vlm import tiny_sources as sources
from vlm import assemble as assemble_module
from vlm.assemble import assemble, main
from vlm.assemble_config import TOWERS, build_config, mrope_section, read_language_config, read_vision_config
from vlm.checkpoint import CheckpointError
from vlm.inputs import encode
from vlm.load import load_model, load_processor
from vlm.parts import count_parameters
from vlm.vocabulary import CHAT_TOKENS, VISION_TOKENS, extend_vocabulary

ROPES = {
    "llama3": {
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    },
    "yarn": {"factor": 4.0, "original_max_position_embeddings": 64},
    "linear": {"factor": 2.0},
}
REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def vision(tmp_path_factory) -> Path:
    return sources.qwen_vl(tmp_path_factory.mktemp("vision"))


@pytest.fixture(scope="module")
def qwen3_vision(tmp_path_factory) -> Path:
    return sources.qwen3_vl(tmp_path_factory.mktemp("qwen3_vision"))


@pytest.fixture(scope="module")
def made(tmp_path_factory, vision, qwen3_vision) -> dict[str, tuple[Path, Path]]:
    """Name -> (language model, assembled model). Those of Qwen3 have a Qwen3-VL tower, the others a Qwen2.5-VL one."""
    root = tmp_path_factory.mktemp("assembled")
    languages = {
        "qwen2": sources.qwen2(root / "qwen2"),
        "qwen2-tied": sources.qwen2(root / "qwen2-tied", tied=True),
        "llama": sources.llama(root / "llama"),
        "llama-tied": sources.llama(root / "llama-tied", tie_word_embeddings=True),
        "mimo": sources.mimo(root / "mimo"),
        "qwen3": sources.qwen3(root / "qwen3"),
        "qwen3-tied": sources.qwen3(root / "qwen3-tied", tied=True),
    }
    for name, folder in languages.items():
        tower = qwen3_vision if name.startswith("qwen3") else vision
        assemble(tower, folder, root / f"{name}-vl", quiet=True)
    return {name: (folder, root / f"{name}-vl") for name, folder in languages.items()}


def assert_same_text_logits(language: torch.nn.Module, folder: Path) -> None:
    model = load_model(folder)  # raises on missing or unexpected weights
    rows = language.config.vocab_size
    ids = torch.randint(0, rows, (2, 100), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = language(input_ids=ids).logits
        logits = model(input_ids=ids).logits
    assert expected.std() > 0.5  # no accident of tiny weights
    torch.testing.assert_close(logits[..., :rows], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["qwen2", "qwen2-tied"])
def test_text_logits_of_qwen2_are_kept(made, name):
    language, folder = made[name]
    assert_same_text_logits(Qwen2ForCausalLM.from_pretrained(language), folder)


@pytest.mark.parametrize("name", ["qwen3", "qwen3-tied"])
def test_text_logits_of_qwen3_are_kept(made, name):
    language, folder = made[name]
    assert_same_text_logits(Qwen3ForCausalLM.from_pretrained(language), folder)


@pytest.mark.parametrize("name", ["llama", "llama-tied"])
def test_text_logits_of_llama_are_kept_with_zero_biases(made, name):
    language, folder = made[name]
    assert_same_text_logits(LlamaForCausalLM.from_pretrained(language), folder)
    biases = [
        w
        for n, w in load_file(folder / "model.safetensors").items()
        if n.endswith("_proj.bias") and "self" in n
    ]
    assert len(biases) == 6 and not any(bias.any() for bias in biases)


def test_text_logits_of_mimo_are_kept_without_its_mtp_layers(made, vision, tmp_path, capsys):
    language, folder = made["mimo"]
    config = json.loads((language / "config.json").read_text())
    fields = {k: v for k, v in config.items() if k not in ("model_type", "auto_map", "architectures")}
    reference = Qwen2ForCausalLM.from_pretrained(language, config=Qwen2Config.from_dict(fields))
    assert reference.config.rope_parameters["rope_theta"] == 640000.0
    assert_same_text_logits(reference, folder)
    result = assemble(vision, language, tmp_path / "out")
    assert result.dropped["multi-token prediction"] == 13
    assert "left out, multi-token prediction: 13 tensors" in capsys.readouterr().out


@pytest.mark.parametrize("rope", ROPES)
def test_scaled_rope_is_refused_for_vllm_and_exact_in_transformers(rope, vision, tmp_path):
    parameters = {"rope_type": rope, "rope_theta": 10000.0, **ROPES[rope]}
    language = sources.llama(tmp_path / "lm", rope_parameters=parameters, max_position_embeddings=256)
    with pytest.raises(CheckpointError, match=f"vLLM computes RoPE type '{rope}' wrongly"):
        assemble(vision, language, tmp_path / "out", quiet=True)
    assemble(vision, language, tmp_path / "out", need_vllm=False, quiet=True)
    assert_same_text_logits(LlamaForCausalLM.from_pretrained(language), tmp_path / "out")


def test_yarn_of_a_qwen3_is_refused_for_vllm_and_exact_in_transformers(qwen3_vision, tmp_path):
    parameters = {"rope_type": "yarn", "rope_theta": 10000.0, **ROPES["yarn"]}
    language = sources.qwen3(tmp_path / "lm", rope_parameters=parameters, max_position_embeddings=256)
    with pytest.raises(CheckpointError, match="vLLM computes RoPE type 'yarn' wrongly"):
        assemble(qwen3_vision, language, tmp_path / "out", quiet=True)
    assemble(qwen3_vision, language, tmp_path / "out", need_vllm=False, quiet=True)
    assert_same_text_logits(Qwen3ForCausalLM.from_pretrained(language), tmp_path / "out")


def test_vision_features_before_the_projector_are_the_sources(made, vision, qwen3_vision):
    grids = torch.tensor([[1, 8, 6], [2, 4, 4]])
    for name, (_, folder) in made.items():
        model = load_model(folder)
        source = load_model(qwen3_vision if name.startswith("qwen3") else vision).model.visual
        side = model.config.vision_config.patch_size
        patches = torch.randn(8 * 6 + 4 * 4 * 2, 6 * side**2, generator=torch.Generator().manual_seed(0))
        seen: list[list[torch.Tensor]] = []
        for visual in (source, model.model.visual):
            layers: list[torch.Tensor] = []
            for block in visual.blocks:  # DeepStack's features are those between the layers
                block.register_forward_hook(lambda _, inputs, output, layers=layers: layers.append(output))
            with torch.no_grad():
                features = visual(patches, grid_thw=grids)
            seen.append([*layers, features.last_hidden_state])
        assert len(seen[0]) == len(seen[1]) > 3
        assert all(torch.equal(a, b) for a, b in zip(*seen, strict=True))
        # 80 patches, 2x2 merged
        width = model.config.text_config.hidden_size
        for merged in (features.pooler_output, *getattr(features, "deepstack_features", [])):
            assert merged.shape == (20, width)


def test_projector_is_new_and_depends_on_the_seed_alone(made, vision, tmp_path):
    language, folder = made["qwen2"]
    for seed in (0, 1):
        assemble(vision, language, tmp_path / str(seed), seed=seed, quiet=True)
    first, second = (load_file(tmp_path / s / "model.safetensors") for s in ("0", "1"))
    assert (folder / "model.safetensors").read_bytes() == (tmp_path / "0" / "model.safetensors").read_bytes()
    changed = {name for name in first if not torch.equal(first[name], second[name])}
    assert changed == {"visual.merger.mlp.0.weight", "visual.merger.mlp.2.weight"}
    assert first["visual.merger.mlp.0.weight"].std().item() == pytest.approx(0.02, rel=0.05)
    assert first["visual.merger.ln_q.weight"].eq(1).all() and not first["visual.merger.mlp.2.bias"].any()


def test_projectors_of_deepstack_are_new_too(made, qwen3_vision, tmp_path):
    language, folder = made["qwen3"]
    assemble(qwen3_vision, language, tmp_path / "1", seed=1, quiet=True)
    first, second = (load_file(f / "model.safetensors") for f in (folder, tmp_path / "1"))
    changed = {name for name in first if not torch.equal(first[name], second[name])}
    mergers = ("merger", "deepstack_merger_list.0", "deepstack_merger_list.1")
    assert changed == {f"model.visual.{m}.linear_fc{i}.weight" for m in mergers for i in (1, 2)}
    assert first["model.visual.deepstack_merger_list.0.linear_fc1.weight"].std().item() == pytest.approx(
        0.02, rel=0.05
    )
    assert first["model.visual.deepstack_merger_list.1.norm.weight"].eq(1).all()
    assert not any(first[f"model.visual.{m}.{b}.bias"].any() for m in mergers for b in ("norm", "linear_fc2"))


def test_config_of_a_qwen3_vl_carries_what_its_positions_and_heads_need(made, qwen3_vision):
    for name in ("qwen3", "qwen3-tied"):
        config = json.loads((made[name][1] / "config.json").read_text())
        text = config["text_config"]
        assert config["tie_word_embeddings"] == text["tie_word_embeddings"] == ("tied" in name)
        assert text["head_dim"] == 64 and text["rms_norm_eps"] == 1e-4
        rope = {"rope_type": "default", "rope_theta": 5e6, "mrope_section": [12, 10, 10]}
        assert text["rope_parameters"] == rope | {"mrope_interleaved": True}
        assert config["vision_config"]["deepstack_visual_indexes"] == [0, 2]
    source, ours = (load_processor(f) for f in (qwen3_vision, made["qwen3"][1]))
    assert ours.video_processor.size == source.video_processor.size
    assert list(ours.image_processor.image_mean) == [0.5] * 3


def test_missing_tokens_are_added_and_existing_rows_stay(made):
    language, folder = made["llama"]
    before, after = (load_file(f / "model.safetensors") for f in (language, folder))
    tokenizer = load_processor(folder).tokenizer
    assert tokenizer.eos_token == "<|im_end|>" and tokenizer.pad_token == "<|endoftext|>"
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        rows = len(before[name])
        assert len(after[name]) % 64 == 0 and len(after[name]) >= len(tokenizer) > rows
        assert torch.equal(after[name][:rows], before[name])
        new = after[name][rows:]
        assert (new - before[name].mean(0)).abs().max() < before[
            name
        ].std()  # near the mean row, all distinct
        assert len(new.unique(dim=0)) == len(new)
    for token in CHAT_TOKENS + VISION_TOKENS:
        assert tokenizer.encode(token) == [tokenizer.convert_tokens_to_ids(token)]


def test_begin_token_moves_from_the_tokenizer_into_the_template(made):
    processor = load_processor(made["llama"][1])
    encoded = encode(processor, [{"role": "user", "content": "how many"}])
    assert encoded.input_ids.tolist().count(processor.tokenizer.bos_token_id) == 1
    assert encoded.input_ids[0] == processor.tokenizer.bos_token_id
    assert processor.tokenizer.bos_token_id not in processor.tokenizer("how many")["input_ids"]


def test_real_qwen_vocabulary_keeps_its_ids(shared_data):
    vocabulary = extend_vocabulary(shared_data / "qwen_tokenizer", Qwen2Config(vocab_size=151936))
    assert (vocabulary.added, vocabulary.size) == ((), 151936)
    assert [vocabulary.id(t) for t in CHAT_TOKENS + VISION_TOKENS] == [
        151644,
        151645,
        151652,
        151653,
        151654,
        151655,
        151656,
    ]


def test_shards_hold_the_same_weights_as_one_file(made, vision, tmp_path):
    language, folder = made["qwen2"]
    result = assemble(vision, language, tmp_path / "out", max_shard_bytes=200_000, quiet=True)
    index = json.loads((tmp_path / "out" / "model.safetensors.index.json").read_text())
    assert len(result.files) > 4 and set(index["weight_map"].values()) == set(result.files)
    assert all(f"-of-{len(result.files):05d}." in name for name in result.files)
    whole = load_file(folder / "model.safetensors")
    parts = {n: w for f in result.files for n, w in load_file(tmp_path / "out" / f).items()}
    assert parts.keys() == whole.keys() and all(torch.equal(parts[n], w) for n, w in whole.items())
    assert index["metadata"]["total_size"] == sum(w.nbytes for w in whole.values())
    assert load_model(tmp_path / "out").state_dict().keys() == load_model(folder).state_dict().keys()


def test_types_stay_as_stored_unless_one_is_asked_for(vision, tmp_path):
    language = sources.qwen2(tmp_path / "lm", dtype=torch.bfloat16)
    assemble(vision, language, tmp_path / "kept", quiet=True)
    kept = load_file(tmp_path / "kept" / "model.safetensors")
    assert kept["visual.blocks.0.attn.qkv.weight"].dtype == torch.float32
    assert {kept[n].dtype for n in ("model.norm.weight", "visual.merger.mlp.0.weight")} == {torch.bfloat16}
    assert json.loads((tmp_path / "kept" / "config.json").read_text())["dtype"] == "bfloat16"
    assemble(vision, language, tmp_path / "cast", dtype="float16", quiet=True)
    assert {w.dtype for w in load_file(tmp_path / "cast" / "model.safetensors").values()} == {torch.float16}


def test_config_carries_what_positions_and_generation_need(made, vision):
    for name, (language, folder) in made.items():
        if name.startswith("qwen3"):
            continue
        config = json.loads((folder / "config.json").read_text())
        text, source = config["text_config"], json.loads((language / "config.json").read_text())
        assert text["rms_norm_eps"] == 1e-4 and config["vision_config"]["tokens_per_second"] == 2
        assert config["tie_word_embeddings"] == ("tied" in name)
        rope = dict(text["rope_parameters"])
        assert rope.pop("mrope_section") == [4, 6, 6]
        assert rope == source.get("rope_parameters", {"rope_type": "default", "rope_theta": 640000.0})
        tokenizer = load_processor(folder).tokenizer
        ends = json.loads((folder / "generation_config.json").read_text())["eos_token_id"]
        assert ends[0] == tokenizer.eos_token_id == text["eos_token_id"] and source["eos_token_id"] in ends
    made_of = load_processor(made["mimo"][1])
    assert made_of.image_processor.size == load_processor(vision).image_processor.size


@pytest.mark.parametrize(
    ("tower", "head_dim", "section"),
    [
        ("qwen2_5_vl", 128, [16, 24, 24]),
        ("qwen2_5_vl", 64, [8, 12, 12]),
        ("qwen2_5_vl", 80, [10, 15, 15]),
        ("qwen2_5_vl", 6, [1] * 3),
        ("qwen3_vl", 128, [24, 20, 20]),
        ("qwen3_vl", 32, [6, 5, 5]),
    ],
)
def test_mrope_sections_are_qwens_in_proportion(tower, head_dim, section):
    assert mrope_section(TOWERS[tower], head_dim) == section


def test_sizes_of_mimo_vl_give_its_projector(shared_data):
    """Published configs of Qwen2.5-VL-7B's ViT and MiMo-7B, in their old form; no weights are needed for shapes."""
    tower, vision = read_vision_config(
        Path("qwen"),
        {
            "model_type": "qwen2_5_vl",
            "vision_config": {
                "depth": 32,
                "hidden_act": "silu",
                "hidden_size": 1280,
                "intermediate_size": 3420,
                "num_heads": 16,
                "in_chans": 3,
                "out_hidden_size": 3584,
                "patch_size": 14,
                "spatial_merge_size": 2,
                "spatial_patch_size": 14,
                "window_size": 112,
                "fullatt_block_indexes": [7, 15, 23, 31],
                "tokens_per_second": 2,
                "temporal_patch_size": 2,
            },
        },
    )
    language = read_language_config(
        Path("mimo"),
        {
            "model_type": "mimo",
            "architectures": ["MiMoForCausalLM"],
            "attention_bias": True,
            "head_dim": 128,
            "hidden_size": 4096,
            "intermediate_size": 11008,
            "max_position_embeddings": 32768,
            "max_window_layers": 36,
            "num_attention_heads": 32,
            "num_hidden_layers": 36,
            "num_key_value_heads": 8,
            "num_nextn_predict_layers": 1,
            "rms_norm_eps": 1e-05,
            "rope_scaling": None,
            "rope_theta": 640000,
            "tie_word_embeddings": False,
            "torch_dtype": "bfloat16",
            "use_sliding_window": False,
            "vocab_size": 151680,
        },
        tower=tower,
        need_vllm=True,
    )
    config = build_config(
        tower, language, vision, extend_vocabulary(shared_data / "qwen_tokenizer", language)
    )
    assert config.text_config.rope_parameters == {
        "rope_type": "default",
        "rope_theta": 640000,
        "mrope_section": [16, 24, 24],
    }
    assert (config.image_token_id, config.text_config.vocab_size) == (151655, 151680)
    with torch.device("meta"):
        counts = count_parameters(Qwen2_5_VLForConditionalGeneration(config))
    assert counts["projector"].trained == 1280 + 5120 * 5120 + 5120 + 5120 * 4096 + 4096
    attention = 2 * 4096 * (4096 + 1024) + 4096 + 2 * 1024  # q and o, k and v, biases of q, k, v
    layer = attention + 3 * 4096 * 11008 + 2 * 4096
    assert counts["language"].trained == 2 * 151680 * 4096 + 36 * layer + 4096


def test_output_is_replaced_only_on_request_and_only_when_complete(made, vision, tmp_path, monkeypatch):
    language = made["qwen2"][0]
    out = tmp_path / "models" / "out"
    out.mkdir(parents=True)
    (out / "mine.txt").write_text("precious")
    with pytest.raises(FileExistsError, match="not empty"):
        assemble(vision, language, out, quiet=True)

    def interrupted(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(assemble_module, "_write_configs", interrupted)  # all weights are written by then
        with pytest.raises(KeyboardInterrupt):
            assemble(vision, language, out, overwrite=True, quiet=True)
    assert [p.name for p in out.parent.iterdir()] == ["out"] and (out / "mine.txt").read_text() == "precious"

    assemble(vision, language, out, overwrite=True, quiet=True)
    assert [p.name for p in out.parent.iterdir()] == ["out"] and not (out / "mine.txt").exists()
    load_model(out)
    with pytest.raises(CheckpointError, match="would replace its own source"):
        assemble(vision, language, language, overwrite=True, quiet=True)


def test_command_line_assembles_and_reports_errors_in_one_line(made, vision, tmp_path, capsys):
    arguments = [
        "--vision",
        str(vision),
        "--language",
        str(made["llama"][0]),
        "--output",
        str(tmp_path / "out"),
    ]
    main([*arguments, "--max-shard-size", "300KB"])
    assert (
        "q/k/v biases that the language model does not have, written as zeros: 6" in capsys.readouterr().out
    )
    assert len(list((tmp_path / "out").glob("model-*.safetensors"))) > 1
    with pytest.raises(SystemExit, match=r"error: .*not empty \(--overwrite replaces it\)"):
        main(arguments)


_PEAK = """
import sys
from vlm.assemble import assemble

def status(field):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(field + ":")) * 1024

vision, small, large, out = sys.argv[1:]
assemble(vision, small, out + "-small", quiet=True)  # imports and caches
before = status("VmRSS")
open("/proc/self/clear_refs", "w").write("5")  # restart the high-water mark
assemble(vision, large, out, quiet=True, max_shard_bytes=10**9)
print(status("VmHWM") - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="reads peak memory from Linux's /proc")
def test_peak_memory_is_a_fraction_of_the_models(made, vision, tmp_path):
    large = sources.qwen2(
        tmp_path / "large", hidden_size=512, intermediate_size=2048, num_hidden_layers=10, vocab_size=4000
    )
    weights = (large / "model.safetensors").stat().st_size
    command = [sys.executable, "-c", _PEAK, vision, made["qwen2"][0], large, tmp_path / "out"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, env=_one_thread())
    assert done.returncode == 0, done.stderr
    rise = int(done.stdout.split()[-1])
    assert weights > 150e6
    assert rise < weights / 5, f"peak memory rose by {rise:,} bytes for {weights:,} bytes of weights"


def _one_thread() -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}


SERVED = ("llama", "qwen2-tied", "qwen3")


@pytest.fixture(scope="module")
def served(made, tmp_path_factory) -> dict[str, list[dict]]:
    """What vLLM generates from assembled models, one process for all."""
    pytest.importorskip("vllm")
    out = tmp_path_factory.mktemp("vllm") / "out.json"
    folders = [str(made[name][1]) for name in SERVED]
    command = [sys.executable, "-m", "tests.vlm.vllm_probe", str(out), *folders]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, env=_one_thread())
    assert done.returncode == 0, done.stderr[-3000:]
    return dict(zip(SERVED, json.loads(out.read_text()).values(), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("name", SERVED)
def test_vllm_samples_what_transformers_computes(made, served, name):
    from tests.vlm.vllm_probe import probe_image

    folder = made[name][1]
    model, processor = load_model(folder), load_processor(folder)
    for entry in served[name]:
        content = ([{"type": "image"}] if entry["image"] else []) + [
            {"type": "text", "text": "how many red boxes"}
        ]
        images = [probe_image()] if entry["image"] else []
        prompt = encode(processor, [{"role": "user", "content": content}], images)
        assert prompt.input_ids.tolist() == entry["prompt_ids"]
        ids = torch.tensor(entry["ids"])
        positions = torch.arange(len(ids)).expand(3, -1) + prompt.next_position
        with torch.no_grad():
            logits = model(
                input_ids=torch.cat([prompt.input_ids, ids])[None],
                position_ids=torch.cat([prompt.position_ids, positions], 1)[:, None],
                pixel_values=prompt.pixel_values,
                image_grid_thw=prompt.image_grid_thw,
            ).logits[0, len(prompt) - 1 : -1]
        logits[:, entry["suppressed"]] = -torch.inf
        logprobs = logits.log_softmax(-1).gather(-1, ids[:, None])[:, 0]
        torch.testing.assert_close(logprobs, torch.tensor(entry["logprobs"]), rtol=0, atol=1e-4)
