#!/usr/bin/env bash
# The main job: a photo and a prompt to a moving 4-D scene, filmed along camera paths. `bash infer.sh --help` explains.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/scripts/environment.sh"
prepare_environment requirements.txt
launch "$MORE4D_ROOT/scripts/start.py" infer "$@"
