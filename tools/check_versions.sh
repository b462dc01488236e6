#!/usr/bin/env bash
# Test paif_mm with the versions that it claims, in environments of their own; any Python 3.10 or later may start it:
#   bash tools/check_versions.sh [tools/check_versions.py's flags]
exec "${PYTHON:-python3}" "$(dirname "$0")/check_versions.py" "$@"
