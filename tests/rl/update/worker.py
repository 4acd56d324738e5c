"""One of two processes that compute an update together; started by test_update_processes.py.

    python worker.py MODE MODEL_FOLDER OUT_FILE

MODE is "ddp" or "zero3". Process 0 has images and a video, process 1 a text group and fillers only, so that every
micro-batch runs other modules on one process than on the other would without dummy media. Process 0 writes the
gradients of all parameters to OUT_FILE.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

os.environ.setdefault("DS_ACCELERATOR", "cpu")

import torch
import torch.distributed as dist

import vlm  # noqa: F401
from rl.packing import fill, pack
from rl.update import policy_gradient
from vlm.load import load_processor

TEMPERATURE, TOTAL_TOKENS, MAX_TOKENS = 0.8, 100, 60


def cases():
    spec = importlib.util.spec_from_file_location("update_cases", Path(__file__).with_name("conftest.py"))
    module = importlib.util.module_from_spec(spec)
    sys.modules["update_cases"] = module
    spec.loader.exec_module(module)
    return module


def zero3(model):
    import deepspeed

    settings = {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "zero_optimization": {"stage": 3, "stage3_param_persistence_threshold": 0},
        "optimizer": {"type": "AdamW", "params": {"lr": 1e-3, "torch_adam": True}},
    }
    return deepspeed.initialize(model=model, config=settings)[0]


def main(mode: str, folder: str, out: str) -> None:
    torch.set_num_threads(1)
    rank = int(os.environ["RANK"])
    if mode == "ddp":
        dist.init_process_group("gloo")
    else:
        import deepspeed

        deepspeed.init_distributed("gloo")
    lab = cases().Lab(Path(folder), load_processor(folder))
    model = lab.model().train()
    wrapped = torch.nn.parallel.DistributedDataParallel(model) if mode == "ddp" else zero3(model)

    groups = (
        [g for name in ("image", "video", "images") for g in lab.groups(name)]
        if rank == 0
        else lab.groups("text")
    )
    batches = pack(groups, max_tokens=MAX_TOKENS)
    count = torch.tensor(len(batches))
    dist.all_reduce(count, dist.ReduceOp.MAX)
    assert rank == 0 or len(batches) < count
    for i, batch in enumerate(fill(batches, int(count))):
        out_of_batch = policy_gradient(
            wrapped,
            batch,
            total_tokens=TOTAL_TOKENS,
            temperature=TEMPERATURE,
            suppressed_ids=lab.suppressed,
            ranks=2,
            media=("image", "video"),
        )
        if mode == "ddp":
            out_of_batch.loss.backward()
        else:
            wrapped.set_gradient_accumulation_boundary(i == int(count) - 1)
            wrapped.backward(out_of_batch.loss)
    if mode == "ddp":
        gradients = {n: p.grad for n, p in model.named_parameters()}
    else:
        from deepspeed.utils import safe_get_full_grad

        gradients = {n: safe_get_full_grad(p) for n, p in model.named_parameters()}
    if rank == 0:
        torch.save(gradients, out)
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
    # Without the interpreter's own clean-up, in which gloo's threads have been seen to hang.
    sys.stdout.flush()
    os._exit(0)
