"""Which authorities are trusted, decided once for AWS and GitHub: the system's, and those that the usual variables name.

Left to themselves, boto3 and requests each bring a list of their own, and each listens to another variable.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from orchestrator.errors import SettingsInvalid

NAMED = ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")
"""Variables that name a file of authorities. Source: botocore's, requests', curl's and OpenSSL's references."""
SYSTEM = (
    "/etc/ssl/certs/ca-certificates.crt", "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem",
)  # fmt: skip
"""Where systems keep the authorities they trust. Source: update-ca-certificates(8), update-ca-trust(8)."""


def bundle_of(environment: Mapping[str, str], system: Sequence[str] = SYSTEM) -> str | None:
    """A file of every authority that is trusted; None: nobody names one, and the libraries' own lists are used.

    Raises: SettingsInvalid: a variable names something that is no file, or cannot be read.
    """
    told = {name: Path(environment[name]) for name in NAMED if environment.get(name, "").strip()}
    if wrong := [
        f"{name}: expected a file of certificates, found {path}" for name, path in told.items() if not _is_readable(path)
    ]:
        raise SettingsInvalid(tuple(wrong))
    named = [*told.values()]
    found = next((Path(path) for path in system if Path(path).is_file()), None)
    if not named:
        return str(found) if found is not None else None
    files = dict.fromkeys([*named, *([found] if found is not None else [])])
    descriptor = os.memfd_create("authorities")  # open as long as the process lives: the libraries read it by its path
    with open(descriptor, "wb", closefd=False) as joined:
        joined.writelines(file.read_bytes() + b"\n" for file in files)
    return f"/proc/{os.getpid()}/fd/{descriptor}"


def _is_readable(path: Path) -> bool:
    return path.is_file() and os.access(path, os.R_OK)


@cache
def bundle() -> str | None:
    """The same by this process's environment; made once. Raises: SettingsInvalid."""
    return bundle_of(os.environ)
