"""Real connections on loopback: an authority of the test's own, a TLS front, a CONNECT proxy, a relay that can be cut or hang."""

from __future__ import annotations

import base64
import contextlib
import datetime
import ipaddress
import select
import socket
import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

DAY = datetime.timedelta(days=1)
LOOPBACK = "127.0.0.1"


class Authority:
    """A private authority and the certificate it gave to 127.0.0.1."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        key, own = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
        issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "an authority of the tests")])
        authority = _certificate(issuer, issuer, key, key, is_authority=True)
        host = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, LOOPBACK)])
        certificate = _certificate(host, issuer, own, key, is_authority=False)
        self.path = directory / "authority.pem"
        self.path.write_bytes(authority.public_bytes(serialization.Encoding.PEM))
        chain = directory / "server.pem"
        secret = own.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        chain.write_bytes(secret + certificate.public_bytes(serialization.Encoding.PEM))
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(chain)


def _certificate(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    signer: ec.EllipticCurvePrivateKey,
    *,
    is_authority: bool,
) -> x509.Certificate:
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - DAY)
        .not_valid_after(now + 30 * DAY)
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
    )
    if not is_authority:
        names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(LOOPBACK)), x509.DNSName("localhost")])
        builder = builder.add_extension(names, critical=False)
    return builder.sign(signer, hashes.SHA256())


class _Listener:
    """Serves each connection in a thread of its own from the constructor to `stop`."""

    def __init__(self, serve: Callable[[socket.socket], None]) -> None:
        self._socket = socket.create_server((LOOPBACK, 0), backlog=256)
        self.port: int = self._socket.getsockname()[1]
        self._serve = serve
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # closed by `stop`
            while True:
                connection, _ = self._socket.accept()
                threading.Thread(target=self._attend, args=(connection,), daemon=True).start()

    def _attend(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            self._serve(connection)

    def stop(self) -> None:
        """No more connections."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


class TlsFront(_Listener):
    """TLS with the authority's certificate; what arrives is passed on to the plain service at `target`."""

    def __init__(self, target: str, authority: Authority) -> None:
        self._authority, parts = authority, urlsplit(target)
        self._target = (parts.hostname or "", parts.port or 80)
        self.connections = 0
        super().__init__(self._pass_on)
        self.url = f"https://{LOOPBACK}:{self.port}"

    def _pass_on(self, connection: socket.socket) -> None:
        with (
            self._authority.context.wrap_socket(connection, server_side=True) as inner,
            socket.create_connection(self._target) as service,
        ):
            self.connections += 1
            _pump(inner, service)


class Relay(_Listener):
    """Passes every connection on to the plain service at `target`, until it is told to refuse or to hang."""

    def __init__(self, target: str) -> None:
        parts = urlsplit(target)
        self._target = (parts.hostname or "", parts.port or 80)
        self._hangs, self._released = False, threading.Event()
        super().__init__(self._pass_on)
        self.url = f"http://{LOOPBACK}:{self.port}"

    def hang(self) -> None:
        """From now on connections are taken and nothing is answered."""
        self._hangs = True

    def stop(self) -> None:
        """From now on connections are refused."""
        self._released.set()
        super().stop()

    def _pass_on(self, connection: socket.socket) -> None:
        if self._hangs:
            self._released.wait(600)
            return
        with socket.create_connection(self._target) as service:
            _pump(connection, service)


class ConnectProxy(_Listener):
    """A forward proxy: CONNECT and plain requests; 407 without the right user and password."""

    def __init__(self, user: str = "", password: str = "", authority: Authority | None = None) -> None:
        """`authority`: the proxy itself is spoken to over TLS."""
        word = base64.b64encode(f"{user}:{password}".encode()).decode()
        self._wanted, self._authority = f"Basic {word}" if user else "", authority
        self.asked: list[str] = []
        """The targets that were let through."""
        self.refused = 0
        super().__init__(self._proxied)
        scheme = "https" if authority else "http"
        self.url = f"{scheme}://{LOOPBACK}:{self.port}"

    def url_with(self, credentials: str) -> str:
        """As a variable names it, with `user:password` as they are written in a URL."""
        return self.url.replace("://", f"://{credentials}@")

    def _proxied(self, connection: socket.socket) -> None:
        if self._authority is not None:
            connection = self._authority.context.wrap_socket(connection, server_side=True)
        with connection:
            head = b""
            while b"\r\n\r\n" not in head:
                piece = connection.recv(65_536)
                if not piece:
                    return
                head += piece
            lines, _, rest = head.partition(b"\r\n\r\n")
            request, *headers = lines.decode("latin-1").split("\r\n")
            given = next((line.partition(": ")[2] for line in headers if line.lower().startswith("proxy-authorization:")), "")
            if given != self._wanted:
                self.refused += 1
                connection.sendall(
                    b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                )
                return
            method, target, version = request.split(" ")
            host = target if method == "CONNECT" else urlsplit(target).netloc
            self.asked.append(host)
            name, _, port = host.rpartition(":")
            with socket.create_connection((name, int(port))) as service:
                if method == "CONNECT":
                    connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                else:
                    parts = urlsplit(target)
                    path = parts.path + (f"?{parts.query}" if parts.query else "")
                    kept = [line for line in headers if not line.lower().startswith(("proxy-", "connection:"))]
                    service.sendall(
                        "\r\n".join([f"{method} {path} {version}", *kept, "Connection: close", "", ""]).encode("latin-1") + rest
                    )
                _pump(connection, service)


def _pump(one: socket.socket, other: socket.socket) -> None:
    """Both ways, until either side is done."""
    while True:
        pending = isinstance(one, ssl.SSLSocket) and one.pending()
        ready = [one] if pending else select.select([one, other], [], [], 60)[0]
        if not ready:
            return
        for source in ready:
            piece = source.recv(65_536)
            if not piece:
                return
            (other if source is one else one).sendall(piece)
