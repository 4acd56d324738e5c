"""What accelerate was asked for, and cannot be done here, is refused by name."""

from __future__ import annotations

import pytest

from core.errors import RunError
from core.processes.launch import refuse_fsdp
from rl.setup import join_processes
from tests.rl.small_run import small_config


@pytest.mark.parametrize("version", ["1", "2"])
def test_fsdp_is_refused_by_name(monkeypatch, tmp_path, version):
    refuse_fsdp()
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    monkeypatch.setenv("FSDP_VERSION", version)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")  # where accelerate would start DDP without a word
    with pytest.raises(
        RunError, match=rf"FSDP \(version {version}\), which is not supported: expected .*ZeRO-3"
    ):
        join_processes(small_config(tmp_path, tmp_path / "run"))
