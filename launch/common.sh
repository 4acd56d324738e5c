# Sourced by the launch scripts: `launch KIND DEFAULT_CONFIG "$@"` starts KIND.py under accelerate and DeepSpeed ZeRO-3.
#
# One machine needs no variables. With several, start the same script on each of them:
#   NNODES=4 NODE_RANK=0 MASTER_ADDR=node0 bash launch/grpo_8xh100.sh …       (NODE_RANK=1 on the second, and so on)
# Variables and their defaults:
#   NNODES=1  NODE_RANK=0  GPUS_PER_NODE=8  MASTER_ADDR=127.0.0.1  MASTER_PORT=29500
#   PYTHON            interpreter; .venv's if there is one
#   DEEPSPEED_CONFIG  launch/deepspeed/zero3.json
#   TORCH_ELASTIC_SHUTDOWN_TIMEOUT=600   seconds that a run has, after SIGTERM or Ctrl-C, to save before it is killed

launch() {
    local kind=$1 config=$2
    shift 2
    local root here python
    here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
    root=$(dirname "$here")
    python=${PYTHON:-$root/.venv/bin/python}
    [ -x "$python" ] || python=$(command -v python3) || { echo "no python found: make install, or set PYTHON" >&2; return 1; }

    local machines=${NNODES:-1} gpus=${GPUS_PER_NODE:-8} deepspeed=${DEEPSPEED_CONFIG:-$here/deepspeed/zero3.json}
    # Packages are found from any directory; relative paths of the user stay relative to the current directory.
    export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"
    export TOKENIZERS_PARALLELISM=false
    export TORCH_ELASTIC_SHUTDOWN_TIMEOUT=${TORCH_ELASTIC_SHUTDOWN_TIMEOUT:-600} # torch's 30 end the saving of a large model

    local start=(
        "$python" -m accelerate.commands.launch
        --config_file "$here/accelerate/zero3.yaml" --deepspeed_config_file "$deepspeed"
        --num_machines "$machines" --machine_rank "${NODE_RANK:-0}" --num_processes $((machines * gpus))
        --main_process_ip "${MASTER_ADDR:-127.0.0.1}" --main_process_port "${MASTER_PORT:-29500}"
        "$root/$kind.py" --config "$config" "$@"
    )
    local check=("$python" -m launch.plan "$kind" --machines "$machines" --gpus "$gpus" --deepspeed "$deepspeed"
        --accelerate "$here/accelerate/zero3.yaml" --config "$config" "$@")
    case " $* " in
        *" --dry-run "*)
            "${check[@]}"
            printf 'command:'
            printf ' %q' "${start[@]}" | sed 's/ --dry-run//'
            echo
            ;;
        *" --help "*) exec "$python" "$root/$kind.py" --help ;;
        *)
            "${check[@]}" --here # one clear error, instead of one from every process
            exec "${start[@]}"
            ;;
    esac
}
