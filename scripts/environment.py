"""Prints the path of a Python that has every pin of the requirement files named as arguments.

A finished `.venv` in the repository is used as it is; an activated environment too, if it has the pins. Else
`.venv` is created and filled under a lock, with `uv` where that is installed and with venv and pip otherwise,
and stamped when it is whole, so that an interrupted set-up is never taken for a good one. What is installed
is what locks/ names, file by file with its SHA-256 (scripts/lock.py writes them); only a torch that pip's
settings take from elsewhere, such as a build for the CPU, is installed by its version, and that is said. Only
the standard library of Python 3.10 is needed here. Everything but the answer goes to standard error.
"""

import sys

try:
    import contextlib
    import json
    import os
    import re
    import shutil
    import subprocess
    import time
    import zlib
    from collections.abc import Iterator
    from pathlib import Path
except KeyboardInterrupt:  # as likely here as later: this is the first thing that a start does
    print("interrupted", file=sys.stderr)
    raise SystemExit(130) from None

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
VENV_PYTHON = VENV / "bin" / "python"
STAMP = VENV / "more4d-installed"  # one line per requirement file: name and checksum
UNFINISHED = VENV / "more4d-unfinished"
PATH_FILE = "more4d-clone.pth"  # in site-packages: with it any script of this Python finds the package
LOCKS = ROOT / "locks"  # one per requirement file, of the same name, and that of torch
TORCH_LOCK = "torch.txt"
PYTHON_VERSION = ".".join(map(str, sys.version_info[:3]))
PIP_SETTINGS = ("index-url", "extra-index-url", "find-links", "constraint")  # which uv takes as arguments

WRONG_HASH = re.compile(  # of pip, and of uv
    r"DO NOT MATCH THE HASHES.*?^\s+(?P<pip>\S+) from (?P<source>\S+)|Hash mismatch for `(?P<uv>[^`]+)`",
    re.DOTALL | re.MULTILINE,
)
REMEDIES = {  # what a failed installer prints, and the way out
    "No space left|Errno 28|os error 28|Disk quota": (
        "the disk is full: free about 8 GB where {root} is (2 GB without CUDA) and start again"
    ),
    "name resolution|[Cc]onnect|unreachable|retries|Timeout|CERTIFICATE|dns error": (
        "the package index cannot be reached: check network, proxy and certificate (PIP_CERT), start again"
    ),
    "No matching distribution|No solution found": (
        "a pinned package has no build for Python {python} on this system: name another, PYTHON=python3.11"
    ),
}


class SetupError(Exception):
    """The environment cannot be made; the message is one line with the way out."""


def main() -> int:
    try:
        print(find_environment([ROOT / name for name in sys.argv[1:]]))
    except SetupError as error:
        print_status(f"error: {error}")
        return 1
    except OSError as error:
        print_status(f"error: cannot set up {VENV}: {error.strerror or error}")
        return 1
    except KeyboardInterrupt:
        print_status(
            "set-up interrupted; the next start begins it again" if UNFINISHED.exists() else "interrupted"
        )
        return 130
    return 0


def find_environment(requirements: list[Path]) -> Path:
    """`.venv` if it is ready and no other environment is activated, else this interpreter if it has the pins,
    else `.venv`, created or brought up to date.
    """
    activated = any(os.environ.get(name) for name in ("PYTHON", "VIRTUAL_ENV", "CONDA_PREFIX"))
    if activated or not is_ready(requirements):
        missing = missing_pins(requirements)
        if not missing:
            return Path(sys.executable)
        if activated:
            more = " ..." if len(missing) > 3 else ""
            print_status(f"{sys.executable} lacks {', '.join(missing[:3])}{more}; using {VENV}")
    if not is_ready(requirements):
        with only_one_at_a_time():
            if not is_ready(requirements):  # another start may have made it meanwhile
                install(requirements)
    add_clone_to_path()
    return VENV_PYTHON


def add_clone_to_path() -> None:
    """Let the Python of `.venv` import the package from any folder; an environment of others is left alone.

    The line is relative to site-packages, so it stays right when the clone is moved.
    """
    if VENV.is_symlink():  # another clone's, whose package would be taken for this one
        return
    for packages in VENV.glob("lib/python3*/site-packages"):
        file, line = packages / PATH_FILE, os.path.relpath(ROOT, packages) + "\n"
        if file.exists() and file.read_text() == line:
            continue
        partial = file.with_suffix(f".{os.getpid()}")
        try:
            partial.write_text(line)
            partial.replace(file)
        except OSError as error:  # the scripts of the clone work without it
            print_status(f"cannot write {file}: {error.strerror}; set PYTHONPATH={ROOT} for other scripts")


