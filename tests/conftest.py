"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.torch_companions import adapt_torch_companions

adapt_torch_companions()  # before a test module imports torchvision
REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of small real data sets next to the repository; tests that need it are skipped if it is absent."""
    path = Path(os.environ.get("ONSIGHT_SHARED", REPOSITORY.parent / "shared")) / "data"
    if not path.is_dir():
        pytest.skip(f"real data sets not found at {path} (set ONSIGHT_SHARED to the folder that holds data/)")
    return path


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keeps the cache of row checks (vlm/preflight.py) out of the user's cache folder, also in child processes."""
    before = os.environ.get("ONSIGHT_CACHE")
    os.environ["ONSIGHT_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    yield
    if before is None:
        del os.environ["ONSIGHT_CACHE"]
    else:
        os.environ["ONSIGHT_CACHE"] = before
