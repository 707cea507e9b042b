"""Who may connect, and that nothing that is asked for ends the server."""

import http.client
import socket
import threading

import pytest

from more4d.cli.main import main
from more4d.foundation import optional
from more4d.foundation.errors import InputError
from more4d.pipeline import More4DPipeline
from more4d.viewer.items import Library
from more4d.viewer.server import Viewer, free_port, is_local
from more4d.viewer.threads import Newest, Worker, next_time


@pytest.fixture(scope="module")
def viewer(item_folder):
    made = Viewer(Library(item_folder), Worker(pipeline), port=0)
    yield made
    made.stop()


def pipeline():
    """One that no test here computes with."""
    return object.__new__(More4DPipeline)


class Watched:
    """Keeps what it is shown."""

    def __init__(self):
        self.seen = []

    def progress(self, stage, done, total):
        self.seen.append((stage, done, total))

    def finished(self, film):
        self.seen.append(film)

    def failed(self, reason):
        self.seen.append(reason)


def test_it_serves_its_page_and_no_other_file(viewer):
    host, port = viewer.address.removeprefix("http://").split(":")
    found = {}
    for path in ("/", "/../../_viser.py", "/%2e%2e/%2e%2e/_viser.py", "//etc/passwd"):
        client = http.client.HTTPConnection(host, int(port), timeout=20)
        client.request("GET", path)
        answer = client.getresponse()
        found[path] = (answer.status, b"viser" in answer.read()[:20_000])
        client.close()
    assert host == "127.0.0.1"
    assert found.pop("/")[0] == 200
    assert all(status in (400, 403, 404) for status, _ in found.values()), found


def web_socket_status(address: str, origin: str | None) -> int:
    """What the server answers to the beginning of a web socket: 101 if it is opened."""
    client = http.client.HTTPConnection(address.removeprefix("http://"), timeout=20)
    headers = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}
    headers |= {"Sec-WebSocket-Key": "MDEyMzQ1Njc4OWFiY2RlZg==", "Sec-WebSocket-Protocol": "viser-v1.1.1"}
    client.request("GET", "/", headers=headers | ({"Origin": origin} if origin else {}))
    status = client.getresponse().status
    client.close()
    return status


def test_pages_of_other_origins_may_not_connect(viewer):
    host, _, port = viewer.address.rpartition(":")
    foreign = (
        f"{host}:{int(port) - 1}",
        f"{host}:{port}0",
        host,
        "http://example.org",
        "http://127.0.0.1.example.org:8080",
        "http://192.168.1.5:8080",
        "null",
        None,
    )
    assert [web_socket_status(viewer.address, origin) for origin in foreign] == [403] * 8
    for own in (viewer.address, f"http://localhost:{port}"):
        assert web_socket_status(viewer.address, own) == 101


def test_no_public_address_is_made(viewer):
    assert viewer._server.request_share_url() is None


def test_a_busy_port_is_one_line(viewer, item_folder, capsys):
    port = int(viewer.address.rpartition(":")[2])
    assert main(["view", str(item_folder), "--port", str(port)]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"error: port {port} of 127.0.0.1 is in use") and error.count("\n") == 1


def test_a_foreign_address_is_one_line():
    for host in ("192.0.2.1", "no.such.host.invalid"):
        with pytest.raises(InputError, match=f"--host {host} is no address of this machine"):
            free_port(host, 0)
    assert is_local("127.0.0.1") and is_local("::1") and is_local("localhost")
    assert not is_local("0.0.0.0") and not is_local("192.168.1.5")


def test_without_viser_the_way_to_it_is_said(monkeypatch, item_folder, capsys):
    monkeypatch.setattr(optional, "is_installed", lambda module: module != "viser")
    assert main(["view", str(item_folder)]) == 1
    assert "get it, in the repository, with: python -m pip install '.[view]'" in capsys.readouterr().err


def test_a_run_that_fails_is_reported_and_the_next_one_runs(tmp_path, caplog):
    worker = Worker(pipeline)

    def refused(pipe, progress):
        progress("depth", 1, 2)
        raise InputError("the disk is full")

    def broken(pipe, progress):
        return 1 // 0

    for run, end in ((refused, "the disk is full"), (broken, "ZeroDivisionError"), (lambda *_: tmp_path, "")):
        watched = Watched()
        worker.start(run, watched)
        worker.wait()
        assert str(watched.seen[-1]).startswith(end)
    assert watched.seen == [tmp_path]


def test_one_run_at_a_time(tmp_path):
    worker, go = Worker(pipeline), threading.Event()
    worker.start(lambda *_: go.wait(20) and tmp_path, Watched())
    with pytest.raises(InputError, match="another run is going on"):
        worker.start(lambda *_: tmp_path, Watched())
    go.set()
    worker.wait()


def test_the_end_of_the_viewer_ends_a_run():
    worker, watched, started = Worker(pipeline), Watched(), threading.Event()

    def endless(pipe, progress):
        while True:
            progress("fill", 0, 1)
            started.set()

    worker.start(endless, watched)
    assert started.wait(20)
    worker.close()
    assert watched.seen[-1] == "the viewer was ended"


def test_of_many_requests_the_newest_is_computed():
    newest, done = Newest(), []
    started, go, ended = threading.Event(), threading.Event(), threading.Event()

    def first():
        started.set()
        go.wait(20)
        done.append(1)

    newest.ask(first)
    assert started.wait(20)
    for number in range(2, 9):
        newest.ask(lambda number=number: (done.append(number), ended.set())[1])
    go.set()
    assert ended.wait(20)
    newest.close()
    assert done == [1, 8]


def test_the_clock_loops_or_ends():
    assert next_time(3.0, 0.5, rate=12, frames=25, loop=False) == 9.0
    assert next_time(20.0, 0.5, rate=12, frames=25, loop=True) == 2.0
    assert next_time(20.0, 0.5, rate=12, frames=25, loop=False) is None
    assert next_time(0.0, 0.5, rate=12, frames=1, loop=True) is None


def test_a_port_that_is_free_is_found():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        probe.listen()
        taken = probe.getsockname()[1]
        assert free_port("127.0.0.1", 0) != taken
        with pytest.raises(InputError, match=f"--port {taken + 1}"):
            free_port("127.0.0.1", taken)
