"""What model hubs hold, and a stream of a file's bytes: Hugging Face, ModelScope, and plain addresses.

The only door to `huggingface_hub`. It gives the session (proxies, certificates, offline mode), the user's
token and the two questions about a repository: which commit, which files. Its own download is not used: in
2.4.0 every process writes to a name of its own, which is removed when it fails, so a file of 33 GB that was
cut starts again at nothing. `files.downloads` goes on where it stopped and hashes what is on the disk.

ModelScope is asked by plain requests, as its client does: a list of files with their SHA-256, and an address
for each.
"""

import importlib
import json
import logging
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from pathlib import PurePosixPath
from typing import Any, TypeVar
from urllib.parse import quote, urlencode, urlsplit

from more4d.files.problems import error_summary
from more4d.foundation.errors import InputError

HUGGING_FACE = "https://huggingface.co"
MODELSCOPE = "https://modelscope.cn"
TOKEN_VARIABLES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
THIS_MACHINE = ("localhost", "127.0.0.1", "::1")
OFFLINE_VARIABLES = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
TIMEOUT_S = 60.0
WAITS_S = (1.0, 2.0, 4.0, 8.0, 15.0)
"""Between tries without any progress."""
LONGEST_WAIT_S = 300.0
"""A server that asks for more is obeyed by stopping."""
PASSING = (408, 425, 429, 500, 502, 503, 504)
"""Status codes after which the same request may succeed."""
COMMIT = re.compile("[0-9a-f]{40}")

Value = TypeVar("Value")
Notify = Callable[[str], None]
sleep = time.sleep


class PassingError(Exception):
    """A request failed in a way that may pass: the connection was cut, the server is busy.

    Attributes:
        wait_s: how long the server asks to wait; None if it does not say.
    """

    def __init__(self, text: str, wait_s: float | None = None) -> None:
        super().__init__(text)
        self.wait_s = wait_s


@dataclass(frozen=True, kw_only=True)
class RemoteFile:
    """A file of a hub and what is known of it.

    Attributes:
        path: its name in the repository, with "/" between folders.
        url: where its bytes are.
        size: in bytes; None if the server does not say.
        sha256: of its content: files in LFS, and what a lock file remembers.
        git_sha1: name of its content in git: files that are not in LFS.
        page: the page of the repository, for people.
        token: goes along to the host of `url`, never further.
    """

    path: str
    url: str
    size: int | None = None
    sha256: str | None = None
    git_sha1: str | None = None
    page: str = ""
    token: str | None = None

    def __repr__(self) -> str:  # without the token
        return f"RemoteFile({self.path!r}, {self.size})"


@dataclass(frozen=True, kw_only=True)
class Listing:
    """The files of a repository at one revision.

    Attributes:
        revision: the full commit on Hugging Face; the name of a branch on ModelScope.
        licence: what the repository says; None if nothing.
    """

    revision: str
    files: tuple[RemoteFile, ...]
    licence: str | None = None


class HuggingFaceHub:
    """The Hugging Face hub, or a mirror of it.

    A token that the user gave for this process (`HF_TOKEN`) goes to the endpoint that the user gave; one that
    `hf auth login` has stored goes to huggingface.co only. No redirect carries either to another host, and
    neither is sent unencrypted.
    """

    name = "hf"
    branch = "main"

    def __init__(self, endpoint: str | None = None) -> None:
        self.endpoint = checked_endpoint(endpoint or os.environ.get("HF_ENDPOINT") or HUGGING_FACE)
        self.token = _token(self.endpoint)

    def page(self, repository: str) -> str:
        return f"{self.endpoint}/{repository}"

    def listing(self, repository: str, revision: str, notify: Notify) -> Listing:
        """The files at a revision: two requests, repeated while they fail in a way that may pass.

        Raises:
            InputError: there is no such repository or revision, or no access to it; or this is no hub.
        """
        import huggingface_hub

        api = huggingface_hub.HfApi(endpoint=self.endpoint, token=self.token or False)

        def ask() -> Listing:
            with _answers(self.page(repository), self.token):
                info = api.model_info(repository, revision=revision, timeout=TIMEOUT_S)
                if not COMMIT.fullmatch(info.sha or ""):
                    raise ValueError(f"no commit in the answer, but {info.sha!r}")
                entries = list(api.list_repo_tree(repository, recursive=True, revision=info.sha))
                files = [entry for entry in entries if isinstance(entry, huggingface_hub.RepoFile)]
                card = info.card_data or {}
                licence = card.get("license_name") or card.get("license")
                return Listing(
                    revision=info.sha,
                    files=tuple(self._file(repository, info.sha, each) for each in files),
                    licence=licence if isinstance(licence, str) else None,
                )

        return patiently(ask, notify)

    def _file(self, repository: str, commit: str, entry: Any) -> RemoteFile:
        # In git a large file is a pointer, whose name is not that of the content.
        return self.file(
            repository,
            commit,
            checked_path(entry.path),
            size=entry.size,
            sha256=entry.lfs.sha256 if entry.lfs else None,
            git_sha1=None if entry.lfs else entry.blob_id,
        )

    def file(self, repository: str, revision: str, path: str, **known: Any) -> RemoteFile:
        """A file by its name; `known` are its size and hashes."""
        return RemoteFile(
            path=path,
            url=f"{self.endpoint}/{repository}/resolve/{quote(revision, safe='')}/{quote(path)}",
            page=self.page(repository),
            token=self.token,
            **known,
        )