def is_ready(requirements: list[Path]) -> bool:
    """Whether `.venv` was finished with exactly these files and locks, and its Python is still there."""
    stamped = STAMP.read_text().splitlines() if STAMP.exists() else []
    return all(line in stamped for line in stamp_lines(requirements)) and VENV_PYTHON.exists()


def stamp_lines(requirements: list[Path]) -> list[str]:
    locks = [LOCKS / TORCH_LOCK, *(LOCKS / file.name for file in requirements)]
    return [*map(stamp_line, requirements), *(f"locks/{stamp_line(lock)}" for lock in locks if lock.exists())]


def stamp_line(file: Path) -> str:
    return f"{file.name} {zlib.crc32(file.read_bytes()):08x}"


def missing_pins(requirements: list[Path]) -> list[str]:
    """Pins that this interpreter does not satisfy; a local version part such as +cpu does not count."""
    from importlib.metadata import PackageNotFoundError, version

    pins = [pin for file in requirements for pin in pins_of(file)]
    try:
        from packaging.requirements import Requirement
    except ModuleNotFoundError:
        return pins  # an interpreter without it has not the pins either: several of them depend on it
    missing = []
    for pin in map(Requirement, pins):
        if pin.marker is None or pin.marker.evaluate():
            try:
                satisfied = pin.specifier.contains(version(pin.name), prereleases=True)
            except PackageNotFoundError:
                satisfied = False
            if not satisfied:
                missing.append(f"{pin.name}{pin.specifier}")
    return missing


def pins_of(file: Path) -> list[str]:
    return [line for line in file.read_text().splitlines() if line.strip() and not line.startswith("#")]


def lock_of(file: Path) -> Path:
    """The lock of a requirement file.

    Raises:
        SetupError: there is none, or it lacks a pin; installing without it would check nothing.
    """
    lock = LOCKS / file.name
    if not lock.exists():
        raise SetupError(f"{lock} is missing; get it back with git checkout, or write it: scripts/lock.py")
    locked = {plain_pin(line) for line in pins_of(lock)}
    for pin in pins_of(file):
        if plain_pin(pin) not in locked and not pin.startswith("torch=="):
            raise SetupError(f"{lock} lacks {pin} of {file.name}; write it anew: python scripts/lock.py")
    return lock


def plain_pin(line: str) -> str:
    """A pin without its marker, its name as indices compare it: PyYAML==6.0.3; ... -> pyyaml==6-0-3."""
    return re.sub("[-_.]+", "-", re.split(r"[;\s\\]", line.strip())[0]).lower()


def build_of_torch(pin: str) -> str:
    """Which torch pip's settings lead to: the pin itself, or one with a local version (torch==2.13.0+cpu).

    PyPI holds no local versions, so such a build is of another index or a folder, and in no lock.
    """
    command = [
        str(VENV_PYTHON),
        "-m",
        "pip",
        "install",
        "--disable-pip-version-check",
        "--quiet",
        "--dry-run",
    ]
    command += ["--no-deps", "--ignore-installed", "--report", "-", pin]
    asked = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    try:
        (found,) = json.loads(asked.stdout)["install"]
        return f"torch=={found['metadata']['version']}"
    except (ValueError, KeyError, TypeError):  # there is none, or no answer: the installer says what is wrong
        return pin


