"""What the processes of a run must agree on."""

from __future__ import annotations

import pytest

from core.errors import RunError
from core.processes import ranks


def test_processes_that_have_other_commits_stop(monkeypatch):
    """A stand-in for two processes: what the second would send is added to what this one does."""
    ranks.refuse_different({"me/tiny": "a"}, "pin it")  # alone
    for second, differs in (({"me/tiny": "a"}, False), ({"me/tiny": "b"}, True), ({}, True)):
        monkeypatch.setattr(ranks, "gather_object", lambda mine, second=second: [*mine, second])
        if differs:
            with pytest.raises(
                RunError, match="^me/tiny: expected the same on all processes, got .*; pin it"
            ):
                ranks.refuse_different({"me/tiny": "a"}, "pin it")
        else:
            ranks.refuse_different({"me/tiny": "a"}, "pin it")
