"""Tests of which another one of the same kind always runs; all of them with ONSIGHT_MATRIX=all, some 15 minutes more."""

from __future__ import annotations

import os

import pytest

WHOLE = os.environ.get("ONSIGHT_MATRIX") == "all"
of_the_matrix = pytest.mark.skipif(not WHOLE, reason="of the whole matrix: ONSIGHT_MATRIX=all")
