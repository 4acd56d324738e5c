"""Let PyPI's torchvision load beside a CPU build of torch.

PyPI's torchvision wheel is compiled against CUDA torch. Beside a CPU torch its compiled operators cannot be
loaded, and `import torchvision` raises "operator torchvision::nms does not exist", although the image and video
processors used here need none of them. Declaring the two schemas first is enough. A CPU build of torchvision,
where one is installed, defines the operators itself; it is left alone.
"""

from __future__ import annotations

import importlib.abc
import importlib.metadata
import sys

_OPS = ("nms", "qnms")


class _DeclareOpsFirst(importlib.abc.MetaPathFinder):
    """Waits for the first import of torchvision, so that torch is imported only when it is needed anyway."""

    library = None  # torch.library.Library: the declarations live as long as this object

    def find_spec(self, fullname, path=None, target=None):
        if fullname == "torchvision":
            sys.meta_path.remove(self)
            if _compiled_against_cuda():
                import torch

                library = torch.library.Library("torchvision", "DEF")
                for op in _OPS:
                    library.define(f"{op}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
                _DeclareOpsFirst.library = library
        return None


def _compiled_against_cuda() -> bool:
    """True if torch is a CPU build and the installed torchvision is not."""
    import torch

    if torch.version.cuda is not None:
        return False
    try:
        return not importlib.metadata.version("torchvision").endswith("+cpu") and "+cpu" in torch.__version__
    except importlib.metadata.PackageNotFoundError:
        return False


def declare_torchvision_ops() -> None:
    """Install the import hook once; does nothing if torchvision is already imported."""
    if "torchvision" in sys.modules or any(isinstance(f, _DeclareOpsFirst) for f in sys.meta_path):
        return
    sys.meta_path.insert(0, _DeclareOpsFirst())
