"""Paths in configs: `~` is the home folder, whoever reads it (a shell leaves it alone after `=`)."""

from __future__ import annotations

import os
from typing import Annotated

from pydantic import AfterValidator

PathText = Annotated[str, AfterValidator(os.path.expanduser)]
"""A path (or a Hub id, which has no `~`) as text."""
