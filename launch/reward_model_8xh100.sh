#!/usr/bin/env bash
# A multimodal reward model from an SFT checkpoint of Qwen2.5-VL-7B, on 8 H100s: DeepSpeed ZeRO-3.
#
#   bash launch/reward_model_8xh100.sh data.rows=pairs.jsonl output_dir=runs/rm    start
#   bash launch/reward_model_8xh100.sh --dry-run                                  check the config, on any machine
#   bash launch/reward_model_8xh100.sh --config mine.yaml                         use another config
#
# Everything after the script's name goes to reward_model.py. Variables for several machines: launch/common.sh.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$here/common.sh"
launch reward_model "$here/configs/reward_model_qwen2_5_vl_7b.yaml" "$@"
