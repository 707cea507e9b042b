#!/usr/bin/env bash
# The trajectory codec alone: encode tracks, decode them, report the error. `bash infer_vae.sh --help` explains.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/scripts/environment.sh"
prepare_environment requirements.txt
exec "$MORE4D_PYTHON" "$MORE4D_ROOT/scripts/start.py" vae "$@"
