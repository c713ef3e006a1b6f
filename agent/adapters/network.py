"""How this machine reaches the world: which authorities are trusted, which proxy is asked, and where none is.

Three HTTP stacks live in the agent (calls signed by hand, botocore, requests) and each has rules of its own for this. Here it is
decided once, from the environment, and handed to all three; the metadata service is asked by none of them through a proxy.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    import ssl

NAMED_AUTHORITIES = ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR")
"""Variables that name files or directories of authorities. Source: botocore's, requests', curl's and OpenSSL's references."""
SYSTEM_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
)
"""Where systems keep the authorities they trust. Source: update-ca-certificates(8), update-ca-trust(8)."""
EXPECTED_PROXY = "http://[user:password@]host:port, or the same with https"
"""The port is asked for: where it is missing, curl takes 1080 and the Python libraries 80."""


class Network:
    """The decisions on trust and proxies; made when first asked for, then kept."""

    def __init__(self, environment: Mapping[str, str], system_bundles: tuple[str, ...] = SYSTEM_BUNDLES) -> None:
        self._environment, self._system_bundles = environment, system_bundles

    def complaints(self) -> tuple[str, ...]:
        """What is wrong with the variables: the name, what was expected, what came. A proxy's password is never repeated."""
        return (*self._complaints_of_proxies(), *self._complaints_of_authorities())

    def proxy(self, url: str) -> str | None:
        """The proxy through which `url` is asked, with its user and password; None: it is asked directly."""
        parts = urlsplit(url)
        found = self._proxies.get(parts.scheme)
        return None if found is None or self._is_excepted(parts.hostname or "", parts.port) else found

    def secrets(self) -> tuple[str, ...]:
        """The proxies' passwords, as they are written and as they are meant."""
        words = [urlsplit(url).password or "" for url in self._proxies.values()]
        return tuple({form for word in words if word for form in (word, unquote(word))})

    @cached_property
    def context(self) -> ssl.SSLContext:
        """For TLS with anybody; made once, because reading the authorities takes longer than a handshake."""
        import ssl

        return ssl.create_default_context(cafile=self.bundle)

    @cached_property
    def bundle(self) -> str:
        """A file of every authority that is trusted: the system's, and those that variables name.

        The system's own file where nothing usable is named; else a file in memory, which nobody else can change.
        """
        named = [file for _, path, problem in self._authorities if problem is None for file in _files(path)]
        system = next((path for path in self._system_bundles if Path(path).is_file()), None) or _shipped()
        if not named:
            return system
        descriptor = os.memfd_create("authorities")  # open as long as the process lives: others read it by its path
        with open(descriptor, "wb", closefd=False) as joined:
            joined.writelines(file.read_bytes() + b"\n" for file in (*named, Path(system)))
        return f"/proc/{os.getpid()}/fd/{descriptor}"

    @cached_property
    def _proxies(self) -> dict[str, str]:
        """By scheme, those that can be used: an instance whose proxy is misspelt must still be able to end itself."""
        return {scheme: url for scheme, _, url in self._named_proxies() if _is_usable_proxy(url)}

    def _named_proxies(self) -> Iterator[tuple[str, str, str]]:
        """Scheme, variable and URL."""
        for scheme in ("http", "https"):
            for name in (f"{scheme}_proxy", "all_proxy"):
                if raw := self._variable(name):
                    yield scheme, name.upper(), raw if "://" in raw else f"http://{raw}"
                    break

    def _variable(self, name: str) -> str:
        """In lower case a variable goes before the same in upper case, also to say that there is none (curl(1))."""
        return self._environment.get(name, self._environment.get(name.upper(), "")).strip()

    def _is_excepted(self, host: str, port: int | None) -> bool:
        exceptions = [word.strip() for word in self._variable("no_proxy").split(",") if word.strip()]
        return any(_excepts(exception, host.lower().rstrip("."), port) for exception in exceptions)

    def _complaints_of_proxies(self) -> Iterator[str]:
        wrong = {name: url for _, name, url in self._named_proxies() if not _is_usable_proxy(url)}
        for name, url in wrong.items():
            yield f"{name}: expected {EXPECTED_PROXY}, found {_without_password(url)!r}"

    def _complaints_of_authorities(self) -> Iterator[str]:
        for name, path, problem in self._authorities:
            if problem is not None:
                yield f"{name}: expected certificates in PEM, found {str(path)!r} ({problem})"

    @cached_property
    def _authorities(self) -> list[tuple[str, Path, str | None]]:
        """Each file or directory of authorities: the variable that names it, and why none can be read there."""
        found = []
        for name in NAMED_AUTHORITIES:
            raw = self._environment.get(name, "").strip()
            paths = map(Path, filter(None, raw.split(os.pathsep) if name == "SSL_CERT_DIR" else [raw]))
            found += [(name, path, _unusable(path)) for path in paths]
        return found


def _files(path: Path) -> Iterator[Path]:
    if not path.is_dir():
        yield path
        return
    yield from (file for file in sorted(path.iterdir()) if file.is_file() and b"-----BEGIN " in file.read_bytes())


def _unusable(path: Path) -> str | None:
    """Why no authority can be read from there; None if one can."""
    import ssl

    try:
        trial = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        for file in _files(path):
            trial.load_verify_locations(cafile=file)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        return str(error)
    return None if trial.cert_store_stats()["x509"] else "no certificate in it"


def _shipped() -> str:
    """The authorities that came with requests, for a system without any."""
    import certifi

    return certifi.where()


def _is_usable_proxy(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and bool(parts.port)
    except ValueError:  # a port that is none
        return False


def _excepts(exception: str, host: str, port: int | None) -> bool:
    """Whether one item of NO_PROXY means this host: `*`, a name and what ends in it, an address, a network, each with a port.

    Source: curl(1), "NO_PROXY"; requests and Go's httpproxy read it the same way.
    """
    if exception == "*":
        return True
    import ipaddress

    address = _parsed(ipaddress.ip_address, host.strip("[]"))
    network = _parsed(lambda text: ipaddress.ip_network(text, strict=False), exception.strip("[]"))
    if network is not None:
        return address is not None and address in network
    name, colon, wanted = exception.rpartition(":")
    if colon and wanted.isdigit() and "]" not in wanted:
        if port != int(wanted):
            return False
        exception = name
    exception = exception.strip("[]").lower().removeprefix("*").strip(".")
    return bool(exception) and (host.strip("[]") == exception or (address is None and host.endswith("." + exception)))


def _parsed(parse: Callable[[str], Any], text: str) -> Any:
    try:
        return parse(text)
    except ValueError:
        return None


def _without_password(url: str) -> str:
    """The URL without what stands before the last @."""
    scheme, there, rest = url.rpartition("://")
    return f"{scheme}{there}{rest.rpartition('@')[2]}"
