"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from core.torch_companions import adapt_torch_companions

os.environ["HF_HUB_OFFLINE"] = "1"  # no test reaches for the real Hub; tests/hub_stand_in.py stands in for it
adapt_torch_companions()  # before a test module imports torchvision

from vlm.families import DEFAULT_FAMILY, FAMILIES  # noqa: E402

REPOSITORY = Path(__file__).parents[1]
NOT_IN_VLLM = {"qwen3_5"}
"""vLLM's CPU build (0.31) has kernels for linear attention in bfloat16 only."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Tests with a model run on the default family's, those marked `every_family` on one of each that takes videos; InternVL
    has tests of its own (tests/engines/test_internvl.py)."""
    own = any("family" in marker.args[0] for marker in metafunc.definition.iter_markers("parametrize"))
    if "family" in metafunc.fixturenames and not own:
        every = metafunc.definition.get_closest_marker("every_family")
        names = [name for name in FAMILIES if name != "internvl"] if every else [DEFAULT_FAMILY]
        metafunc.parametrize("family", names, indirect=True, scope="session")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Makes no cases of a family that vLLM cannot run here."""
    items[:] = [
        item for item in items if not (_uses_vllm(item) and _params(item).get("family") in NOT_IN_VLLM)
    ]


def _params(item: pytest.Item) -> dict[str, Any]:
    return item.callspec.params if hasattr(item, "callspec") else {}


def _uses_vllm(item: pytest.Item) -> bool:
    return _params(item).get("engine") == "vllm" or "vllm_engine" in getattr(item, "fixturenames", ())


@pytest.fixture(scope="session")
def family(request: pytest.FixtureRequest) -> str:
    """`model_type` of the family whose tiny model a test runs on."""
    return request.param


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
