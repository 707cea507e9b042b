#!/usr/bin/env bash
# Train a LoRA of 4D-ViSM, on the tiny preset unless --config names another. Paths start at the repository.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../environment.sh"
prepare_environment requirements.txt
cd "$MORE4D_ROOT"
launch scripts/4D_ViSM_training/train.py "$@"
