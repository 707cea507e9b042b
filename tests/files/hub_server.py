"""A hub on this machine: what the Hugging Face hub and ModelScope answer, and what goes wrong.

Large files ("LFS") are redirected to a second server, another origin, as a content network is; small ones
come from the hub itself. `faults` says what happens to the requests for a file, one after the other.
"""

import hashlib
import json
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import huggingface_hub
import pytest

from more4d.files import hub_backend
from more4d.files.downloads import fetch_file
from more4d.files.hub_backend import HuggingFaceHub, RemoteFile

NAME = "people/model"
LARGE = bytes(range(256)) * 400
SMALL = b'{"a": 1}\n'
IN_LFS = (".safetensors", ".pth", ".bin")
Fault = Callable[["Handler", bytes], bytes | None]
"""Answers a request itself and returns None, or returns what is sent in place of the content."""


def commit_of(files: dict[str, bytes]) -> str:
    return hashlib.sha1(repr(sorted(files.items())).encode()).hexdigest()


def git_sha1(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@dataclass
class Request:
    method: str
    path: str
    headers: dict[str, str]
    on_cdn: bool


@dataclass
class Repository:
    """Its snapshots, by commit; the last is what the branch points to."""

    files: dict[str, bytes]
    licence: str = "apache-2.0"
    gated: bool = False
    snapshots: dict[str, dict[str, bytes]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.publish(self.files)

    def publish(self, files: dict[str, bytes]) -> str:
        self.files = dict(files)
        self.snapshots[commit_of(files)] = self.files
        return commit_of(files)


@dataclass
class Hub:
    """What the servers know, and what they were asked."""

    repositories: dict[str, Repository] = field(default_factory=dict)
    faults: dict[str, list[Fault]] = field(default_factory=lambda: defaultdict(list))
    requests: list[Request] = field(default_factory=list)
    redirect: str = "cdn"  # of large files: "cdn", "relative" (on the hub itself), "loop"
    token: str = "hf_right"
    address: str = ""
    cdn: str = ""

    def asked(self, word: str) -> list[Request]:
        return [request for request in self.requests if word in request.path]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Any

    def log_message(self, *words: object) -> None:
        pass

    @property
    def hub(self) -> Hub:
        return self.server.hub

    def answer(self, status: int, content: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def do_GET(self) -> None:
        on_cdn = self.server.server_port == urlsplit(self.hub.cdn).port
        address = urlsplit(self.path)
        self.hub.requests.append(Request(self.command, self.path, dict(self.headers), on_cdn))
        path = unquote(address.path)
        waiting = self.hub.faults.get(path.rpartition("/")[2]) or self.hub.faults.get("any")
        if path.startswith("/api/models/"):
            self.list_hugging_face(path.removeprefix("/api/models/"))
        elif path.startswith("/api/v1/models/"):
            self.modelscope(path.removeprefix("/api/v1/models/"), parse_qs(address.query), waiting)
        elif path.startswith("/blob/"):
            self.send_file(self.blob(path.split("/")[2]), waiting)
        elif "/resolve/" in path:
            self.resolve(path, waiting)
        else:
            self.answer(404)

    do_HEAD = do_GET

    def repository(self, name: str) -> Repository | None:
        """The repository, or None if the request was refused already."""
        found = self.hub.repositories.get(name)
        if found is None:
            self.answer(404, X_Error_Code="RepoNotFound")
        elif found.gated and self.headers.get("Authorization") != f"Bearer {self.hub.token}":
            refused = 403 if "Authorization" in self.headers else 401
            self.answer(refused, X_Error_Code="GatedRepo")
            return None
        return found

    def list_hugging_face(self, path: str) -> None:
        waiting = self.hub.faults.get("tree" if "/tree/" in path else "info")
        if waiting and waiting.pop(0)(self, b"") is None:
            return
        name, _, rest = path.partition("/revision/" if "/revision/" in path else "/tree/")
        repository = self.repository(name)
        if repository is None:
            return
        head = next(reversed(repository.snapshots))
        commit = head if rest in ("main", "") else rest
        if commit not in repository.snapshots:
            self.answer(404, X_Error_Code="RevisionNotFound")
        elif "/tree/" in path:
            entries = [self.entry(*each) for each in repository.snapshots[commit].items()]
            self.answer(200, json.dumps(entries).encode(), Content_Type="application/json")
        else:
            card = {"license": repository.licence}
            info = {"id": name, "sha": commit, "cardData": card, "siblings": [], "tags": [], "private": False}
            self.answer(200, json.dumps(info).encode(), Content_Type="application/json")

    @staticmethod
    def entry(path: str, content: bytes) -> dict[str, Any]:
        entry = {"type": "file", "path": path, "size": len(content), "oid": git_sha1(content)}
        if path.endswith(IN_LFS):
            pointer = b"a pointer"  # in git lies this, not the content
            entry["oid"] = git_sha1(pointer)
            entry["lfs"] = {"oid": sha256(content), "size": len(content), "pointerSize": len(pointer)}
        return entry

    def resolve(self, path: str, waiting: list[Fault] | None) -> None:
        name, _, rest = path.removeprefix("/").partition("/resolve/")
        commit, _, file = rest.partition("/")
        repository = self.repository(name)
        if repository is None:
            return
        content = repository.snapshots.get(commit, {}).get(file)
        if content is None:
            self.answer(404, X_Error_Code="EntryNotFound")
        elif file.endswith(IN_LFS):
            to = {"cdn": self.hub.cdn, "relative": "", "loop": None}[self.hub.redirect]
            blob = f"/blob/{sha256(content)}/{file.rpartition('/')[2]}?Signature=secret"
            location = self.path if to is None else to + blob
            linked = {"X_Linked_Etag": f'"{sha256(content)}"', "X_Linked_Size": str(len(content))}
            self.answer(302, Location=location, X_Repo_Commit=commit, **linked)
        else:
            self.send_file(content, waiting, X_Repo_Commit=commit, ETag=f'"{git_sha1(content)}"')

    def blob(self, name: str) -> bytes:
        snapshots = [each for found in self.hub.repositories.values() for each in found.snapshots.values()]
        contents = (content for files in snapshots for content in files.values())
        return next(content for content in contents if sha256(content) == name)

    def modelscope(self, path: str, query: dict[str, list[str]], waiting: list[Fault] | None) -> None:
        name = path.removesuffix("/files").removesuffix("/repo")
        repository = self.repository(name)
        if repository is None:
            return
        if path.endswith("/files"):
            entries = [
                {"Path": file, "Size": len(content), "Sha256": sha256(content), "Type": "blob"}
                for file, content in repository.files.items()
            ]
            folders = [{"Path": "a-folder", "Size": 0, "Sha256": "", "Type": "tree"}]
            self.answer(200, json.dumps({"Code": 200, "Data": {"Files": folders + entries}}).encode())
        else:
            file = query["FilePath"][0]
            self.send_file(repository.files[file], self.hub.faults.get(file) or waiting)

    def send_file(self, content: bytes, waiting: list[Fault] | None, **headers: str) -> None:
        if waiting:
            replaced = waiting.pop(0)(self, content)
            if replaced is None:
                return
            content = replaced
        start, status = 0, 200
        if wanted := self.headers.get("Range"):
            start, status = int(wanted.removeprefix("bytes=").partition("-")[0]), 206
            if start >= len(content):
                self.answer(416, Content_Range=f"bytes */{len(content)}")
                return
            headers["Content_Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self.answer(status, content[start:], **headers)


def status(code: int, **headers: str) -> Fault:
    """Answers with a status code."""

    def fault(handler: Handler, content: bytes) -> None:
        handler.answer(code, b"<html>no</html>", **headers)

    return fault


def cut(after: int) -> Fault:
    """Promises everything that was asked for, and ends the connection after some of it."""

    def fault(handler: Handler, content: bytes) -> None:
        start = int(handler.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")[0])
        handler.send_response(206 if start else 200)
        handler.send_header("Content-Length", str(len(content) - start))
        handler.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        handler.end_headers()
        handler.wfile.write(content[start : start + after])
        handler.wfile.flush()
        handler.close_connection = True

    return fault


def stuck(after: int, until: threading.Event) -> Fault:
    """As `cut`, but sends no more until an event, so that the client can be killed."""

    def fault(handler: Handler, content: bytes) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content[:after])
        handler.wfile.flush()
        until.wait(60)
        handler.close_connection = True

    return fault


def no_range(handler: Handler, content: bytes) -> None:
    """Sends everything, whatever part was asked for."""
    handler.answer(200, content)


def wrong_range(handler: Handler, content: bytes) -> None:
    """Answers a Range with the bytes of another."""
    if "Range" not in handler.headers:
        handler.answer(200, content)
        return
    handler.answer(206, content[1:], Content_Range=f"bytes 1-{len(content) - 1}/{len(content)}")


def flipped(handler: Handler, content: bytes) -> bytes:
    """The right size, and one bit wrong."""
    return content[:-1] + bytes([content[-1] ^ 1])


def longer(handler: Handler, content: bytes) -> bytes:
    return content + b"and more" * 1000


class Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that leave in the middle are what is tested."""


@contextmanager
def running_hub() -> Iterator[Hub]:
    """The two servers, until the end of the block."""
    hub = Hub()
    servers = [Server(("127.0.0.1", 0), Handler) for _ in range(2)]
    hub.address, hub.cdn = (f"http://127.0.0.1:{server.server_port}" for server in servers)
    threads = []
    for server in servers:
        server.hub = hub
        threads.append(threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True))
        threads[-1].start()
    try:
        yield hub
    finally:
        for server, thread in zip(servers, threads, strict=True):
            server.shutdown()
            thread.join()
            server.server_close()


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long the client waited between tries; it does not really wait."""
    waited: list[float] = []
    monkeypatch.setattr(hub_backend, "sleep", waited.append)
    monkeypatch.setattr(time, "sleep", waited.append)  # of the hub's own client
    return waited


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, waits: list[float]) -> Iterator[Hub]:
    """A hub with one repository, which is the user's endpoint."""
    with running_hub() as running:
        running.repositories[NAME] = Repository({"model.safetensors": LARGE, "config.json": SMALL})
        for name in (*hub_backend.TOKEN_VARIABLES, *hub_backend.OFFLINE_VARIABLES):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("HF_ENDPOINT", running.address)
        monkeypatch.setenv("MODELSCOPE_ENDPOINT", running.address)
        huggingface_hub.close_session()
        yield running
        huggingface_hub.close_session()


def silent(line: str) -> None:
    pass


def listed(hub: Hub) -> dict[str, RemoteFile]:
    return {file.path: file for file in HuggingFaceHub().listing(NAME, "main", silent).files}


def fetched(file: RemoteFile, folder: Path, told: list[str] | None = None) -> bytes:
    """The file as it lies on the disk; nothing else lies beside it."""
    target = folder / "to" / file.path
    fetch_file(file, target, lambda done: None, (told if told is not None else []).append)
    assert [path.name for path in target.parent.iterdir() if path.suffix != ".bad"] == [file.path]
    return target.read_bytes()
