"""What jobs ask of machines, by their labels, the operator's aliases and policy: parsed once, where a job enters."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from orchestrator.compute.dispatch import Strategies
from orchestrator.jobs.labels import ParsedLabels, is_ours, read_labels
from orchestrator.jobs.policy import bounded, refusal
from orchestrator.setting_values import Alias, Policy, Rule
from orchestrator.store.request import MachineRequest


@dataclass(frozen=True)
class LabelAliases:
    """The operator's aliases of our marker."""

    aliases: tuple[Alias, ...]

    def are_ours(self, labels: tuple[str, ...]) -> bool:
        """Whether a job with these labels is for us: a marker or an alias among them."""
        return is_ours(labels, lambda label: self.spec_of(label) is not None)

    def spec_of(self, label: str) -> str | None:
        """What an aliased label asks for; None: it is no alias."""
        return next((spec for alias in self.aliases if (spec := alias.spec_of(label)) is not None), None)


@dataclass(frozen=True)
class JobRequests:
    """The requests of jobs, and why some are refused. Makes no call."""

    aliases: LabelAliases
    policy: Policy
    strategies: Strategies

    def parsed(self, labels: tuple[str, ...]) -> ParsedLabels:
        """What labels ask for, as they are written."""
        return read_labels(labels, self.aliases.spec_of)

    def request_of(self, repository: str, labels: tuple[str, ...]) -> MachineRequest:
        """What labels ask for in a repository (`owner/repo`), held to what the policy allows it."""
        return self._bounded(self.policy.rule_of(repository), self.parsed(labels).request)

    def refusal(self, repository: str, labels: tuple[str, ...], *, public: bool, fork: bool) -> str:
        """Why these labels get no machine there, by themselves, by the policy, or for want of such a machine; empty: they do."""
        parsed, rule = self.parsed(labels), self.policy.rule_of(repository)
        return (
            "; ".join(parsed.complaints)
            or refusal(rule, parsed.request, public=public, fork=fork)
            or self.strategies.objection(self._bounded(rule, parsed.request))
        )

    def _bounded(self, rule: Rule | None, request: MachineRequest) -> MachineRequest:
        """The request held to the rule; who names the stack's first strategy asks for the same as who names none."""
        found = bounded(rule, request)
        return msgspec.structs.replace(found, compute="") if found.compute == self.strategies.names[0] else found

    def objection(self, repository: str, labels: tuple[str, ...]) -> str:
        """Why a job with these labels would be refused there, whatever its code; empty: it would not."""
        if not self.aliases.are_ours(labels):
            return "no label is ours: expected runs-fleet, runs-fleet=… or runs-fleet/…, or an alias"
        return self.refusal(repository, labels, public=False, fork=False)
