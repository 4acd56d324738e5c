#!/usr/bin/env bash
# On-policy GRPO of Qwen2.5-VL-7B on 8 H100s: DeepSpeed ZeRO-3, a vLLM engine in each trainer process that sleeps
# during the update.
#
#   bash launch/grpo_8xh100.sh prompts.rows=rows.jsonl output_dir=runs/grpo    start, or resume the run in output_dir
#   bash launch/grpo_8xh100.sh --dry-run                                       check the config, on any machine
#   bash launch/grpo_8xh100.sh --config mine.yaml                              use another config
#
# Everything after the script's name goes to grpo.py. Variables for several machines: launch/common.sh.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$here/common.sh"
launch grpo "$here/configs/grpo_qwen2_5_vl_7b.yaml" "$@"
