"""What `selfcheck` sees of a machine, and what it passes over."""

from __future__ import annotations


def test_processes_and_files_that_vanish_while_they_are_looked_at_are_passed_over() -> None:
    script = (
        "import os, subprocess, sys, tempfile, threading\n"
        "from agent.adapters import inspection\n"
        "def churn():\n"
        "    while True:\n"
        "        subprocess.run(['true'])\n"
        "        with tempfile.TemporaryDirectory() as there: open(there + '/f', 'w').close()\n"
        "for _ in range(3): threading.Thread(target=churn, daemon=True).start()\n"
        "list(inspection._secrets(None))\n"
    )

    told = subprocess.run([sys.executable, "-c", script], cwd=CHECKOUT, capture_output=True, text=True, timeout=600, check=False)

    assert told.returncode == 0, told.stderr
