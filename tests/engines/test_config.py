"""The engine section: one kind at a time, and no setting of another."""

from __future__ import annotations

import pytest

from core.config import ConfigError, Section, describe, read_config
from engines.config import EngineConfig, TransformersConfig, VLLMConfig


class Program(Section):
    engine: EngineConfig = VLLMConfig()
    """What generates."""


def read(*overrides: str) -> Program:
    return read_config(Program, None, overrides)


def test_the_kind_says_which_settings_there_are():
    assert read() == read("engine.kind=vllm") == Program(engine=VLLMConfig())
    assert read("engine.max_model_len=64", "engine.block_size=16").engine == VLLMConfig(
        max_model_len=64, block_size=16
    )
    transformers = read("engine.kind=transformers", "engine.max_model_len=64").engine
    assert transformers == TransformersConfig(max_model_len=64)
    assert Program.model_validate({"engine": transformers}).engine is transformers


@pytest.mark.parametrize(
    "setting", sorted(set(VLLMConfig.model_fields) - set(TransformersConfig.model_fields))
)
def test_a_setting_of_another_kind_is_an_error_that_names_it_and_its_kind(setting):
    with pytest.raises(
        ConfigError, match=rf"'engine\.{setting}' is a setting of kind 'vllm'; engine\.kind is 'transf"
    ):
        read("engine.kind=transformers", f"engine.{setting}=1")


def test_an_unknown_kind_or_setting_is_one_clear_error():
    with pytest.raises(ConfigError, match=r"'engine\.kind': expected 'vllm' \| 'transformers', got 'sglang'"):
        read("engine.kind=sglang")
    with pytest.raises(
        ConfigError, match=r"unknown key 'engine\.block_sizes', did you mean 'engine\.block_size'"
    ):
        read("engine.block_sizes=1")


def test_help_shows_common_settings_once_and_the_others_with_their_kind():
    text = describe(Program)
    assert text.count("engine.max_model_len:") == text.count("engine.kind:") == 1
    line = next(line for line in text.splitlines() if "engine.block_size:" in line)
    assert "[kind: vllm]" in line
