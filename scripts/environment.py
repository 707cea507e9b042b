"""Prints the path of a Python that has every pin of the requirement files named as arguments.

The Python that runs this is used as it is if it satisfies the pins: so an activated environment is. Otherwise
`.venv` in the repository is created and filled, under a lock, and stamped when it is whole, so that an
interrupted set-up is never taken for a good one. Only the standard library of Python 3.10 is needed here.
Everything but the answer goes to standard error.
"""

import sys

try:
    import contextlib
    import fcntl
    import importlib.util
    import os
    import re
    import shutil
    import subprocess
    import time
    import zlib
    from collections.abc import Iterator
    from importlib.metadata import PackageNotFoundError, version
    from pathlib import Path
except KeyboardInterrupt:  # as likely here as later: this is what a start does first
    print("interrupted", file=sys.stderr)
    raise SystemExit(130) from None

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
VENV_PYTHON = VENV / "bin" / "python"
STAMP = VENV / "more4d-installed"  # one line per requirement file: name and checksum
UNFINISHED = VENV / "more4d-unfinished"
PYTHON_VERSION = ".".join(map(str, sys.version_info[:3]))
PIN = re.compile(r"([A-Za-z0-9_.-]+)==([^\s;]+)\s*(?:;\s*(\w+)\s*(==|<|>=)\s*[\"']([^\"']+)[\"'])?")

# What a failed pip says, and the way out. The first that matches the log is told.
REMEDIES = (
    (
        r"No space left on device|Errno 28|Disk quota",
        "the disk is full: free about 8 GB where {root} lies (2 GB without CUDA) and start again",
    ),
    (
        r"SSLError|CERTIFICATE_VERIFY_FAILED",
        "the package index's certificate is not trusted: set PIP_CERT to the file of your authority",
    ),
    (
        r"NameResolutionError|Temporary failure in name resolution|NewConnectionError|Network is unreachable"
        r"|Max retries exceeded|ReadTimeout|ConnectTimeout|ProxyError|Tunnel connection failed"
        r"|Connection (refused|reset|broken)|IncompleteRead",
        "the package index cannot be reached: check the network and proxy settings and start again",
    ),
    (
        r"Permission denied|Read-only file system",
        "{root} cannot be written: clone the repository to where you may write",
    ),
    (
        r"No matching distribution found",
        "a pinned package has no build for Python {python} on this system: name another, PYTHON=python3.11",
    ),
)


class SetupError(Exception):
    """The environment cannot be made; the message is one line with the way out."""


