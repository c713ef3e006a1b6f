"""Decide who may ask for what: which repositories, from forks or not, and how large a machine may be.

The rules are the operator's (`setting_values.Policy`). What no rule allows is refused, aloud. Without a policy of the
operator's own every private repository that has the App installed may ask for machines up to a moderate size.
"""

from __future__ import annotations

import msgspec

from orchestrator.setting_values import Rule
from orchestrator.store.request import MachineRequest


def bounded(rule: Rule | None, request: MachineRequest) -> MachineRequest:
    """The request with what it leaves open (vCPUs, memory, families, strategy) held to the rule."""
    if rule is None:
        return request
    return msgspec.structs.replace(
        request,
        cpu_max=min(request.cpu_max, max(rule.max_cpus, request.cpu_min)),
        ram_max_gib=min(request.ram_max_gib or rule.max_ram_gib, rule.max_ram_gib),
        families=request.families or rule.families,
        compute=request.compute or (rule.strategies[0] if rule.strategies else ""),
    )


def refusal(rule: Rule | None, request: MachineRequest, *, public: bool, fork: bool) -> str:
    """Why a job is not run, in words for whoever wrote its labels; empty: it may be."""
    if rule is None:
        return "no rule of the policy allows this repository"
    if public and not rule.public:
        return "jobs of public repositories are not run here: the policy would have to allow it (`public`)"
    if fork and not rule.forks:
        return "jobs with code of a fork are not run here: the policy would have to allow it (`forks`)"
    wrong = [
        (
            bool(request.compute and rule.strategies) and request.compute not in rule.strategies,
            f"compute={request.compute}: only {', '.join(rule.strategies)} are allowed",
        ),
        (request.cpu_min > rule.max_cpus, f"cpu={request.cpu_min}: at most {rule.max_cpus} are allowed"),
        (request.ram_min_gib > rule.max_ram_gib, f"ram={request.ram_min_gib:g}: at most {rule.max_ram_gib:g} GiB are allowed"),
        (request.disk_gib > rule.max_disk_gib, f"disk={request.disk_gib}: at most {rule.max_disk_gib} GiB are allowed"),
        (not request.interruptible and not rule.on_demand, "spot=false: only spot machines are allowed"),
        (
            bool(rule.families) and not all(family.startswith(rule.families) for family in request.families),
            f"family={'+'.join(request.families)}: only {'+'.join(rule.families)} are allowed",
        ),
    ]
    return "; ".join(words for is_wrong, words in wrong if is_wrong)
