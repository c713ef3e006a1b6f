"""Ways in which a job could start something outside of its unit, as this machine has them; install.sh shuts each."""

from __future__ import annotations

import contextlib
import pwd
import shutil
from collections.abc import Callable
from pathlib import Path

from agent.adapters.leftovers import SUBORDINATE, subordinate

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
NOBODYS_LOGIN = {
    "ssh": Path("/etc/ssh/sshd_config.d/00-runs-fleet.conf"),
    "polkit": Path("/etc/polkit-1/rules.d/00-runs-fleet.rules"),
}
"""Written by packer/machine/install.sh: the job's user may not log in, and may ask polkit for nothing."""


def ways_out(job: pwd.struct_passwd, said: Callable[..., str]) -> dict[str, str]:
    """What is open of each way in which a job could start something outside of its unit; empty text: nothing is.

    A way that this machine does not have is left out. `said`: runs a command and gives what it wrote.
    """
    found = {
        "manager": "" if said("systemctl", "is-enabled", f"user@{job.pw_uid}.service").strip() == "masked"
        else f"user@{job.pw_uid}.service is not masked",
        "sub-uids": ", ".join(file for file in SUBORDINATE if subordinate(job.pw_name, job.pw_uid, (file,))),
    }  # fmt: skip
    if shutil.which("sshd", path=SYSTEM_PATH):
        found["ssh"] = _ssh(job.pw_name, said)
    for name, program in {"cron": "crontab", "at": "at"}.items():
        if shutil.which(program, path=SYSTEM_PATH):
            found[name] = _schedule(Path("/etc"), name, job.pw_name)
    if any(Path(place).exists() for place in ("/usr/lib/polkit-1", "/usr/libexec/polkitd", "/usr/libexec/polkit-1")):
        found["polkit"] = "" if NOBODYS_LOGIN["polkit"].is_file() else f"{NOBODYS_LOGIN['polkit']} is missing"
    return found


def _ssh(user: str, said: Callable[..., str]) -> str:
    """By sshd's own word; where it has no host keys yet, as in an image, by its files."""
    told = said("sshd", "-T", "-C", f"user={user},host=localhost,addr=127.0.0.1,laddr=127.0.0.1,lport=22")
    if "\nport " in f"\n{told}":
        return "" if f"\ndenyusers {user}\n" in told.lower() else "sshd lets the job's user in"
    with contextlib.suppress(OSError):
        included = "Include /etc/ssh/sshd_config.d" in Path("/etc/ssh/sshd_config").read_text(encoding="utf-8")
        if included and f"DenyUsers {user}" in NOBODYS_LOGIN["ssh"].read_text(encoding="utf-8"):
            return ""
    return f"{NOBODYS_LOGIN['ssh']} is missing, or sshd does not read it"


def _schedule(etc: Path, name: str, user: str) -> str:
    """Source: crontab(1), at(1): the list of those who may goes before that of those who may not; without both, at is root's."""
    for kind in ("allow", "deny"):
        with contextlib.suppress(OSError):
            listed = user in (etc / f"{name}.{kind}").read_text(encoding="utf-8", errors="replace").split()
            return "" if listed == (kind == "deny") else f"/etc/{name}.{kind} lets the job's user"
    return "" if name == "at" else "there is no /etc/cron.deny"