def main() -> int:
    requirements = [ROOT / name for name in sys.argv[1:]]
    try:
        print(find_environment(requirements))
    except SetupError as error:
        print_status(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        print_status(
            "set-up interrupted; the next start begins it again" if UNFINISHED.exists() else "interrupted"
        )
        return 130
    return 0


def find_environment(requirements: list[Path]) -> Path:
    """This interpreter if it satisfies the pins, else `.venv`, created or brought up to date as needed."""
    missing = missing_pins(requirements)
    if not missing:
        return Path(sys.executable)
    if any(os.environ.get(name) for name in ("PYTHON", "VIRTUAL_ENV", "CONDA_PREFIX")):
        print_status(
            f"{sys.executable} lacks {', '.join(missing[:3])}{' ...' * (len(missing) > 3)}; using {VENV}"
        )
    if not is_ready(requirements):
        with only_one_at_a_time():
            if not is_ready(requirements):  # another start may have made it meanwhile
                install(requirements)
    return VENV_PYTHON


def is_ready(requirements: list[Path]) -> bool:
    """Whether `.venv` was finished with exactly these files and still starts."""
    try:
        stamped = STAMP.read_text().splitlines()
    except OSError:
        return False
    return all(stamp_line(file) in stamped for file in requirements) and runs(VENV_PYTHON)


def stamp_line(file: Path) -> str:
    return f"{file.name} {zlib.crc32(file.read_bytes()):08x}"


def runs(python: Path) -> bool:
    """Whether the interpreter starts (it does not if the Python it was made from is gone)."""
    try:
        return subprocess.run([str(python), "-c", ""], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def missing_pins(requirements: list[Path]) -> list[str]:
    """Pins that this interpreter does not satisfy; a local version part such as +cpu does not count."""
    missing = []
    for file in requirements:
        for line in file.read_text().splitlines():
            pin = PIN.match(line)
            if pin is None or not applies(*pin.groups()[2:]):
                continue
            try:
                installed = version(pin[1]).split("+")[0]
            except PackageNotFoundError:
                installed = None
            if installed != pin[2]:
                missing.append(f"{pin[1]}=={pin[2]}")
    return missing


def applies(variable: str | None, relation: str | None, value: str | None) -> bool:
    """Whether a line with such an environment marker counts on this machine."""
    if variable is None or relation is None or value is None:
        return True
    if variable == "sys_platform":
        return (sys.platform == value) == (relation == "==")
    wanted, here = tuple(map(int, value.split("."))), sys.version_info[:2]
    return {"==": here == wanted, "<": here < wanted, ">=": here >= wanted}[relation]


@contextlib.contextmanager
def only_one_at_a_time() -> Iterator[None]:
    """Hold the lock; the system lets go of it when this process ends, however it ends."""
    try:
        lock = (ROOT / ".venv.lock").open("w")
    except OSError as error:
        raise SetupError(
            f"cannot write into {ROOT} ({error.strerror}): clone the repository where you may write"
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print_status("another start is setting up .venv; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def install(requirements: list[Path]) -> None:
    """Create `.venv` if need be, install the pins, stamp it."""
    began = time.monotonic()
    try:
        if UNFINISHED.exists() or (VENV.exists() and not runs(VENV_PYTHON)):
            print_status(f"removing the unfinished or broken {VENV}")
            shutil.rmtree(VENV)
        if VENV.exists():
            print_status(
                f"bringing {VENV} up to date with {' and '.join(file.name for file in requirements)}"
            )
        else:
            print_status(f"setting up {VENV} with Python {PYTHON_VERSION}: a few minutes, only once")
            create()
        if STAMP.exists():  # it is ours; an environment somebody else made is never removed as unfinished
            UNFINISHED.touch()
            STAMP.unlink()
        run_pip(requirements)
        write_command()
        partial = STAMP.with_suffix(".part")
        partial.write_text("".join(stamp_line(file) + "\n" for file in requirements))
        partial.replace(STAMP)
        UNFINISHED.unlink(missing_ok=True)
    except OSError as error:
        raise SetupError(f"cannot set up {VENV}: {error.strerror or error}") from error
    print_status(f"set up in {time.monotonic() - began:.0f} s")


def write_command() -> None:
    """`more4d` in the environment, for those who activate it; it finds the repository by its own place."""
    command = VENV / "bin" / "more4d"
    command.write_text(
        '#!/bin/sh\nhere="$(cd "$(dirname "$0")" && pwd)"\n'
        'PYTHONPATH="$here/../..${PYTHONPATH:+:$PYTHONPATH}" exec "$here/python" -m more4d "$@"\n'
    )
    command.chmod(0o755)


def create() -> None:
    """An empty virtual environment with pip, marked as unfinished from its first moment."""
    if importlib.util.find_spec("ensurepip") is None or importlib.util.find_spec("venv") is None:
        raise SetupError(
            f"{sys.executable} cannot make virtual environments: install its venv module (Debian and Ubuntu: "
            f"sudo apt install python{PYTHON_VERSION.rpartition('.')[0]}-venv) or name another Python: "
            "PYTHON=/path/to/python3"
        )
    VENV.mkdir()
    UNFINISHED.touch()
    made = subprocess.run(
        [sys.executable, "-m", "venv", str(VENV)], capture_output=True, text=True, check=False
    )
    if made.returncode != 0:
        said = (made.stdout + made.stderr).strip().splitlines() or ["no message"]
        full = "No space left" in made.stdout + made.stderr
        raise SetupError(
            REMEDIES[0][1].format(root=ROOT) if full else f"{sys.executable} -m venv failed: {said[-1]}"
        )


def run_pip(requirements: list[Path]) -> None:
    """pip with its progress on standard error; a failure becomes one line with the way out."""
    command = [str(VENV_PYTHON), "-m", "pip", "install", "--disable-pip-version-check"]
    for file in requirements:
        command += ["-r", str(file)]
    environment = {**os.environ, "DS_BUILD_OPS": "0", "PIP_USER": "0"}
    environment.pop("PYTHONPATH", None)
    complaints = []
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    ) as pip:
        for line in pip.stderr or ():
            sys.stderr.write(line)
            complaints.append(line)
    if pip.returncode == 0:
        return
    for pattern, remedy in REMEDIES:
        if re.search(pattern, "".join(complaints)):
            raise SetupError(remedy.format(root=ROOT, python=PYTHON_VERSION))
    raise SetupError(f"pip failed with status {pip.returncode}; what it said stands above")


def print_status(text: str) -> None:
    print(f"more4d: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
