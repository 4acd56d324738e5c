"""lmms-eval's command line with checkpoints of ours as the model `onsight`.

pip install --no-deps -r evaluation/lmms/requirements.txt
python -m evaluation.lmms --model_args checkpoint=runs/grpo/final,max_pixels=1003520 --tasks mmstar,chartqa --output_path runs/lmms

All other options are lmms-eval's own.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.util import find_spec

import core.torch_companions  # noqa: F401  before lmms-eval imports torchvision

NEEDED = "lmms-eval is not installed: pip install --no-deps -r evaluation/lmms/requirements.txt"


def register() -> None:
    """Make `onsight` known to lmms-eval. Raises ModuleNotFoundError without it."""
    from lmms_eval import evaluator
    from lmms_eval.models import MODEL_REGISTRY_V2
    from lmms_eval.models.registry_v2 import ModelManifest

    MODEL_REGISTRY_V2.register_manifest(
        ModelManifest(model_id="onsight", chat_class_path="evaluation.lmms.model.OnsightChat"), overwrite=True
    )
    if (
        find_spec("filelock._api") is None
    ):  # lmms-eval 0.7.3 patches a module that recent filelock no longer has
        evaluator._enable_reentrant_filelocks._patched = True


def main(argv: Sequence[str] | None = None) -> None:
    """Runs lmms-eval; returns when it has written its results."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        register()
    except ModuleNotFoundError as error:
        sys.exit(
            NEEDED if error.name == "lmms_eval" else f"{error}: needed by lmms-eval; install it with pip"
        )
    from lmms_eval.__main__ import cli_evaluate

    sys.argv = ["lmms-eval", *([] if "--model" in arguments else ["--model", "onsight"]), *arguments]
    cli_evaluate()


if __name__ == "__main__":
    main()
