"""What a hub says of its repositories, who is let in, and how it is reached; the hub is on this machine."""

import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import huggingface_hub
import pytest

from more4d.files import downloads
from more4d.files.hub_backend import HuggingFaceHub, ModelScope
from more4d.foundation.errors import InputError
from tests.files import hub_server
from tests.files.hub_server import (
    LARGE,
    NAME,
    SMALL,
    Hub,
    cut,
    fetched,
    listed,
    silent,
    status,
)


def test_a_listing_has_the_commit_sizes_hashes_and_the_licence(hub: Hub):
    listing = HuggingFaceHub().listing(NAME, "main", silent)
    assert listing.revision == hub_server.commit_of(hub.repositories[NAME].files)
    assert listing.licence == "apache-2.0"
    large, small = sorted(listing.files, key=lambda file: -(file.size or 0))
    assert (large.size, large.sha256, large.git_sha1) == (
        len(LARGE),
        hub_server.sha256(LARGE),
        None,
    )
    assert (small.size, small.sha256, small.git_sha1) == (
        len(SMALL),
        None,
        hub_server.git_sha1(SMALL),
    )


def test_questions_about_a_repository_are_repeated_too(hub: Hub):
    hub.faults["info"], hub.faults["tree"] = [status(503)], [status(503), status(500)]
    assert set(listed(hub)) == {"model.safetensors", "config.json"}


@pytest.mark.parametrize("what", ["info", "tree"])
def test_a_page_that_is_no_hub_is_said_to_be_none(hub: Hub, what: str):
    hub.faults[what] = [lambda handler, content: handler.answer(200, b"<html>log in</html>")] * 9
    with pytest.raises(InputError, match="does not answer as a hub does"):
        listed(hub)


@pytest.mark.parametrize("path", ["../x.bin", "/etc/x.bin", "a/../../x.bin", "a\\b.bin"])
def test_a_listing_cannot_write_outside_of_its_folder(hub: Hub, path: str):
    hub.repositories[NAME].publish({path: b"x"})
    with pytest.raises(InputError, match="outside of its folder"):
        listed(hub)
    with pytest.raises(InputError, match="outside of its folder"):
        ModelScope().listing(NAME, "master", silent)


def test_gated_missing_and_unknown_are_told_apart(hub: Hub, monkeypatch: pytest.MonkeyPatch):
    ask = HuggingFaceHub()
    with pytest.raises(InputError, match=r"no such repository, revision or file \(404\)"):
        ask.listing("people/other", "main", silent)
    with pytest.raises(InputError, match=r"no such revision \(404\)"):
        ask.listing(NAME, "f" * 40, silent)
    hub.repositories[NAME].gated = True
    page = re.escape(f"{hub.address}/{NAME}")
    with pytest.raises(InputError, match=f"{page} is private, gated .* no account was given .*hf auth login"):
        ask.listing(NAME, "main", silent)
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(InputError, match=r"the account of the token has no access \(403\)") as raised:
        HuggingFaceHub().listing(NAME, "main", silent)
    assert "hf_wrong" not in str(raised.value)


def test_a_token_opens_its_hub_and_goes_nowhere_else(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    hub.repositories[NAME].gated = True
    monkeypatch.setenv("HF_TOKEN", "hf_right")
    found = listed(hub)
    assert fetched(found["model.safetensors"], tmp_path) == LARGE
    with_token = {request.on_cdn for request in hub.requests if "hf_right" in str(request.headers)}
    assert with_token == {False} and any(request.on_cdn for request in hub.requests)
    assert "hf_right" not in repr(found)


def test_a_stored_login_is_for_the_hub_itself_only(hub: Hub, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: "hf_stored")
    assert HuggingFaceHub().token is None  # this is a mirror
    assert HuggingFaceHub("https://huggingface.co").token == "hf_stored"
    monkeypatch.setenv("HF_TOKEN", "hf_given")
    assert HuggingFaceHub("https://mirror.example").token == "hf_given"
    assert HuggingFaceHub("http://mirror.example").token is None  # in the clear


@pytest.mark.parametrize("address", ["mirror.example", "ftp://mirror.example", "http://", "file:///etc"])
def test_an_endpoint_is_an_address_of_the_web(address: str):
    with pytest.raises(InputError, match="is no address"):
        HuggingFaceHub(address)


def test_a_hub_that_cannot_be_reached_is_told(hub: Hub, monkeypatch: pytest.MonkeyPatch):
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as closed:
        port = closed.server_port
    with pytest.raises(InputError, match=f"127.0.0.1:{port} cannot be reached .* 6 times; check network"):
        HuggingFaceHub(f"http://127.0.0.1:{port}").listing(NAME, "main", silent)


def test_proxies_of_the_environment_are_used(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    asked: list[str] = []

    class Proxy(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            to = self.path.replace("http://hub.invalid", hub.address)
            session = huggingface_hub.get_session().__class__(trust_env=False)
            answer = session.get(to, headers={k: v for k, v in self.headers.items() if k == "Range"})
            self.send_response(answer.status_code)
            for name in ("Location", "X-Repo-Commit"):
                if name in answer.headers:
                    self.send_header(name, answer.headers[name])
            self.send_header("Content-Length", str(len(answer.content)))
            self.end_headers()
            self.wfile.write(answer.content)
            session.close()

        def log_message(self, *words: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as proxy:
        Thread(target=proxy.serve_forever, args=(0.02,), daemon=True).start()
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy.server_port}")
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.server_port}")
        monkeypatch.setenv("NO_PROXY", "")
        monkeypatch.setenv("no_proxy", "")
        monkeypatch.setenv("HF_ENDPOINT", "http://hub.invalid")
        huggingface_hub.close_session()
        hub.redirect = "relative"
        assert fetched(listed(hub)["model.safetensors"], tmp_path) == LARGE
        proxy.shutdown()
    assert all(address.startswith("http://hub.invalid/") for address in asked) and len(asked) >= 4


def test_modelscope_has_the_same_files(hub: Hub, tmp_path: Path):
    listing = ModelScope().listing(NAME, "master", silent)
    assert {file.path: file.sha256 for file in listing.files} == {
        "model.safetensors": hub_server.sha256(LARGE),
        "config.json": hub_server.sha256(SMALL),
    }
    hub.faults["model.safetensors"] = [cut(50_000)]
    assert fetched(next(file for file in listing.files if file.size == len(LARGE)), tmp_path) == LARGE


def test_a_plain_address_has_a_size_and_no_hash(hub: Hub, tmp_path: Path):
    commit = hub_server.commit_of(hub.repositories[NAME].files)
    address = f"{hub.address}/{NAME}/resolve/{commit}/model.safetensors"
    file = downloads.web_file(address, silent)
    assert (file.path, file.size) == ("model.safetensors", len(LARGE))
    assert not downloads.is_verifiable(file)
    assert fetched(file, tmp_path) == LARGE
