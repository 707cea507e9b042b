#!/usr/bin/env bash
# Format, lint, import layers, then the tests. Arguments go to pytest: bash test.sh tests/geometry -m "not slow"
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/scripts/environment.sh"
prepare_environment requirements.txt requirements-dev.txt
cd "$MORE4D_ROOT"

# Two processes with one thread each: threads that wait by spinning would take the cores from those that work.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" GOMP_SPINCOUNT=0 OMP_WAIT_POLICY=PASSIVE
export HYPOTHESIS_PROFILE="${HYPOTHESIS_PROFILE:-deterministic}"

say() { echo "== $*"; }

say "ruff format --check"
"$MORE4D_PYTHON" -m ruff format --check --quiet --output-format concise . ||
    { echo "error: the files above are not formatted; run: ruff format ." >&2; exit 1; }
say "ruff check"
"$MORE4D_PYTHON" -m ruff check --quiet --output-format concise .
say "lint-imports"
"$MORE4D_PYTHON" -c 'import importlinter.cli, sys; sys.argv = ["lint-imports"]; importlinter.cli.lint_imports_command()'
# Programs that are not ours read exports in some tests; without npm, or without network, these are skipped.
if command -v npm >/dev/null && [[ ! -d tests/foreign_readers/node_modules ]]; then
    say "npm ci"
    npm ci --silent --ignore-scripts --no-audit --no-fund --prefix tests/foreign_readers ||
        echo "warning: npm cannot install tests/foreign_readers; tests that need it are skipped" >&2
fi
say "pytest"
"$MORE4D_PYTHON" -m pytest -q -n "${MORE4D_TEST_PROCESSES:-2}" --durations=15 "$@"