@contextlib.contextmanager
def only_one_at_a_time() -> Iterator[None]:
    """Hold the lock; the system releases it when this process ends, however it ends."""
    import fcntl

    with (ROOT / ".venv.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print_status("another start is setting up .venv; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def install(requirements: list[Path]) -> None:
    """Create `.venv` if need be, install the pins, stamp it."""
    began, uv = time.monotonic(), shutil.which("uv")
    if UNFINISHED.exists() or (VENV.exists() and not VENV_PYTHON.exists()):
        print_status(f"removing the unfinished or broken {VENV}")
        shutil.rmtree(VENV)
    if VENV.exists():
        print_status(f"bringing {VENV} up to date with {' and '.join(file.name for file in requirements)}")
    else:
        print_status(f"setting up {VENV} with Python {PYTHON_VERSION}: a few minutes, only once")
        create(uv)
    if STAMP.exists():  # it was made here; an environment made by others is never removed as unfinished
        UNFINISHED.touch()
        STAMP.unlink()
    installer = [str(VENV_PYTHON), "-m", "pip", "install", "--disable-pip-version-check"]
    if uv:
        installer = [uv, "pip", "install", "--python", str(VENV_PYTHON), *pip_settings()]
    for file in requirements:
        run([*installer, "--require-hashes", "--no-deps", "-r", str(lock_of(file))])
    # After the locks: what torch needs and they have is there by then, and not taken from anywhere else.
    for pin in (pin for file in requirements for pin in pins_of(file) if pin.startswith("torch==")):
        build = build_of_torch(pin)
        if build == pin:
            run([*installer, "--require-hashes", "--no-deps", "-r", str(LOCKS / TORCH_LOCK)])
        else:
            print_status(f"{build} is not PyPI's torch: installed by its version, its hash is not checked")
            run([*installer, build])
    command = VENV / "bin" / "more4d"  # for those who activate it; it finds the repository by its own place
    command.write_text(
        '#!/bin/sh\nhere="$(CDPATH="" cd -- "$(dirname -- "$0")" && pwd)"\n'
        'exec "$here/python" "$here/../../scripts/start.py" "$@"\n'
    )
    command.chmod(0o755)
    partial = STAMP.with_suffix(".part")
    partial.write_text("".join(line + "\n" for line in stamp_lines(requirements)))
    partial.replace(STAMP)
    UNFINISHED.unlink(missing_ok=True)
    print_status(f"set up in {time.monotonic() - began:.0f} s")


def create(uv: str | None) -> None:
    """An empty virtual environment with pip, marked as unfinished from its first moment."""
    from importlib.util import find_spec

    if not uv and not (find_spec("ensurepip") and find_spec("venv")):
        short = PYTHON_VERSION.rpartition(".")[0]
        raise SetupError(
            f"{sys.executable} cannot make virtual environments: install its venv module (Debian and Ubuntu: "
            f"sudo apt install python{short}-venv) or uv, or name another Python: PYTHON=/path/to/python3"
        )
    VENV.mkdir()
    UNFINISHED.touch()
    if uv:
        run([uv, "venv", "--quiet", "--allow-existing", "--seed", "--python", sys.executable, str(VENV)])
    else:
        run([sys.executable, "-m", "venv", str(VENV)])


def pip_settings() -> list[str]:
    """pip's own indices and constraints as arguments for uv, which does not read pip's settings."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    listed = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    arguments = ["--index-strategy", "unsafe-best-match"]  # as pip: the best of all indices
    for line in listed.splitlines():
        name, _, value = line.partition("=")
        setting = name.rpartition(".")[2]
        if setting in PIP_SETTINGS:
            arguments += [word for each in value.strip("'").split() for word in (f"--{setting}", each)]
    return arguments


def run(command: list[str]) -> None:
    """Run an installer with its progress on standard error; a failure becomes one line with the way out."""
    environment = {**os.environ, "DS_BUILD_OPS": "0", "PIP_USER": "0"}
    environment.pop("PYTHONPATH", None)
    if certificate := environment.get("PIP_CERT"):
        environment.setdefault("SSL_CERT_FILE", certificate)  # what uv reads
    complaints = []
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    ) as installer:
        for line in installer.stderr or ():
            sys.stderr.write(line)
            complaints.append(line)
    if installer.returncode:
        if wrong := WRONG_HASH.search("".join(complaints)):
            source = f" from {wrong['source']}" if wrong["source"] else ""
            raise SetupError(
                f"{wrong['pip'] or wrong['uv']}{source} is not the file that locks/ names: it was changed on "
                "its way or on the index, and is not installed; use PyPI or a true mirror (PIP_INDEX_URL)"
            )
        for pattern, remedy in REMEDIES.items():
            if re.search(pattern, "".join(complaints)):
                raise SetupError(remedy.format(root=ROOT, python=PYTHON_VERSION))
        raise SetupError(f"'{' '.join(command[:4])} ...' failed; its messages are above")


def print_status(text: str) -> None:
    print(f"more4d: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
