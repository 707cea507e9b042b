"""The set-up of the environment: pins are compared exactly, and only a finished environment counts."""

import importlib.util
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture
def environment(tmp_path: Path) -> ModuleType:
    """scripts/environment.py, looking at an empty repository."""
    specification = importlib.util.spec_from_file_location("environment", ROOT / "scripts/environment.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    module.ROOT, module.VENV = tmp_path, tmp_path / ".venv"
    module.VENV_PYTHON = module.VENV / "bin/python"
    module.STAMP, module.UNFINISHED = module.VENV / "stamp", module.VENV / "unfinished"
    module.LOCKS = tmp_path / "locks"
    module.LOCKS.mkdir()
    return module


def requirement_file(folder: Path, text: str) -> Path:
    """A requirement file, and a lock for it."""
    file = folder / "requirements.txt"
    file.write_text(text)
    pins = [line for line in text.splitlines() if line and not line.startswith("#")]
    (folder / "locks/requirements.txt").write_text("".join(f"{pin} \\\n    --hash=x\n" for pin in pins))
    return file


def finish(environment: ModuleType, requirements: Path) -> None:
    """What a good set-up leaves behind."""
    environment.VENV_PYTHON.parent.mkdir(parents=True)
    environment.VENV_PYTHON.symlink_to(sys.executable)
    environment.STAMP.write_text("\n".join(environment.stamp_lines([requirements])) + "\n")


def test_an_installed_version_satisfies_its_pin(environment: ModuleType, tmp_path: Path) -> None:
    file = requirement_file(tmp_path, f"# a remark\n\npytest=={version('pytest')}\n")
    assert environment.missing_pins([file]) == []
    assert environment.find_environment([file]) == Path(sys.executable)


def test_a_local_part_of_a_version_does_not_count(
    environment: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.metadata.version", lambda name: "2.13.0+cpu")
    assert environment.missing_pins([requirement_file(tmp_path, "torch==2.13.0\n")]) == []


@pytest.mark.parametrize("pin", ["pytest==0.0.1", "a-package-nobody-has==1.0"])
def test_another_version_or_none_is_missing(environment: ModuleType, tmp_path: Path, pin: str) -> None:
    assert environment.missing_pins([requirement_file(tmp_path, pin + "\n")]) == [pin]


@pytest.mark.parametrize(
    ("marker", "counts"),
    [
        ('python_version >= "3.10"', True),
        ('python_version < "3.10"', False),
        ('python_version < "3.9"', False),
        (f'sys_platform == "{sys.platform}"', True),
        ('sys_platform == "another"', False),
    ],
)
def test_a_line_counts_where_its_marker_says(
    environment: ModuleType, tmp_path: Path, marker: str, counts: bool
) -> None:
    file = requirement_file(tmp_path, f"a-package-nobody-has==1.0; {marker}\n")
    assert bool(environment.missing_pins([file])) == counts


def test_a_ready_environment_is_used_unless_another_is_activated(
    environment: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = requirement_file(tmp_path, f"pytest=={version('pytest')}\n")
    finish(environment, file)
    for name in ("PYTHON", "VIRTUAL_ENV", "CONDA_PREFIX"):
        monkeypatch.delenv(name, raising=False)
    assert environment.find_environment([file]) == environment.VENV_PYTHON
    monkeypatch.setenv("VIRTUAL_ENV", "somewhere")
    assert environment.find_environment([file]) == Path(sys.executable)
    file = requirement_file(tmp_path, "a-package-nobody-has==1.0\n")
    environment.STAMP.write_text("\n".join(environment.stamp_lines([file])) + "\n")
    assert environment.find_environment([file]) == environment.VENV_PYTHON
    assert "lacks a-package-nobody-has==1.0" in capsys.readouterr().err


def test_a_finished_environment_is_ready_until_the_pins_change(
    environment: ModuleType, tmp_path: Path
) -> None:
    file = requirement_file(tmp_path, "a-package-nobody-has==1.0\n")
    assert not environment.is_ready([file])
    finish(environment, file)
    assert environment.is_ready([file])
    file.write_text("a-package-nobody-has==1.1\n")
    assert not environment.is_ready([file])
    file.write_text("a-package-nobody-has==1.0\n")
    assert environment.is_ready([file])
    (environment.LOCKS / "requirements.txt").write_text("a-package-nobody-has==1.0 \\\n    --hash=y\n")
    assert not environment.is_ready([file])


def test_an_environment_whose_python_is_gone_is_not_ready(environment: ModuleType, tmp_path: Path) -> None:
    file = requirement_file(tmp_path, "a-package-nobody-has==1.0\n")
    finish(environment, file)
    environment.VENV_PYTHON.unlink()
    assert not environment.is_ready([file])


@pytest.mark.parametrize("uv", [None, "/usr/bin/uv"])
def test_uv_or_pip_fills_the_environment_and_it_is_stamped_last(
    environment: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uv: str | None
) -> None:
    file, commands = requirement_file(tmp_path, "a-package-nobody-has==1.0\n"), []

    def run(command: list[str]) -> None:
        assert environment.UNFINISHED.exists() and not environment.is_ready([file])
        environment.VENV_PYTHON.parent.mkdir(exist_ok=True)
        environment.VENV_PYTHON.touch()
        commands.append(command)

    monkeypatch.setattr(environment.shutil, "which", lambda name: uv)
    environment.run, environment.pip_settings = run, lambda: ["--find-links", "wheels"]
    environment.install([file])
    assert environment.is_ready([file]) and not environment.UNFINISHED.exists()
    made, filled = commands
    assert made[:2] == ([uv, "venv"] if uv else [sys.executable, "-m"]) and made[-1] == str(environment.VENV)
    assert filled[-4:-2] == ["--require-hashes", "--no-deps"] and ("wheels" in filled) == bool(uv)
    assert filled[-2:] == ["-r", str(environment.LOCKS / file.name)]
    assert filled[:3] == ([uv, "pip", "install"] if uv else [str(environment.VENV_PYTHON), "-m", "pip"])


@pytest.mark.parametrize(
    "case", [("torch==2.13.0", True), ("torch==2.13.0+cpu", False), ("torch==2.13.0+cu128", False)]
)
def test_torch_is_checked_unless_it_is_a_build_of_another_index(
    environment: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    case: tuple[str, bool],
) -> None:
    build, checked = case
    file, commands = requirement_file(tmp_path, "torch==2.13.0\na-package-nobody-has==1.0\n"), []
    monkeypatch.setattr(environment.shutil, "which", lambda name: None)
    environment.create = lambda uv: (environment.VENV / "bin").mkdir(parents=True)
    environment.run = commands.append
    environment.build_of_torch = lambda pin: build
    environment.install([file])
    torch = commands[-1]
    assert ("--require-hashes" in torch) == checked and torch[-1] == (
        str(environment.LOCKS / "torch.txt") if checked else build
    )
    assert ("its hash is not checked" in capsys.readouterr().err) != checked


@pytest.mark.parametrize("lock", [None, "another==1.0 \\\n    --hash=x\n"])
def test_nothing_is_installed_without_its_lock(
    environment: ModuleType, tmp_path: Path, lock: str | None
) -> None:
    file = requirement_file(tmp_path, 'a_Package.nobody-has==1.0; python_version >= "3.10"\n')
    path = environment.LOCKS / "requirements.txt"
    assert environment.lock_of(file) == path
    path.unlink() if lock is None else path.write_text(lock)
    with pytest.raises(environment.SetupError, match=r"lock\.py"):
        environment.lock_of(file)


def test_pip_says_which_build_of_torch_its_settings_lead_to(
    environment: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(text: str) -> str:
        monkeypatch.setattr(
            environment.subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], 0, stdout=text)
        )
        return environment.build_of_torch("torch==2.13.0")

    assert answer('{"install": [{"metadata": {"version": "2.13.0+cpu"}}]}') == "torch==2.13.0+cpu"
    assert answer('{"install": [{"metadata": {"version": "2.13.0"}}]}') == "torch==2.13.0"
    assert answer("") == answer('{"install": []}') == "torch==2.13.0"


def test_a_failed_installer_leaves_no_environment_that_counts(
    environment: ModuleType, tmp_path: Path
) -> None:
    file = requirement_file(tmp_path, "a-package-nobody-has==1.0\n")

    def fail(command: list[str]) -> None:
        raise environment.SetupError("no network")

    environment.run = fail
    with pytest.raises(environment.SetupError):
        environment.install([file])
    assert environment.UNFINISHED.exists()
    assert not environment.is_ready([file])


def test_the_indices_of_pip_are_passed_to_uv(
    environment: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = "global.extra-index-url='file:///a file:///b'\n:env:.find-links='/wheels'\nglobal.timeout='9'\n"
    monkeypatch.setattr(
        environment.subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], 0, stdout=listed)
    )
    words = " ".join(environment.pip_settings())
    assert words.endswith("--extra-index-url file:///a --extra-index-url file:///b --find-links /wheels")


@pytest.mark.parametrize(
    ("line", "remedy"),
    [
        (
            "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device",
            "disk is full",
        ),
        ("Failed to establish a new connection: [Errno -3] Temporary failure in name resolution", "network"),
        ("SSLError(SSLCertVerificationError(1, '[SSL: CERTIFICATE_VERIFY_FAILED]", "PIP_CERT"),
        ("ERROR: No matching distribution found for torch==2.13.0", "no build for Python"),
        ("  × No solution found when resolving dependencies:", "no build for Python"),
        (
            "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE. Look again.\n"
            "    numpy==2.4.6 from https://index/numpy.whl (from -r locks/requirements.txt (line 9)):\n"
            "        Expected sha256 aa\n             Got        bb",
            "numpy==2.4.6 from https://index/numpy.whl is not the file that locks/ names",
        ),
        (
            "  x Failed to download `numpy==2.4.6`\n  Hash mismatch for `numpy==2.4.6`\n  Expected:",
            "numpy==2.4.6 is not the file that locks/ names",
        ),
        ("something nobody expected", "messages are above"),
    ],
)
def test_a_failed_installer_is_one_line_with_the_way_out(
    environment: ModuleType, tmp_path: Path, line: str, remedy: str
) -> None:
    pip = tmp_path / "pip"
    pip.write_text(f"#!/bin/sh\necho Collecting torch\ncat >&2 <<'END'\n{line}\nEND\nexit 1\n")
    pip.chmod(0o755)
    with pytest.raises(environment.SetupError) as raised:
        environment.run([str(pip)])
    assert remedy in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_python_that_is_too_old_is_refused_by_name(tmp_path: Path) -> None:
    old = tmp_path / "python3"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    started = subprocess.run(
        ["bash", str(ROOT / "infer.sh")],
        env={**os.environ, "PYTHON": str(old)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert started.returncode == 1
    assert started.stderr.startswith(f"error: PYTHON={old} is no Python 3.10")
    assert started.stderr.count("\n") == 1


def test_a_python_that_cannot_make_environments_says_how_it_learns(
    environment: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(environment.SetupError, match=r"sudo apt install python3\.\d+-venv"):
        environment.create(None)
    assert not environment.VENV.exists()


@pytest.fixture
def clone(environment: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A requirement file, beside a package and an environment that is finished but cannot import it."""
    for name in ("PYTHON", "VIRTUAL_ENV", "CONDA_PREFIX", "PYTHONPATH"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "more4d").mkdir()
    (tmp_path / "more4d/__init__.py").write_text("what = 'the clone'\n")
    file = requirement_file(tmp_path, f"pytest=={version('pytest')}\n")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment.VENV)], check=True)
    environment.STAMP.write_text("\n".join(environment.stamp_lines([file])) + "\n")
    return file


def test_a_script_elsewhere_imports_the_package_with_the_environment(
    environment: ModuleType, clone: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    script = tmp_path_factory.mktemp("elsewhere") / "mine.py"
    script.write_text("import more4d; print(more4d.what)\n")
    python = environment.find_environment([clone])
    assert python == environment.VENV_PYTHON
    printed = subprocess.run([python, script], cwd=script.parent, capture_output=True, text=True, check=True)
    assert printed.stdout == "the clone\n"
    (written,) = environment.VENV.rglob("*.pth")
    before = written.stat().st_mtime_ns
    assert environment.find_environment([clone]) == python and written.stat().st_mtime_ns == before


def test_an_environment_of_others_is_left_alone(
    environment: ModuleType, clone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VIRTUAL_ENV", "somewhere")
    assert environment.find_environment([clone]) == Path(sys.executable)
    monkeypatch.delenv("VIRTUAL_ENV")
    other = environment.VENV.rename(environment.VENV.with_name("other"))
    environment.VENV.symlink_to(other)
    assert environment.find_environment([clone]) == environment.VENV_PYTHON
    assert not list(other.rglob("*.pth"))
