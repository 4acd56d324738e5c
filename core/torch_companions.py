"""Make PyPI's torchvision, torchaudio and torchcodec work with a CPU build of torch.

PyPI's wheels of the three are compiled against CUDA torch, so with a CPU torch their compiled extensions fail to load:
`import torchvision` raises "operator torchvision::nms does not exist", the other two an OSError. transformers and vLLM
import all three. No torchvision operator is used here, so it is enough to declare the schemas of the two that its import
needs. Audio is not used and videos are decoded by PyAV, so the other two are hidden as if not installed. CPU builds
(version `…+cpu`) are left alone. Importing core, vlm or engines is enough, also in a
child process.
"""

from __future__ import annotations

import importlib.abc
import sys
from importlib.metadata import PackageNotFoundError, version

_TORCHVISION_OPS = ("nms", "qnms")


class _DeclareOpsFirst(importlib.abc.MetaPathFinder):
    """Declares the operators at the first import of torchvision, so that adapting does not import torch."""

    library = None  # torch.library.Library; the declarations are dropped when it is deleted

    def find_spec(self, fullname, path=None, target=None):
        if fullname == "torchvision":
            sys.meta_path.remove(self)
            import torch

            library = torch.library.Library("torchvision", "DEF")
            for op in _TORCHVISION_OPS:
                library.define(f"{op}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            _DeclareOpsFirst.library = library
        return None  # noqa: RET501  "not found here", in the protocol of finders


def _mismatched(package: str) -> bool:
    """True if torch is a CPU build and `package` is installed, but not as a CPU build."""
    try:
        return version("torch").endswith("+cpu") and not version(package).endswith("+cpu")
    except PackageNotFoundError:
        return False


def adapt_torch_companions() -> None:
    """Make torchvision importable, and hide the others, if their builds do not match torch's; idempotent."""
    waiting = any(isinstance(finder, _DeclareOpsFirst) for finder in sys.meta_path)
    declared = (
        _DeclareOpsFirst.library is not None
    )  # by a mere look whether torchvision is there (importlib's find_spec)
    if "torchvision" not in sys.modules and not (waiting or declared) and _mismatched("torchvision"):
        sys.meta_path.insert(0, _DeclareOpsFirst())
    for package in ("torchaudio", "torchcodec"):
        if package not in sys.modules and _mismatched(package):
            sys.modules[package] = None  # type: ignore[assignment]  # importing it raises ModuleNotFoundError
