#!/usr/bin/env bash
# Check and measure paif_mm on a machine with an NVIDIA GPU, in at most 9 minutes and without a network:
#   bash tools/gpu_check.sh [--wheels DIR] [tools/gpu_check.py's flags]
exec "${PYTHON:-python3}" "$(dirname "$0")/gpu_check.py" "$@"
