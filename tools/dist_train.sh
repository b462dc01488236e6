#!/usr/bin/env bash
# Train with several processes on this machine (GPUs, or CPU processes where there are none):
#   tools/dist_train.sh CONFIG NPROC [tools/train.py's flags]
# Several machines: NNODES, NODE_RANK, MASTER_ADDR and PORT in the environment.
set -e
CONFIG=$1
NPROC=$2
exec python -m torch.distributed.run \
    --nnodes="${NNODES:-1}" \
    --node_rank="${NODE_RANK:-0}" \
    --master_addr="${MASTER_ADDR:-127.0.0.1}" \
    --master_port="${PORT:-29500}" \
    --nproc_per_node="$NPROC" \
    "$(dirname "$0")/train.py" "$CONFIG" --launcher pytorch "${@:3}"