class ModelScope:
    """ModelScope's public repositories; no account is used, and no token is sent."""

    name = "modelscope"
    branch = "master"

    def __init__(self, endpoint: str | None = None) -> None:
        self.endpoint = checked_endpoint(endpoint or os.environ.get("MODELSCOPE_ENDPOINT") or MODELSCOPE)

    def page(self, repository: str) -> str:
        return f"{self.endpoint}/models/{repository}"

    def listing(self, repository: str, revision: str, notify: Notify) -> Listing:
        """As `HuggingFaceHub.listing`. Every file has a SHA-256, also small ones."""
        question = urlencode({"Revision": revision, "Recursive": "True"})
        address = f"{self.endpoint}/api/v1/models/{repository}/repo/files?{question}"

        def ask() -> Listing:
            with _answers(self.page(repository), None):
                with open_stream(RemoteFile(path="", url=address, page=self.page(repository))) as response:
                    answer = json.loads(response.read())
                entries = [entry for entry in answer["Data"]["Files"] if entry["Type"] == "blob"]
                files = [
                    self.file(
                        repository,
                        revision,
                        checked_path(entry["Path"]),
                        size=int(entry["Size"]),
                        sha256=entry.get("Sha256") or None,
                    )
                    for entry in entries
                ]
                return Listing(revision=revision, files=tuple(files))

        return patiently(ask, notify)

    def file(self, repository: str, revision: str, path: str, **known: Any) -> RemoteFile:
        """As `HuggingFaceHub.file`."""
        question = urlencode({"Revision": revision, "FilePath": path})
        url = f"{self.endpoint}/api/v1/models/{repository}/repo?{question}"
        return RemoteFile(path=path, url=url, page=self.page(repository), **known)


HUBS = {hub.name: hub for hub in (HuggingFaceHub, ModelScope)}


def is_offline() -> bool:
    """Whether the user has forbidden any question to a hub."""
    return any(os.environ.get(name, "").upper() in ("1", "ON", "YES", "TRUE") for name in OFFLINE_VARIABLES)


def checked_endpoint(address: str) -> str:
    """The address of a hub, without a "/" at its end.

    Raises:
        InputError: it is no address of the web.
    """
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query:
        raise InputError(f"the endpoint '{shown_url(address)}' is no address; give one like {HUGGING_FACE}")
    return address.rstrip("/")


def checked_path(path: str) -> str:
    """A path of a listing, which decides where a file is written.

    Raises:
        InputError: it would leave its folder.
    """
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts or "\\" in path or "\0" in path:
        raise InputError(f"the hub lists a file called {path!r}, which would lie outside of its folder")
    return path


def shown_url(address: str) -> str:
    """An address for a message: without name and password, and without its query, which may be signed."""
    parts = urlsplit(address)
    host = f"{parts.hostname or ''}{f':{parts.port}' if parts.port else ''}"
    return f"{parts.scheme}://{host}{parts.path}" if parts.scheme else address


def patiently(
    action: Callable[[], Value], notify: Notify, *, advanced: Callable[[], bool] = lambda: False
) -> Value:
    """The value of `action`, which is repeated after a `PassingError`.

    Args:
        notify: is given the reason why it waits.
        advanced: whether the last try has got further; the tries are counted anew then.

    Raises:
        InputError: it failed too often, or the server asks for more patience than there is.
    """
    tries = 0
    while True:
        try:
            return action()
        except PassingError as error:
            tries = 0 if advanced() else tries
            wait_s = WAITS_S[min(tries, len(WAITS_S) - 1)] if error.wait_s is None else error.wait_s
            if wait_s > LONGEST_WAIT_S:
                text = f"{error}, and asks to wait {wait_s / 60:.0f} minutes; start again then"
                raise InputError(f"{text}: what is here is kept") from error
            if tries == len(WAITS_S):
                raise InputError(
                    f"{error}, {tries + 1} times; check network and proxy, or give a mirror (--endpoint), "
                    "and start again: what is here is kept"
                ) from error
            tries += 1
            notify(f"{error}; trying again in {wait_s:.0f} s")
            sleep(wait_s)


