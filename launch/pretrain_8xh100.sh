#!/usr/bin/env bash
# One of the four training stages (projector, alignment, multimodal, long context), on 8 H100s: DeepSpeed ZeRO-3.
#
#   bash launch/pretrain_8xh100.sh model.path=runs/assembled                            stage 1
#   bash launch/pretrain_8xh100.sh --config launch/configs/stage2_alignment.yaml        another stage
#   bash launch/pretrain_8xh100.sh --dry-run                                            check the config, on any machine
#   python -m launch.stages                                                             all four in order, with this script
#
# Everything after the script's name goes to pretrain.py. Variables for several machines: launch/common.sh.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$here/common.sh"
launch pretrain "$here/configs/stage1_projector.yaml" "$@"
