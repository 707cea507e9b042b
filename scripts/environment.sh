# Sourced by infer.sh, infer_vae.sh and test.sh: sets MORE4D_ROOT and MORE4D_PYTHON, an interpreter with all
# pins of the requirement files that are named. The work is done by environment.py; here a Python is found for it.

# With CDPATH set, cd may go elsewhere, and prints where.
MORE4D_ROOT="$(CDPATH="" cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)"

# An empty entry of PYTHONPATH is the current folder, from which nothing may be imported.
if [ -n "${PYTHONPATH:-}" ]; then
    PYTHONPATH=":$PYTHONPATH:"
    while [ "$PYTHONPATH" != "${PYTHONPATH//::/:}" ]; do PYTHONPATH="${PYTHONPATH//::/:}"; done
    PYTHONPATH="${PYTHONPATH#:}"
    export PYTHONPATH="${PYTHONPATH%:}"
fi

# is_between LOWEST BEYOND COMMAND: 10 14 means Python 3.10 to 3.13
is_between() {
    "$3" -c "import sys; raise SystemExit(not (3, $1) <= sys.version_info < (3, $2))" >/dev/null 2>&1
}

find_python() {
    local candidate beyond
    if [ -n "${PYTHON:-}" ]; then
        is_between 10 99 "$PYTHON" && { command -v "$PYTHON"; return; }
        echo "error: PYTHON=$PYTHON is no Python 3.10 or newer; name another one, or unset PYTHON" >&2
        return 1
    fi
    for beyond in 14 99; do  # the pinned packages have builds for 3.10 to 3.13: prefer those
        for candidate in python3 python python3.13 python3.12 python3.11 python3.10; do
            is_between 10 "$beyond" "$candidate" && { command -v "$candidate"; return; }
        done
    done
    echo "error: more4d needs Python 3.10 or newer and found $(python3 --version 2>/dev/null || echo none);" \
        "install one, or name one: PYTHON=/path/to/python3 bash $0" >&2
    return 1
}

# prepare_environment requirements.txt ...
prepare_environment() {
    local python
    python="$(find_python)" || exit 1
    MORE4D_PYTHON="$("$python" "$MORE4D_ROOT/scripts/environment.py" "$@")" || exit $?
    export MORE4D_SCRIPT="$0"  # what help and errors call the command
    export PYTHONPATH="$MORE4D_ROOT${PYTHONPATH:+:$PYTHONPATH}"
}

# launch SCRIPT ARGUMENTS...: in one process, or as MORE4D_LAUNCH says, for example
# MORE4D_LAUNCH="torchrun --nproc-per-node 2" or MORE4D_LAUNCH="accelerate launch --use_deepspeed --zero_stage 2"
launch() {
    local launcher
    [ -n "${MORE4D_LAUNCH:-}" ] || exec "$MORE4D_PYTHON" "$@"
    read -r -a launcher <<<"$MORE4D_LAUNCH"
    PATH="$(dirname "$MORE4D_PYTHON"):$PATH"
    case "${launcher[0]}" in
        torchrun|accelerate) exec "$MORE4D_PYTHON" "$MORE4D_ROOT/scripts/launch.py" "${launcher[@]}" "$@" ;;
    esac
    if ! command -v "${launcher[0]}" >/dev/null; then
        echo "error: MORE4D_LAUNCH names '${launcher[0]}', which is not installed; torchrun and accelerate are" >&2
        exit 1
    fi
    exec "${launcher[@]}" "$@"
}