@contextmanager
def open_stream(file: RemoteFile, start: int = 0) -> Iterator[Any]:
    """The answer of a server to the question for a file, from byte `start` on; its status is 200, 206 or 416.

    Raises:
        PassingError: the connection was cut, here or while the caller reads; or the server is busy.
        InputError: the server refuses.
    """
    import huggingface_hub

    # Compressed, sizes and positions would be those of something else.
    headers = {"Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    if file.token:
        headers["Authorization"] = f"Bearer {file.token}"
    with _answers(file.page or shown_url(file.url), file.token):
        # The session leaves the token out where a redirect goes to another scheme, host or port.
        session = huggingface_hub.get_session()
        with session.stream("GET", file.url, headers=headers, timeout=TIMEOUT_S) as response:
            if response.status_code not in (200, 206, 416):
                raise _refusal(response, file.page or shown_url(file.url), bool(file.token))
            yield response


@contextmanager
def _answers(page: str, token: str | None) -> Iterator[None]:
    """What `huggingface_hub` and its session raise, as errors of this module."""
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    # httpx2, or httpx where Python 3.10 has an older hub client.
    http = importlib.import_module(type(huggingface_hub.get_session()).__module__.partition(".")[0])
    log = logging.getLogger("huggingface_hub")
    level, host = log.level, urlsplit(page).netloc
    log.setLevel(logging.CRITICAL)  # it prints addresses with signatures
    try:
        yield
    except HfHubHTTPError as error:
        raise _refusal(error.response, page, bool(token)) from error
    except (http.TooManyRedirects, http.UnsupportedProtocol, http.InvalidURL) as error:
        raise InputError(
            f"{page}: {host} sends the request elsewhere in a way that leads nowhere "
            f"({type(error).__name__}); check --endpoint"
        ) from error
    except http.TransportError as error:
        reason = error_summary(error)
        if "CERTIFICATE_VERIFY_FAILED" in reason:
            raise InputError(
                f"the certificate of {host} cannot be checked; set SSL_CERT_FILE to the certificates of your "
                "network"
            ) from error
        raise PassingError(f"{host} cannot be reached or cut the connection ({reason})") from error
    except http.RequestError as error:  # what was sent is not compressed as it says
        raise PassingError(f"{host} sends what cannot be read ({error_summary(error)})") from error
    except OfflineModeIsEnabled as error:
        raise InputError(f"{page} was not asked: HF_HUB_OFFLINE is set; unset it") from error
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{page} does not answer as a hub does ({error_summary(error)}); check --endpoint, and whether a "
            "proxy asks to log in"
        ) from error
    finally:
        log.setLevel(level)


def _refusal(response: Any, page: str, with_token: bool) -> Exception:
    """The error for a status code, with the way out."""
    status, code = response.status_code, response.headers.get("X-Error-Code", "")
    host = urlsplit(page).netloc
    if status in PASSING:
        busy = "is asked too often" if status == 429 else "is busy or out of order"
        return PassingError(f"{host} {busy} ({status})", _asked_wait_s(response.headers))
    if status in (401, 403):
        account = "the account of the token has no access" if with_token else "no account was given"
        return InputError(
            f"{page} is private, gated or not there, and {account} ({status}): accept its conditions on that "
            "page, then log in with .venv/bin/hf auth login, or set HF_TOKEN"
        )
    if status == 404:
        what = {"RevisionNotFound": "no such revision", "EntryNotFound": "no such file"}.get(code, "")
        return InputError(
            f"{page}: {what or 'no such repository, revision or file'} (404); check the name, --revision and "
            "--endpoint"
        )
    if status == 407:
        return InputError("the proxy asks for a name and a password (407); write them into HTTPS_PROXY")
    return InputError(f"{page} refuses the request ({status}); check --endpoint and --revision")


def _asked_wait_s(headers: Any) -> float | None:
    """How long a server asks to wait: `Retry-After`, in seconds or as a date, or `RateLimit: ...;t=55`."""
    text = headers.get("Retry-After", "").strip()
    if text.isdigit():
        return float(text)
    if text:
        try:
            until = parsedate_to_datetime(text)
        except ValueError:
            return None
        now = datetime.now(until.tzinfo or timezone.utc)
        return max(0.0, (until - now).total_seconds())
    limit = re.search(r";\s*t\s*=\s*(\d+)", headers.get("RateLimit", ""))
    return float(limit[1]) + 1 if limit else None


def _token(endpoint: str) -> str | None:
    """The token for an endpoint, as the class says."""
    given = next((os.environ[name] for name in TOKEN_VARIABLES if os.environ.get(name)), None)
    if urlsplit(endpoint).scheme == "http" and urlsplit(endpoint).hostname not in THIS_MACHINE:
        return None  # anybody on the way could read it
    if given or urlsplit(endpoint).hostname != urlsplit(HUGGING_FACE).hostname:
        return given.strip() if given else None
    import huggingface_hub

    if os.environ.get("HF_HUB_DISABLE_IMPLICIT_TOKEN", "").upper() in ("1", "ON", "YES", "TRUE"):
        return None
    return huggingface_hub.get_token()
