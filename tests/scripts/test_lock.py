"""What is installed is what was locked: every pin has its hashes, and another file is refused."""

import hashlib
import importlib.util
import re
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
HASH = re.compile(r"    --hash=sha256:[0-9a-f]{64}( \\)?")


def script(name: str) -> ModuleType:
    specification = importlib.util.spec_from_file_location(name, ROOT / f"scripts/{name}.py")
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


lock, environment = script("lock"), script("environment")
LOCKS = sorted(lock.LOCKS.glob("*.txt"))


def locked(path: Path) -> dict[str, str]:
    return lock.entries([path.read_text()])


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt"])
def test_every_pin_is_locked(name: str) -> None:
    assert environment.lock_of(ROOT / name) == ROOT / "locks" / name


def test_torch_is_locked_as_it_is_pinned() -> None:
    (pin,) = [pin for pin in environment.pins_of(ROOT / "requirements.txt") if pin.startswith("torch==")]
    (entry,) = [entry for first, entry in locked(ROOT / "locks/torch.txt").items() if first == pin]
    assert entry.count("sha256:") >= 20  # Linux on two processors, macOS and Windows, for every Python
    assert not [first for first in locked(ROOT / "locks/requirements.txt") if first.startswith("torch==")]


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.name)
def test_every_entry_has_its_version_and_its_hashes(path: Path) -> None:
    for first, entry in locked(path).items():
        _, *hashes = entry.splitlines()
        assert re.match(r"[\w.-]+==[\w.]+( ; .*)?$", first), first
        assert hashes and all(HASH.fullmatch(line) for line in hashes), first


def test_locks_agree_about_what_is_in_two_of_them() -> None:
    base, more = (set(locked(ROOT / f"locks/{name}.txt")) for name in ("requirements", "requirements-dev"))
    names = {lock.package(first) for first in base}
    shared = {lock.pinned(first) for first in more if lock.package(first) in names}
    assert shared <= {lock.pinned(first) for first in base}
    assert not names & {lock.package(first) for first in locked(ROOT / "locks/torch.txt")}


def test_every_extra_is_locked() -> None:
    section = (ROOT / "pyproject.toml").read_text().partition("[project.optional-dependencies]")[2]
    extras = set(re.findall(r"^(\w+) = \[", section.partition("\n[")[0], re.MULTILINE))
    assert {path.stem for path in LOCKS if path.stem.startswith("extra-")} == {
        f"extra-{e}" for e in lock.EXTRAS
    }
    assert set(lock.EXTRAS) == extras - {"train", "dev"}


def wheel(folder: Path, text: str) -> Path:
    """A package of one module."""
    folder.mkdir(exist_ok=True)
    path = folder / "of_a_test-1.0-py3-none-any.whl"
    about = "of_a_test-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("of_a_test.py", text)
        archive.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: of-a-test\nVersion: 1.0\n")
        archive.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{about}/RECORD", "")
    return path


def test_a_tampered_package_is_refused_in_one_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    built = wheel(tmp_path / "index", "what = 'published'\n")
    digest = hashlib.sha256(built.read_bytes()).hexdigest()
    (tmp_path / "lock.txt").write_text(f"of-a-test==1.0 \\\n    --hash=sha256:{digest}\n")
    install = [sys.executable, "-m", "pip", "install", "--no-index", "--find-links", str(built.parent)]
    install += ["--require-hashes", "--no-deps", "-r", str(tmp_path / "lock.txt"), "--target"]
    environment.run([*install, str(tmp_path / "whole")])
    assert (tmp_path / "whole/of_a_test.py").read_text() == "what = 'published'\n"
    wheel(tmp_path / "index", "what = 'tampered'\n")
    with pytest.raises(environment.SetupError, match=r"^of-a-test==1\.0 from .* is not the file that locks/"):
        environment.run([*install, str(tmp_path / "tampered")])
    assert not (tmp_path / "tampered/of_a_test.py").exists()


def test_an_entry_of_a_lock_is_its_line_and_its_hashes() -> None:
    first = "a==1 ; python_version < '3.11' \\\n    --hash=sha256:x \\\n    --hash=sha256:y\n"
    text = f"# remark\n{first}b==2 \\\n    --hash=z\n"
    found = lock.entries([text])
    assert list(found) == ["a==1 ; python_version < '3.11'", "b==2"]
    assert "# remark\n" + "".join(found.values()) == text
