"""How a program exits after invalid input or an interrupt by the user."""

from __future__ import annotations

import pytest

from core.errors import RunError
from core.processes.explained import explained


def test_ctrl_c_outside_the_training_loop_is_one_line(capsys):
    with pytest.raises(SystemExit) as left, explained():
        raise KeyboardInterrupt
    assert left.value.code == 130
    assert capsys.readouterr().err == "interrupted; nothing had to be saved\n"


def test_an_error_of_the_run_folder_is_one_line_without_endless_values():
    with pytest.raises(SystemExit) as left, explained():
        raise RunError("run: " + "A" * 100_000)
    assert str(left.value.code).startswith("error: run: AAA") and len(str(left.value.code)) < 400
