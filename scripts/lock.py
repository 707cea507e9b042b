"""Writes locks/: every package that the requirement files bring in, with its version and its hashes.

    python -m pip install uv && python scripts/lock.py

Run it after a pin in requirements.txt or requirements-dev.txt has changed; tests/scripts/test_lock.py fails
until then. Versions of what the pins need stay as they are in the locks (`--upgrade` takes the newest). uv
resolves for all platforms and for Python 3.10 and later at once, and takes the hashes of all files of a
version from PyPI, so a lock is right for every machine whose packages are those of PyPI. The lock of torch is
a file of its own: many machines have another build of it (`+cpu`, `+cu128`), which scripts/environment.py
installs by its version.
"""

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCKS = ROOT / "locks"
EXTRAS = ("ray", "gsplat", "view", "usd", "4dgs", "tensorboard", "wandb", "unidepth", "evaluate")
"""Of pyproject.toml; `train` and `dev` are in the requirement files. Each lock holds what those lack."""
BUILT_WITH_TORCH = "torchvision"
"""Must be of the same build as torch, so it is in no lock."""
INDEX = "https://pypi.org/simple"
OLDEST_PYTHON = "3.10"
BUILDS = re.compile(r"(torch|triton|nvidia-.*|cuda-.*)")
"""Packages of the lock torch.txt: torch, and what its build for CUDA is linked with."""
HEADER = "# Written by scripts/lock.py from {sources}; do not edit. Checked at set-up: --require-hashes.\n"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--upgrade", action="store_true", help="take the newest versions that the pins allow")
    options = parser.parse_args()
    uv = shutil.which("uv") or str(Path(sys.executable).parent / "uv")
    if not Path(uv).exists():
        print("error: uv is not installed; python -m pip install uv", file=sys.stderr)
        return 1
    before = {} if options.upgrade else entries(path.read_text() for path in LOCKS.glob("*.txt"))
    base = resolve(uv, ["requirements.txt"], before)
    whole = resolve(uv, ["requirements.txt", "requirements-dev.txt"], {**before, **base})
    torch = {name: entry for name, entry in base.items() if BUILDS.fullmatch(package(name))}
    versions = {pinned(first) for first in base}
    names = {package(first) for first in base}
    changed = [first for first in whole if package(first) in names and pinned(first) not in versions]
    if changed:
        print(f"error: requirements-dev.txt asks for another {', '.join(changed)}", file=sys.stderr)
        return 1
    write("requirements", {name: base[name] for name in base if name not in torch}, "requirements.txt")
    write("torch", torch, "requirements.txt")
    write(
        "requirements-dev", {name: whole[name] for name in whole if name not in base}, "requirements-dev.txt"
    )
    for extra in EXTRAS:
        found = resolve(uv, ["pyproject.toml", "--extra", extra], {**before, **base})
        more = {name: found[name] for name in found if name not in base and package(name) != BUILT_WITH_TORCH}
        write(f"extra-{extra}", more, f"the extra {extra} of pyproject.toml")
    return 0


def resolve(uv: str, sources: list[str], known: dict[str, str]) -> dict[str, str]:
    """Entries of a lock, by their first lines; versions of `known` are kept where the sources allow it."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "lock.txt"
        output.write_text("".join(known.values()))  # what uv finds here it prefers
        command = [uv, "pip", "compile", *sources, "--universal", "--python-version", OLDEST_PYTHON]
        command += ["--generate-hashes", "--no-annotate", "--no-header", "--no-config", "--quiet"]
        command += ["--default-index", INDEX, "--output-file", str(output)]
        subprocess.run(command, cwd=ROOT, check=True)
        return entries([output.read_text()])


def entries(texts: Iterable[str]) -> dict[str, str]:
    """The entries of lock files: "numpy==2.4.6 ; marker" -> that line and those of its hashes."""
    found: dict[str, str] = {}
    first = ""
    for line in (line for text in texts for line in text.splitlines(keepends=True)):
        if line.startswith((" ", "\t")):
            found[first] += line
        elif line.strip() and not line.startswith("#"):
            first = line.rstrip().removesuffix("\\").rstrip()
            found[first] = line
    return found


def package(first_line: str) -> str:
    return first_line.partition("==")[0]


def pinned(first_line: str) -> str:
    """The package and its version, without the marker."""
    return first_line.partition(" ")[0]


def write(name: str, lock: dict[str, str], source: str) -> None:
    path = LOCKS / f"{name}.txt"
    path.parent.mkdir(exist_ok=True)
    path.write_text(HEADER.format(sources=source) + "".join(lock[first] for first in sorted(lock)))
    print(f"{path.relative_to(ROOT)}: {len(lock)} entries")


if __name__ == "__main__":
    raise SystemExit(main())
