#!/usr/bin/env bash
# SFT of Qwen2.5-VL-7B on structured traces, on 8 H100s: DeepSpeed ZeRO-3.
#
#   bash launch/sft_8xh100.sh data.rows=traces.jsonl output_dir=runs/sft    start
#   bash launch/sft_8xh100.sh --dry-run                                      check the config, on any machine
#   bash launch/sft_8xh100.sh --config mine.yaml                             use another config
#
# Everything after the script's name goes to sft.py. Variables for several machines: launch/common.sh.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$here/common.sh"
launch sft "$here/configs/sft_qwen2_5_vl_7b.yaml" "$@"
