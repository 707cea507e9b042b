#!/usr/bin/env bash
# Train the motion-sensitive VAE (trajectory codec), on the tiny preset unless --config names another. Paths start at the repository.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../environment.sh"
prepare_environment requirements.txt
cd "$MORE4D_ROOT"
launch scripts/4D_STraG_training/train_vae.py "$@"
