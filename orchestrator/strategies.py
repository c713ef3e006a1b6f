"""The strategies a stack may offer: name to how it is built. A new strategy is its module and one line in BUILDERS."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from agent.contract.variables import PREFIX
from orchestrator.adapters.aws import Clients
from orchestrator.adapters.ec2 import Ec2Api
from orchestrator.adapters.ec2_offerings import Ec2Offerings
from orchestrator.adapters.processes import LocalProcesses
from orchestrator.compute.dispatch import Strategies
from orchestrator.compute.ec2.breakers import Breakers
from orchestrator.compute.ec2.calls import Ec2
from orchestrator.compute.ec2.catalogue import Catalogue, InstanceType, shipped_types
from orchestrator.compute.ec2.strategy import Ec2Options, Ec2Strategy
from orchestrator.compute.local import LocalStrategy
from orchestrator.compute.port import Compute
from orchestrator.errors import SettingsInvalid
from orchestrator.ports import Clock, Journal
from orchestrator.settings import ServerSettings
from orchestrator.store.records import Records
from orchestrator.store.request import ARCHITECTURES


@dataclass(frozen=True, kw_only=True)
class StrategyParts:
    """What a strategy may be built from."""

    settings: ServerSettings
    clients: Clients
    records: Records
    clock: Clock
    journal: Journal


def ec2_strategy(parts: StrategyParts, ec2: Ec2, offerings: Callable[[], tuple[InstanceType, ...]] | None) -> Ec2Strategy:
    """The strategy `ec2` on these calls; `offerings` asks EC2 what it offers, None: the shipped catalogue is all there is."""
    settings = parts.settings
    return Ec2Strategy(
        ec2=ec2,
        options=Ec2Options(
            stack_id=settings.stack_id, template=settings.launch_template, subnet_ids=settings.subnet_ids,
            instance_types=settings.instance_types, arm_instance_types=settings.arm_instance_types,
            root_device=settings.root_device, spot=settings.spot, is_priced=settings.is_priced, burst=settings.ec2_at_once,
            per_second=settings.ec2_per_second,
        ),
        catalogue=Catalogue(shipped_types(), offerings, at_once=settings.is_priced),
        breakers=Breakers(parts.records, parts.clock, parts.journal),
        clock=parts.clock,
        journal=parts.journal,
    )  # fmt: skip


def _ec2(parts: StrategyParts) -> Compute:
    api, settings, clients = Ec2Api(parts.clients), parts.settings, parts.clients

    def offerings() -> tuple[InstanceType, ...]:
        zones = sorted(set(api.zones(list(settings.subnet_ids)).values()))
        return Ec2Offerings(clients, clients.region, zones, priced=settings.is_priced).types()

    return ec2_strategy(parts, api, offerings)


def _local(parts: StrategyParts) -> Compute:
    local = parts.settings.local
    assert local is not None, "the settings read it wherever the strategy is offered"
    try:
        processes = LocalProcesses(local.directory, local.agent, local.environment, local.runner)
    except OSError as error:
        raise SettingsInvalid((f"{PREFIX}LOCAL_DIR: expected a directory that can be made and written: {error}",)) from error
    architecture = ARCHITECTURES.get(platform.machine(), platform.machine())
    return LocalStrategy(processes, architecture=architecture, stack_id=parts.settings.stack_id, slots=local.slots)


BUILDERS: Mapping[str, Callable[[StrategyParts], Compute]] = {"ec2": _ec2, "local": _local}
"""Every strategy by its name in settings, labels and handles."""


def build_strategies(parts: StrategyParts, builders: Mapping[str, Callable[[StrategyParts], Compute]] = BUILDERS) -> Strategies:
    """The strategies that the settings name, in their order. Raises: SettingsInvalid: there is none of that name."""
    unknown = [name for name in parts.settings.strategies if name not in builders]
    if unknown:
        expected = f"expected some of {', '.join(builders)}, found {', '.join(unknown)}"
        raise SettingsInvalid((f"{PREFIX}STRATEGIES: {expected}",))
    return Strategies([builders[name](parts) for name in parts.settings.strategies])
