"""The secret scan: no file that git knows may hold what looks like a credential, but for the lines named here."""

from __future__ import annotations

import subprocess
import sys

from detect_secrets.core.scan import scan_file
from detect_secrets.settings import transient_settings

PLUGINS = [
    "AWSKeyDetector", "GitHubTokenDetector", "PrivateKeyDetector", "SlackDetector", "StripeDetector", "JwtTokenDetector",
    "NpmDetector", "PypiTokenDetector", "AzureStorageKeyDetector", "BasicAuthDetector",
]  # fmt: skip
KNOWN = ("AKIASANDBOX",)
"""Made-up credentials of the sandbox, recognisable as such."""


def main() -> int:
    """0 if nothing was found."""
    files = subprocess.run(["git", "ls-files"], capture_output=True, text=True, check=True).stdout.split()
    found = []
    with transient_settings({"plugins_used": [{"name": name} for name in PLUGINS]}):
        for name in files:
            for secret in scan_file(name):
                if not any(known in (secret.secret_value or "") for known in KNOWN):
                    found.append(f"{name}:{secret.line_number}: looks like a {secret.type}")
    print("\n".join(found) or f"no secrets in {len(files)} files")
    return 1 if found else 0


sys.exit(main())
