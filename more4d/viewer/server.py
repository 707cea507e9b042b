"""The server of `more4d view`: who may connect, and a view of their own for all who do.

Any page that a browser shows may open a web socket to a server of the same machine, and viser lets any client
ask for a public address through a third party. So pages of other origins are refused, and that address is
never made.
"""

import errno
import io
import ipaddress
import logging
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from functools import partial
from typing import Any

from more4d.foundation.errors import InputError
from more4d.foundation.optional import require
from more4d.viewer.client import ClientView
from more4d.viewer.items import Library
from more4d.viewer.threads import Worker

LOCAL_HOST, DEFAULT_PORT = "127.0.0.1", 8080

_log = logging.getLogger(__name__)


class Viewer:
    """A server that shows the items of a library, each client in a view of its own.

    Attributes:
        library, worker: shared by all clients.
        address: for a browser.
        views: of those who look, by viser's number of the client.
    """

    def __init__(self, library: Library, worker: Worker, *, host: str = LOCAL_HOST, port: int) -> None:
        """Start to serve.

        Args:
            host: the address to listen on; others than of this machine let anyone who reaches it in.
            port: 0 takes a free one.

        Raises:
            InputError: the host is none of this machine, or the port is in use.
            MissingPackageError: viser is not installed.
        """
        viser = require("viser", extra="view")
        sockets = require("websockets.asyncio.server", extra="view")
        self.library, self.worker = library, worker
        self.views: dict[int, ClientView] = {}
        port = free_port(host, port)
        if not is_local(host):
            _log.warning(
                "listening on %s: all who reach this address can look at the items and start runs; %s is "
                "for this machine alone",
                *(host, LOCAL_HOST),
            )
        # viser prints where it listens whatever `verbose` says
        with _origins_checked(sockets, host, port), redirect_stdout(io.StringIO()):
            self._server = viser.ViserServer(host=host, port=port, label="more4d", verbose=False)
        # viser's client can ask for this by a message even where its button is hidden
        self._server.request_share_url = lambda verbose=True: None
        if self._server.get_port() != port:  # taken since it was tried; viser went on to the next
            self.stop()
            raise InputError(_in_use(host, port))
        shown = f"[{host}]" if ":" in host else host
        self.address = f"http://{'localhost' if host in ('0.0.0.0', '::') else shown}:{port}"
        self._server.gui.configure_theme(
            show_logo=False, show_share_button=False, dark_mode=True, control_width="large"
        )
        self._server.on_client_connect(self._connected)
        self._server.on_client_disconnect(self._disconnected)

    def _connected(self, client: Any) -> None:
        self.views[client.client_id] = ClientView(client, self.library, self.worker, self._made)

    def _made(self, item: str) -> None:
        """Files of an item are new: all who look see that."""
        self.library.forget(item)
        for view in list(self.views.values()):
            view.safely(lambda view=view: view.refresh(item))(None)

    def _disconnected(self, client: Any) -> None:
        view = self.views.pop(client.client_id, None)
        if view is not None:
            view.close()

    def wait(self) -> None:
        """Serve until the process is interrupted."""
        self._server.sleep_forever()

    def stop(self) -> None:
        """Serve no more."""
        for view in list(self.views.values()):
            view.close()
        self.worker.close()
        with redirect_stdout(io.StringIO()):
            self._server.stop()


def is_local(host: str) -> bool:
    """Whether only this machine reaches an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def free_port(host: str, port: int) -> int:
    """`port`, if a server can listen on it; a free one for 0.

    Raises:
        InputError: it is in use, or the host is none of this machine.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            # as servers do: what an earlier one left half open does not count
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
            return probe.getsockname()[1]
    except PermissionError as error:
        raise InputError(f"port {port} may not be used by you; choose one from 1024 (--port)") from error
    except OSError as error:
        foreign = isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL
        where = f"--host {host} is no address of this machine; leave it out for {LOCAL_HOST}"
        raise InputError(where if foreign else _in_use(host, port)) from error


def _in_use(host: str, port: int) -> str:
    return f"port {port} of {host} is in use; choose another one (--port {port + 1}), or end what uses it"


@contextmanager
def _origins_checked(sockets: Any, host: str, port: int) -> Iterator[None]:
    """While viser starts its server, web sockets of other pages than its own are refused where it is local.

    viser has no setting for it; the library that serves its web sockets has. A page of another port is
    another page: who may serve one here is not always who runs the viewer.
    """
    own = re.compile(rf"http://(localhost|127\.0\.0\.1|\[::1\]){'(:80)?' if port == 80 else f':{port}'}")
    serve = sockets.serve
    if is_local(host):
        sockets.serve = partial(serve, origins=[own])
    try:
        yield
    finally:
        sockets.serve = serve
