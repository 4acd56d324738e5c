"""Whether a test can draw with a real Chromium."""

from __future__ import annotations

import shutil

import pytest

from environments.gui.chromium import NAMES

needs_chromium = pytest.mark.skipif(
    not any(map(shutil.which, NAMES)), reason="Chromium is not installed (Debian: apt-get install chromium)"
)
