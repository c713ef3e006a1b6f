"""What `runs-fleet doctor` says: every check, what was found, and how to correct it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from orchestrator.commands.terminal import counted
from orchestrator.readiness import Fault, Finding, Standing

WORDS = {Standing.FINE: "ok", Standing.FAILED: "FAILED", Standing.UNREACHED: "NOT KNOWN", Standing.UNCHECKED: "unchecked"}


def is_passed(findings: Sequence[Finding]) -> bool:
    """Whether `serve` would be ready."""
    return all(one.is_passed for one in findings)


def lines(findings: Sequence[Finding]) -> Iterator[str]:
    """For people: nothing is cut, so that a command can be copied."""
    width = max((len(one.check) for one in findings), default=0)
    told_at: dict[tuple[Fault, ...], str] = {}
    for one in findings:
        why = f"  {one.why}" if one.why else ""
        same = told_at.get(one.faults) if one.faults else None
        yield f"{one.check:{width}}  {WORDS[one.standing]}{why}{f'  as {same}' if same else ''}".rstrip()
        told_at.setdefault(one.faults, one.check)
        for fault in () if same else one.faults:
            yield f"    found     {fault.found}"
            yield f"    expected  {fault.expected}" + (f" ({fault.setting})" if fault.setting else "")
            yield f"    remedy    {fault.remedy}"
    failed = [one.check for one in findings if one.standing is Standing.FAILED]
    unknown = [one.check for one in findings if one.standing is Standing.UNREACHED]
    unchecked = sum(one.standing is Standing.UNCHECKED for one in findings)
    told = [counted(len(findings), "check")]
    told += [f"{len(failed)} failed"] if failed else []
    told += [f"{len(unknown)} not known now"] if unknown else []
    told += [f"{unchecked} could not be checked"] if unchecked else []
    yield ", ".join(told) + (": ready" if is_passed(findings) else ": `runs-fleet serve` would not be ready")


def rows(findings: Sequence[Finding]) -> list[dict[str, Any]]:
    """For programs."""
    return [
        {
            "check": one.check, "standing": one.standing.value, "why": one.why,
            "faults": [
                {"setting": f.setting, "found": f.found, "expected": f.expected, "remedy": f.remedy} for f in one.faults
            ],
        }
        for one in findings
    ]  # fmt: skip
