#!/usr/bin/env bash
# Any command of more4d in its own environment: bash scripts/more4d.sh data from-video videos --output data/mine
# Paths are those of the folder it is called from.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
prepare_environment requirements.txt
exec "$MORE4D_PYTHON" "$MORE4D_ROOT/scripts/start.py" "$@"
