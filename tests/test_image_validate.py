"""`make image-validate` where a tool is missing: what was not looked at does not count as valid."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "packer" / "validate.sh"
NEEDED = ("bash", "dirname", "grep", "head", "cat")
FINE = {
    "packer": '#!/bin/sh\n[ "$1" = version ] && echo "Packer v1.6.6"\necho "$*" >> "$ASKED"\nexit 0\n',
    "shellcheck": "#!/bin/sh\nexit 0\n",
}  # fmt: skip


def validated(tools: Path, *there: str) -> subprocess.CompletedProcess[str]:
    """What it says with these tools, and nothing else, in its PATH."""
    for name in NEEDED:
        (tools / name).symlink_to(str(shutil.which(name)))
    for name in there:
        (tools / name).write_text(FINE[name], "utf-8")
        (tools / name).chmod(0o755)
    return subprocess.run(
        [str(tools / "bash"), str(SCRIPT)], env={"PATH": str(tools), "ASKED": str(tools / "asked")},
        capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("there", "missing"), [((), "packer shellcheck"), (("packer",), "shellcheck"), (("shellcheck",), "packer")]
)
def test_without_a_tool_it_fails_names_it_and_says_how_it_is_installed(
    tmp_path: Path, there: tuple[str, ...], missing: str
) -> None:
    shown = validated(tmp_path, *there)

    assert shown.returncode == 1
    assert shown.stderr.splitlines()[-1] == f"image-validate fails: {missing} missing"
    assert all(f"apt-get install {name}" in shown.stderr for name in missing.split())


def test_with_both_tools_content_it_passes(tmp_path: Path) -> None:
    assert validated(tmp_path, "packer", "shellcheck").returncode == 0


def test_the_template_is_looked_at_for_each_system_on_each_architecture(tmp_path: Path) -> None:
    validated(tmp_path, "packer", "shellcheck")

    asked = [line for line in (tmp_path / "asked").read_text("utf-8").splitlines() if line.startswith("validate")]
    both = [(system, of) for system in ("amazon-linux-2023", "ubuntu-24.04") for of in ("amd64", "arm64")]
    assert asked == [f"validate -var system={system} -var architecture={of} packer" for system, of in both]
