"""`more4d weights fetch` with a hub on this machine: what is said, locked, verified and gone on with."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import more4d
from more4d.cli import weights_fetch
from more4d.cli.main import main
from more4d.files import hub_backend
from more4d.foundation.errors import ConfigError, InputError
from more4d.weights import manifest
from more4d.weights.fetch import LOCK, plan_fetch
from tests.files import hub_server
from tests.files.hub_server import Hub, Repository, commit_of, cut, flipped, sha256, status, stuck

ROOT = Path(__file__).resolve().parents[2]
MODEL, OTHER = "people/model", "people/other"
FILES = {"model.safetensors": bytes(range(256)) * 400, "config.json": b"{}\n", "README.md": b"# no\n"}
MANIFEST = """\
parts:
  main:
    what: a model
    repo: people/model
    modelscope: others/model
    to: model
    files: [config.json, "*.safetensors"]
    licence: Apache-2.0
    about_gb: 0.1
  other:
    what: another
    repo: people/other
    to: other
    files: ["deep/*.bin"]
    licence: CC BY-NC 4.0
    about_gb: 0.1
    optional: true
  web:
    what: at an address
    url: {web}
    to: web/it.torch
    licence: unknown
    about_gb: 0.1
    optional: true
"""


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """The hub, a preset "depth" of small files, and an empty working folder."""
    with hub_server.running_hub() as running:
        running.repositories = {
            MODEL: Repository(FILES),
            "others/model": Repository(FILES),
            OTHER: Repository({"deep/a.bin": b"a" * 5000, "deep/b.bin": b"b" * 5000}),
        }
        (tmp_path / "manifests").mkdir()
        web = f"{running.address}/{OTHER}/resolve/{commit_of(running.repositories[OTHER].files)}/deep/a.bin"
        (tmp_path / "manifests/depth.yaml").write_text(MANIFEST.replace("{web}", web))
        (tmp_path / "work").mkdir()
        monkeypatch.chdir(tmp_path / "work")
        monkeypatch.setattr(manifest, "MANIFESTS", tmp_path / "manifests")
        monkeypatch.setattr(hub_backend, "sleep", lambda wait_s: None)
        for name in (*hub_backend.TOKEN_VARIABLES, *hub_backend.OFFLINE_VARIABLES):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("HF_ENDPOINT", running.address)
        monkeypatch.setenv("MODELSCOPE_ENDPOINT", running.address)
        yield running


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(["weights", "fetch", "--preset", "depth", "--weights", "w", *arguments])
    captured = capsys.readouterr()
    assert captured.err.count("error:") == (code == 1)
    return code, captured.out, captured.err


def lock(folder: str = "w") -> dict:
    return json.loads((Path(folder) / LOCK).read_text())["repositories"]


def test_files_sizes_licences_and_places_are_said_and_then_fetched(hub: Hub, capsys):
    code, out, _ = run(capsys, "--dry-run")
    assert code == 0 and not Path("w").exists()
    for words in (
        "preset depth -> w",
        "licence Apache-2.0 (its page: apache-2.0)",
        f"from people/model at commit {commit_of(FILES)[:12]}, published now",
        "fetch  w/model/model.safetensors  102 KB",
        "102 KB to fetch in 2 files; 0 there already",
        "not fetched unless named with --part: other (CC BY-NC 4.0); web (unknown)",
    ):
        assert words in out
    assert not hub.asked("/resolve/")
    code, out, _ = run(capsys)
    assert code == 0 and "verified: 2 files of preset depth" in out
    assert {path.name for path in Path("w/model").iterdir()} == {"config.json", "model.safetensors"}
    assert Path("w/model/model.safetensors").read_bytes() == FILES["model.safetensors"]
    assert "bash infer.sh photo.jpg --depth-model" in out


def test_the_lock_remembers_commit_sizes_and_hashes(hub: Hub, capsys):
    run(capsys)
    (entry,) = lock().values()
    assert entry["revision"] == commit_of(FILES) and entry["source"] == "hf"
    assert entry["files"]["config.json"] == {
        "size": 3,
        "sha256": sha256(b"{}\n"),
        "git_sha1": hub_server.git_sha1(b"{}\n"),
        "verified": True,
    }


def test_a_second_run_asks_nobody_and_verifies_what_is_here(hub: Hub, capsys):
    run(capsys)
    hub.requests.clear()
    code, out, _ = run(capsys)
    assert code == 0 and hub.requests == [] and "0 bytes to fetch in 0 files; 2 there already" in out
    Path("w/model/model.safetensors").write_bytes(FILES["model.safetensors"][:-1] + b"?")
    code, _, err = run(capsys)
    assert code == 0 and "has the SHA-256" in err and "fetched again" in err
    assert Path("w/model/model.safetensors").read_bytes() == FILES["model.safetensors"]


def test_the_lock_is_obeyed_until_update(hub: Hub, capsys):
    run(capsys)
    newer = {**FILES, "config.json": b'{"new": 1}\n'}
    commit = hub.repositories[MODEL].publish(newer)
    Path("w/model/config.json").unlink()
    code, out, _ = run(capsys)
    assert code == 0 and f"as {LOCK} says" in out
    assert Path("w/model/config.json").read_bytes() == FILES["config.json"]
    assert run(capsys, "--update")[0] == 0
    assert Path("w/model/config.json").read_bytes() == newer["config.json"]
    assert next(iter(lock().values()))["revision"] == commit
    assert run(capsys, "--revision", commit_of(FILES))[0] == 0
    assert Path("w/model/config.json").read_bytes() == FILES["config.json"]


def test_modelscope_brings_the_same_files_or_is_refused(hub: Hub, capsys):
    assert run(capsys, "--from", "modelscope")[0] == 0
    assert Path("w/model/model.safetensors").read_bytes() == FILES["model.safetensors"]
    assert run(capsys)[0] == 0  # from the other hub, and it is the same
    hub.repositories["others/model"].publish({**FILES, "model.safetensors": b"another"})
    code, _, err = run(capsys, "--from", "modelscope")
    assert code == 1 and f"has another model.safetensors than {LOCK} remembers" in err and "--update" in err
    code, _, err = run(capsys, "--from", "modelscope", "--part", "other")
    assert code == 1 and "'other' is not on modelscope; name other parts" in err


def test_a_part_is_fetched_if_it_is_named(hub: Hub, capsys):
    code, out, _ = run(capsys, "--part", "other")
    assert code == 0 and Path("w/other/deep/b.bin").read_bytes() == b"b" * 5000
    assert not Path("w/model").exists()
    code, out, _ = run(capsys, "--part", "web")
    assert code == 0 and "not verified: a.bin: its publisher gives no checksum" in out
    assert Path("w/web/it.torch").read_bytes() == b"a" * 5000
    Path("w/web/it.torch").write_bytes(b"b" * 5000)
    code, out, err = run(capsys, "--part", "web")
    assert code == 0 and "has the SHA-256" in err and "verified: 1 file" in out


def test_offline_says_what_is_missing_and_verifies_the_rest(hub: Hub, capsys, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    code, _, err = run(capsys)
    assert code == 1 and "HF_HUB_OFFLINE is set, and w/weights.lock.json does not know 'main'" in err
    code, _, err = run(capsys, "--part", "web")
    assert code == 1 and "HF_HUB_OFFLINE is set, and w/web/it.torch was not fetched" in err
    assert hub.requests == []
    monkeypatch.delenv("HF_HUB_OFFLINE")
    run(capsys)
    hub.requests.clear()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert run(capsys)[0] == 0
    Path("w/model/config.json").unlink()
    code, _, err = run(capsys)
    assert code == 1 and "HF_HUB_OFFLINE is set, and w/model/config.json is missing or incomplete" in err
    assert hub.requests == []


def test_much_is_asked_about(hub: Hub, capsys, monkeypatch):
    monkeypatch.setattr(weights_fetch, "ASKED_ABOVE_BYTES", 1000)
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False, raising=False)
    code, _, err = run(capsys)
    assert code == 1 and "102 KB are to be fetched, and there is no terminal to ask on; add --yes" in err
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    for answer, agreed in (("\n", False), ("no\n", False), ("y\n", True)):
        monkeypatch.setattr(sys.stdin, "readline", lambda answer=answer: answer, raising=False)
        code = main(["weights", "fetch", "--preset", "depth", "--weights", "w"])
        assert code == (0 if agreed else 1) and "fetch 102 KB? [y/N]" in capsys.readouterr().out
        assert Path("w/model/config.json").exists() == agreed
    assert run(capsys, "--yes", "--update")[0] == 0


def test_a_repository_that_is_not_what_it_was_is_refused(hub: Hub, capsys):
    hub.repositories[MODEL].publish({"config.json": b"{}", "weights.gguf": b"x"})
    code, _, err = run(capsys)
    assert code == 1 and "has no *.safetensors at" in err and "it holds config.json, weights.gguf" in err


def test_a_file_that_stays_wrong_fails_and_keeps_the_others(hub: Hub, capsys):
    hub.faults["model.safetensors"] = [flipped, flipped]
    code, _, err = run(capsys)
    assert code == 1 and "has the SHA-256" in err and "twice; it is not used" in err
    assert not Path("w/model/model.safetensors").exists()
    files = next(iter(lock().values()))["files"]
    assert {path: each["verified"] for path, each in files.items()} == {
        "config.json": True,
        "model.safetensors": False,
    }
    assert run(capsys)[0] == 0


def test_the_token_is_nowhere_to_be_seen(hub: Hub, capsys, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_right")
    hub.repositories[MODEL].gated = True
    hub.faults["model.safetensors"] = [cut(10), status(503), flipped]
    code, out, err = run(capsys)
    written = [path.read_bytes() for path in Path("w").rglob("*") if path.is_file()]
    assert code == 0 and "hf_right" not in out + err and not [each for each in written if b"hf_right" in each]
    assert "Signature" not in out + err


def test_a_damaged_lock_and_wrong_arguments_are_one_line(hub: Hub, capsys):
    Path("w").mkdir()
    (Path("w") / LOCK).write_text('{"version": 1, "repositories": {"a": 5}}')
    code, _, err = run(capsys)
    assert code == 1 and f"w/{LOCK}" in err and "remove it" in err
    (Path("w") / LOCK).unlink()
    code, _, err = run(capsys, "--part", "nothing")
    assert code == 1 and "'depth' has no part 'nothing'; its parts: main, other, web" in err
    code, _, err = run(capsys, "--endpoint", "nowhere")
    assert code == 1 and "the endpoint 'nowhere' is no address" in err
    code, _, err = run(capsys, "--part", "main", "--part", "other", "--revision", "abc")
    assert code == 1 and "name one with --part" in err
    assert main(["weights", "fetch", "--preset", "moge5d"]) == 1
    assert "nothing is known to fetch for the preset 'moge5d'; known: depth" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["weights", "fetch"])


def test_a_folder_that_cannot_be_written_is_one_line(hub: Hub, capsys):
    Path("w").write_text("a file")
    code, _, err = run(capsys)
    assert code == 1 and "cannot write" in err and "w" in err


def test_python_fetches_too(hub: Hub):
    told: list[str] = []
    hub.faults["model.safetensors"] = [cut(50_000)]
    folder = more4d.fetch_weights("depth", weights="mine", notify=told.append)
    assert folder == Path("mine") and (folder / "model/config.json").read_bytes() == b"{}\n"
    assert len(told) == 1 and "trying again" in told[0]
    plan = plan_fetch("depth", folder=folder)
    assert plan.remaining == 0 and len(plan.wanted) == 2
    with pytest.raises(ConfigError, match="there is no source 'torrent'"):
        more4d.fetch_weights("depth", source="torrent")
    with pytest.raises(InputError, match="no such revision"):
        more4d.fetch_weights("depth", weights="other", revision="0" * 40)


def start(hub: Hub, tmp_path: Path) -> subprocess.Popen:
    """The command in a process of its own."""
    code = (
        "import sys; from pathlib import Path; from more4d.weights import manifest; "
        f"manifest.MANIFESTS = Path({str(tmp_path / 'manifests')!r}); "
        "from more4d.cli.main import start; sys.argv = ['more4d', *sys.argv[1:]]; start()"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code, "weights", "fetch", "--preset", "depth", "--weights", "w"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Tests that a script started in its background ignore SIGINT, and would hand that on.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def until(happened, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.02)


def begun() -> int:
    return sum(path.stat().st_size for path in Path("w/model").glob(".*.part"))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_run_is_gone_on_with(hub: Hub, capsys, tmp_path: Path, number: int):
    go_on = threading.Event()
    hub.faults["model.safetensors"] = [stuck(60_000, go_on)]
    process = start(hub, tmp_path)
    try:
        until(lambda: begun() >= 60_000)
        process.send_signal(number)
        _, err = process.communicate(timeout=300)
    finally:
        process.kill()
        go_on.set()
    assert process.returncode == (-signal.SIGKILL if number == signal.SIGKILL else 130)
    assert number == signal.SIGKILL or "the same command goes on from here" in err
    # Meanwhile something else was published: the commit that was begun is finished.
    hub.repositories[MODEL].publish({**FILES, "model.safetensors": b"new" * 1000})
    assert run(capsys)[0] == 0
    assert Path("w/model/model.safetensors").read_bytes() == FILES["model.safetensors"]
    assert hub.asked("/blob/")[-1].headers["Range"] == "bytes=60000-"
    assert not list(Path("w").rglob("*.part"))


def test_two_processes_at_once_fetch_everything_once(hub: Hub, tmp_path: Path):
    go_on = threading.Event()
    hub.faults["model.safetensors"] = [stuck(60_000, go_on)]
    first = start(hub, tmp_path)
    try:
        until(lambda: begun() >= 60_000)
        second = start(hub, tmp_path)
        try:
            waiting = second.stderr.readline()
            go_on.set()
            answers = [process.communicate(timeout=300) for process in (first, second)]
        finally:
            second.kill()
    finally:
        first.kill()
        go_on.set()
    assert [first.returncode, second.returncode] == [0, 0], answers
    assert "another process is fetching into w; waiting for it" in waiting
    assert Path("w/model/model.safetensors").read_bytes() == FILES["model.safetensors"]
    assert len(hub.asked("/blob/")) == 2  # the cut one, and the rest of it


def test_every_manifest_names_files_that_its_preset_reads(monkeypatch):
    from more4d.pipelines.preset import read_preset

    for name in ("fun-1.3b", "fun-14b", "moge4d"):
        places = [Path(part.to) for part in manifest.read_manifest(name).values()]
        components = vars(read_preset(name).components).values()
        files = [Path(getattr(each, "file", each)) for each in components if each is not None]
        for file in files:
            assert any(file.is_relative_to(place) for place in places), (name, file)


def test_the_list_needs_no_network(capsys, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert main(["weights", "fetch", "--list"]) == 0
    out = capsys.readouterr().out
    for name in ("depth", "fun-1.3b", "fun-14b", "moge4d"):
        assert f"preset {name}\n" in out
    assert "CC BY-NC 4.0, not for commercial use" in out


def test_a_preset_that_lacks_files_names_the_command(capsys, tmp_path: Path):
    photo, place = str(ROOT / "examples/goat.jpg"), str(tmp_path)
    assert main(["infer", photo, "--prompt", "a", "--preset", "fun-1.3b", "--weights", place]) == 1
    assert f"'{manifest.COMMAND} --preset fun-1.3b --weights {tmp_path}'" in capsys.readouterr().err
    assert main(["infer", photo, "--prompt", "a", "--depth-model", "zoedepth", "--weights", place]) == 1
    assert f"{manifest.COMMAND} --preset depth --part zoedepth" in capsys.readouterr().err
    assert main(["weights", "check", str(tmp_path), "--preset", "moge4d"]) == 1
    assert f"{manifest.COMMAND} --preset moge4d" in capsys.readouterr().out


def test_presets_that_share_files_share_what_the_lock_remembers(hub: Hub, capsys, monkeypatch, tmp_path):
    file = tmp_path / "manifests/depth.yaml"
    shared = MANIFEST[: MANIFEST.index("  other:")].partition("parts:\n")[2]
    small = shared.replace("  main:", "  small:").replace('[config.json, "*.safetensors"]', "[config.json]")
    file.write_text(file.read_text() + small + "    optional: true\n")
    assert run(capsys)[0] == 0
    before = lock()
    assert run(capsys, "--part", "small")[0] == 0
    assert lock() == before
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for part in ("small", "main"):
        assert run(capsys, "--part", part)[0] == 0


def test_a_file_of_another_version_is_fetched_anew_and_counted(hub: Hub, capsys):
    Path("w/model").mkdir(parents=True)
    Path("w/model/model.safetensors").write_bytes(b"old")
    assert "102 KB to fetch" in run(capsys, "--dry-run")[1]


def test_an_address_has_no_revision(hub: Hub, capsys):
    code, _, err = run(capsys, "--part", "web", "--revision", "main")
    assert code == 1 and "is one file at an address" in err
