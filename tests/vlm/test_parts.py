"""Presets of trainable parts, with and without LoRA."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from transformers import PreTrainedModel

from vlm.families import FAMILIES, family_of_model
from vlm.lora import LoraSettings, add_lora, lora_config, lora_targets
from vlm.parts import PRESETS, PartCount, count_parameters, part_of, set_trainable
from vlm.tiny import build_tokenizer, let_states_last, tiny_config

pytestmark = pytest.mark.every_family


@pytest.fixture
def model(family) -> PreTrainedModel:
    torch.manual_seed(0)
    config = tiny_config(build_tokenizer(["a b c"], 300), family=family, hidden=64, layers=2)
    made = FAMILIES[family].model_class()(config)
    let_states_last(made)
    return made


def trained_names(model: nn.Module) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


@pytest.mark.parametrize(
    ("preset", "parts"),
    [
        ("projector", {"projector"}),
        ("vision+projector", {"vision", "projector"}),
        ("language", {"language"}),
        ("all", {"vision", "projector", "language"}),
    ],
)
def test_a_preset_trains_exactly_its_parts(model, preset, parts):
    counts = set_trainable(model, preset)
    names = [name for name, _ in model.named_parameters()]
    assert trained_names(model) == {name for name in names if part_of(family_of_model(model), name) in parts}
    assert sum(c.trained + c.frozen for c in counts.values()) == sum(p.numel() for p in model.parameters())
    for part, count in counts.items():
        assert (count.trained > 0, count.frozen > 0) == (part in parts, part not in parts)


def test_parts_are_those_of_the_modules(model):
    counts = count_parameters(model)
    # the tied head is in it
    projector = [model.model.visual.merger, *getattr(model.model.visual, "deepstack_merger_list", [])]
    for part, modules in {"projector": projector, "language": [model.model.language_model]}.items():
        assert counts[part] == PartCount(sum(p.numel() for m in modules for p in m.parameters()), 0)


def test_tied_and_untied_heads_belong_to_the_language_model(model):
    set_trainable(model, "projector", quiet=True)
    assert not model.lm_head.weight.requires_grad
    set_trainable(model, "language", quiet=True)
    assert model.lm_head.weight.requires_grad and model.lm_head.weight is model.get_input_embeddings().weight
    model.lm_head.weight = nn.Parameter(model.lm_head.weight.detach().clone())
    before = count_parameters(model)["language"].trained
    set_trainable(model, "language", quiet=True)
    assert count_parameters(model)["language"].trained == before
    assert "lm_head.weight" in trained_names(model)


def test_frozen_parts_get_no_gradient(model):
    set_trainable(model, "projector", quiet=True)
    ids = torch.tensor([[1, model.config.image_token_id, 2]])
    side = model.config.vision_config.patch_size
    output = model(
        input_ids=ids,
        pixel_values=torch.randn(4, 3 * 2 * side * side),
        image_grid_thw=torch.tensor([[1, 2, 2]]),
        position_ids=torch.arange(3).expand(3, 1, 3),
        labels=ids,
    )
    output.loss.backward()
    assert {n for n, p in model.named_parameters() if p.grad is not None} == trained_names(model) != set()


def test_an_unknown_preset_names_the_known_ones(model):
    with pytest.raises(ValueError, match=r"'projetor'.*projector, vision\+projector, language, all"):
        set_trainable(model, "projetor")


def test_a_model_with_other_parts_is_refused():
    with pytest.raises(ValueError, match="Linear: expected a model of one of the families"):
        set_trainable(nn.Linear(2, 2), "all")


def test_the_table_is_printed_by_the_first_process_only(model, capsys, monkeypatch):
    counts = set_trainable(model, "vision+projector")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Trainable parts: vision+projector"
    assert lines[2].split() == ["vision", f"{counts['vision'].trained:,}", "0"]
    assert lines[5].split()[0] == "total"
    monkeypatch.setenv("RANK", "1")
    set_trainable(model, "all")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("targets", ["language", "all"])
def test_lora_sits_on_every_linear_layer_of_its_targets_and_nowhere_else(model, family, targets):
    linear = {name for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    wrapped = add_lora(model, LoraSettings(targets=targets))
    adapted = {
        name.removeprefix("base_model.model.") for name, m in wrapped.named_modules() if hasattr(m, "lora_A")
    }
    expected = {n for n in linear if "language_model" in n or ("visual.blocks" in n and targets == "all")}
    in_vision = {"qwen2_5_vl": 2 * 5, "qwen3_vl": 3 * 4, "qwen3_5": 2 * 4}[family]
    in_language = 7 + (8 if family == "qwen3_5" else 7)  # a layer of each kind in Qwen3.5
    assert adapted == expected and len(adapted) == in_language + (in_vision if targets == "all" else 0)


@pytest.mark.parametrize("preset", PRESETS)
def test_with_lora_a_part_with_adapters_trains_through_them_only(model, preset):
    wrapped = add_lora(model, LoraSettings(targets="language"))
    set_trainable(wrapped, preset, quiet=True)
    for name, parameter in wrapped.named_parameters():
        in_preset = part_of(family_of_model(model), name) in PRESETS[preset]
        base_of_language = part_of(family_of_model(model), name) == "language" and ".lora_" not in name
        assert parameter.requires_grad == (in_preset and not base_of_language), name


def test_merged_adapters_give_the_same_logits_under_the_plain_names(model):
    plain_names = set(model.state_dict())
    wrapped = add_lora(copy.deepcopy(model), LoraSettings(r=4, targets="all"))
    with torch.no_grad():
        for name, parameter in wrapped.named_parameters():
            if ".lora_" in name:
                parameter.normal_(0, 0.1)
    ids = torch.arange(20)[None]
    with torch.no_grad():
        before, adapted = model(input_ids=ids).logits, wrapped(input_ids=ids).logits
        merged = wrapped.merge_and_unload()
        after = merged(input_ids=ids).logits
    assert (adapted - before).abs().max() > 1e-3
    torch.testing.assert_close(after, adapted, rtol=0, atol=1e-5)
    assert set(merged.state_dict()) == plain_names


def test_lora_settings_reach_peft(family):
    settings = LoraSettings(r=8, alpha=24, dropout=0.1)
    config = lora_config(lora_targets(FAMILIES[family], settings), settings)
    assert (config.r, config.lora_alpha, config.lora_dropout) == (8, 24, 0.1)
