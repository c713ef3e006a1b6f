"""From power-on to the runner's exec on machines that really boot, and what each trick of ours bought.

    python -m benchmarks.boot [ROUNDS]

Needs root, systemd-nspawn and mmdebstrap, as tests/machines does. Writes results-boot.json beside this file, which the page
reads, and prints the section. Power-on is the moment before nspawn, so firmware, kernel and initrd are not in it; disk is
memory and the address is there from the start, so neither are EBS and DHCP. The services are moto's in this process.
A boot during which others took much of the cores says little of ours, so it is done again.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import resource
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from functools import partial
from hashlib import sha256
from pathlib import Path
from statistics import median
from typing import Any

import requests
from moto.server import ThreadedMotoServer

from agent.contract.messages import Status
from benchmarks import page
from sandbox.instances import user_data
from sandbox.runner import release
from tests.conftest import Moto
from tests.machines import tree
from tests.machines.boot_env import BootEnv
from tests.machines.network import CLOUD

RESULTS = Path(__file__).with_name("results-boot.json")
ROUNDS = 9
BELL, BELL_S = 5002, 60.0
"""The port at which the job rings once it runs: nothing of ours reads the console or asks the machine before."""
WEIGHT = 20_000
"""Of the machine's control group beside everybody else's 1,024: these cores are shared."""
QUIET_S, IDLE, DISTURBED, TRIES = 30.0, 0.85, 0.1, 4
"""How long a boot waits for how much of the cores, and how often one is done again of which others took how much."""
JOB = f"echo up > /dev/tcp/{CLOUD}/{BELL}; until [ -e /run/bench-go ]; do sleep 0.01; done"
UNITS = Path("etc/systemd/system")
LATE = ("cloud-config.service", "cloud-final.service")
LIBRARY = Path("usr/local/lib/runs-fleet/agent")
OURS = "etc/cloud/cloud.cfg.d/99-runs-fleet.cfg"
FETCH = """[Unit]
DefaultDependencies=no
After=runs-fleet-firewall.service
[Service]
Type=oneshot
ExecStart=/bin/bash -c 'imds=http://169.254.169.254/latest; \
token=$(curl -sfX PUT -H X-aws-ec2-metadata-token-ttl-seconds:60 $imds/api/token) && \
curl -sf -o /run/user-data -H "X-aws-ec2-metadata-token: $token" $imds/user-data && exec bash /run/user-data'
"""
"""What cloud-init does for us, as a unit: ask the metadata service for the user-data, run it."""
POINTS = {
    "systemd": "systemd starts",
    "cloud_init": "cloud-init's first stage starts",
    "user_data": "user-data starts",
    "asked": "user-data ends: the agent's start is asked for",
    "agent": "the agent's process is forked",
    "confined": "its sandbox is built, Python is executed",
    "awake": "the agent's first phase: imports and wiring done",
    "configured": "configuration and release are there",
    "forked": "the agent has forked systemd-run (its own `to_exec` ends here)",
    "exec": "the runner is executed in its unit",
}


@dataclass(frozen=True)
class Variant:
    """One machine: its image, and one thing about it that is unlike the others. `what` completes a line of the page."""

    what: str
    change: Callable[[BootEnv, Path], None] = lambda ground, image: None
    image: str = "baked"
    hook: bool = True
    """Whether the user-data is a boot hook, run in cloud-init's second stage, or a script, run in its last."""
    takes: tuple[str, ...] = ()
    """What it has to fetch from S3: `bundle`, `runner`."""


@dataclass
class Boot:
    """What one boot took: ms from power-on per point, ms from the job's end to off, and what systemd says of it."""

    points: dict[str, float]
    off: float
    others: float = 0.0
    """Which share of the cores others took meanwhile."""
    blame: list[str] = field(default_factory=list)
    chain: list[str] = field(default_factory=list)


def main() -> None:
    """Every variant once per round, the order turned every round; what is measured so far is on the disk after each."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    os.nice(-10)  # this process is the machines' cloud
    bundle = tree.bundle()
    images = {"stock": tree.stock(), "baked": tree.baked(bundle)}
    masked = {unit: (images["stock"] / "lib/systemd/system" / unit).exists() for unit in _masked(images["baked"])}
    taken: dict[str, list[Boot]] = {name: [] for name in VARIANTS}
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    moto = Moto("http://{}:{}".format(*server.get_host_and_port()))
    began_s = time.monotonic()
    for turn in range(rounds):
        for name in list(VARIANTS)[:: 1 if turn % 2 == 0 else -1]:
            found = _undisturbed(partial(boot, moto, VARIANTS[name], images[VARIANTS[name].image], bundle))
            taken[name].append(found)
            print(f"{turn} {name}: {found.points['exec']:.0f} ms, others took {found.others:.0%}", flush=True)
        where = {**page.machine(), "took_s": round(time.monotonic() - began_s), "rounds": turn + 1}
        write({"machine": where, "masked": masked, "boots": {name: [asdict(one) for one in taken[name]] for name in VARIANTS}})
    server.stop()


def write(found: Mapping[str, Any]) -> None:
    """What was measured, and the page's part of it."""
    RESULTS.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    RESULTS.with_suffix(".md").write_text(section(found), encoding="utf-8")


def _undisturbed(once: Callable[[], Boot]) -> Boot:
    """The least disturbed of a few tries, the first that is good enough."""
    found = [once()]
    while found[-1].others > DISTURBED and len(found) < TRIES:
        found.append(once())
    return min(found, key=lambda one: one.others)


def boot(moto: Moto, variant: Variant, image: Path, bundle: Path) -> Boot:
    """One life with an empty job. Raises: AssertionError with the console if it does not end as it should."""
    requests.post(f"{moto.url}/moto-api/reset", timeout=10)
    directory = Path(tempfile.mkdtemp(prefix="runs-fleet-bench-"))
    ground = BootEnv(moto, image, directory)
    try:
        ground.machine.put("/etc/systemd/journald.conf.d/console.conf", "")  # as it is in production: no test's additions
        ground.machine.put("/etc/systemd/system/runs-fleet-deadline.timer.d/fast.conf", "")
        ground.play(JOB)
        text = _marked(user_data({**ground.settings, **_stored(ground, variant, bundle)}))
        variant.change(ground, image)
        told = ground.listen(BELL)
        ground.metadata.values["user-data"] = text
        _favour(ground.name)
        _quiet()
        before = _spent_s()
        ground.machine.boot("#cloud-boothook\n" + text if variant.hook else text)
        ground.machine.shows("== power on")
        on_s = time.monotonic()
        _await(told, ground)
        _inside(ground, "systemctl", "is-system-running", "--wait")
        points, blame, chain = _points(ground, on_s), _told(ground, "blame"), _told(ground, "critical-chain")
        _inside(ground, "touch", "/run/bench-go")
        released_s = time.monotonic()
        ground.machine.wait_off(120)
        off_ms = 1_000 * (time.monotonic() - released_s)
        spent = [now - then for now, then in zip(_spent_s(), before, strict=True)]
        assert ground.word().status is Status.SUCCESS, ground.machine.console
        return Boot(points, off_ms, max(0.0, (spent[0] - spent[1]) / (spent[0] + spent[2])), blame, chain)
    finally:
        ground.close()
        shutil.rmtree(directory, ignore_errors=True)


def _favour(name: str) -> None:
    """Ours is first on the cores."""
    group = Path("/sys/fs/cgroup/cpu", name)
    group.mkdir()
    (group / "cpu.shares").write_text(str(WEIGHT), "ascii")


def _quiet() -> None:
    """Begin when nobody else computes, if that is soon."""
    until_s, idle = time.monotonic() + QUIET_S, 0.0
    while idle < IDLE and time.monotonic() < until_s:
        before = _spent_s()
        time.sleep(0.4)
        busy, _, idling = (now - then for now, then in zip(_spent_s(), before, strict=True))
        idle = idling / max(0.01, busy + idling)


def _spent_s() -> tuple[float, float, float]:
    """Core-seconds: spent by all, spent by us and the machines we ended, and idle. Source: proc_stat(5), getrusage(2)."""
    user, nice, system, idle, waiting, irq, soft, steal = map(int, Path("/proc/stat").read_text("ascii").split()[1:9])
    mine = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    tick = os.sysconf("SC_CLK_TCK")
    ours_s = sum(one.ru_utime + one.ru_stime for one in mine)
    return (user + nice + system + irq + soft + steal) / tick, ours_s, (idle + waiting) / tick


def _marked(script: str) -> str:
    """The user-data with the moment of its first and of its last command left in files."""
    first, _, rest = script.partition("\n")
    mark = 'printf %s "$EPOCHREALTIME" > /run/bench-'
    return f"{first}\n{mark}begun\n{rest.rstrip()}\n{mark}asked\n"


def _stored(ground: BootEnv, variant: Variant, bundle: Path) -> dict[str, str]:
    """Put into SSM and S3 what the variant takes from there; the settings that say so."""
    if not variant.takes:
        ground.configure()
        return {}
    s3 = ground.moto.client("s3")
    s3.create_bucket(Bucket="config")
    play = (ground.machine.added / "opt/actions-runner/standin.json").read_bytes()
    archive = release.archive(tree.RUNNER_VERSION, {"standin.json": play}, python="/usr/bin/python3")
    key = f"runners/{archive.version}/x64/actions-runner-{archive.version}.tar.gz"
    s3.put_object(Bucket="config", Key=key, Body=archive.content, Metadata={"sha256": archive.sha256})
    shutil.rmtree(ground.machine.added / "opt/actions-runner")
    ground.configure(runner_version=archive.version, runner_sha256=archive.sha256)  # else GitHub is asked, which is not here
    settings = {"RUNS_FLEET_CONFIG_BUCKET": "config"}
    if "bundle" in variant.takes:
        s3.put_object(Bucket="config", Key="agent", Body=bundle.read_bytes())
        settings |= {"RUNS_FLEET_AGENT_BUNDLE": "agent", "RUNS_FLEET_AGENT_SHA256": sha256(bundle.read_bytes()).hexdigest()}
    return settings


def _await(told: Callable[[], str], ground: BootEnv) -> None:
    """Until the job rings, or the machine is off."""
    until_s = time.monotonic() + BELL_S
    while time.monotonic() < until_s and ground.machine.on:
        try:
            assert told() == "up\n"
            return
        except AssertionError:
            continue
    raise AssertionError(f"no job came to run:\n{ground.machine.console[-5000:]}")


def _inside(ground: BootEnv, *words: str) -> str:
    """What it prints inside. A control group may vanish while the machine's first process is looked for there."""
    for _ in range(20):
        with contextlib.suppress(FileNotFoundError):
            return ground.machine.run(*words).stdout
    raise AssertionError(f"nobody was found inside:\n{ground.machine.console[-5000:]}")


def _points(ground: BootEnv, on_s: float) -> dict[str, float]:
    """ms from power-on; every clock involved is this kernel's, since a container has no other."""
    wall_s = time.time() - time.monotonic()

    def shown(prop: str, *unit: str) -> float:
        told = _inside(ground, "systemctl", "show", f"--property={prop}TimestampMonotonic", "--value", *unit)
        return int(told or 0) / 1e6

    log = _inside(ground, "journalctl", "--quiet", "--output=cat", "--unit=runs-fleet-agent")
    phases = {name: datetime.fromisoformat(at).timestamp() for at, name in re.findall(r"(\S+Z) phase\.entered phase=(\w+)", log)}
    at_s = {
        "systemd": shown("Userspace"),
        "cloud_init": shown("ExecMainStart", "cloud-init-local.service"),
        "user_data": float(_inside(ground, "cat", "/run/bench-begun")) - wall_s,
        "asked": float(_inside(ground, "cat", "/run/bench-asked")) - wall_s,
        "agent": shown("ExecMainStart", "runs-fleet-agent.service"),
        "confined": shown("ActiveEnter", "runs-fleet-agent.service"),
        "awake": phases["waking"] - wall_s,
        "configured": phases["registering"] - wall_s,
        "forked": phases["running"] - wall_s,
        "exec": shown("ActiveEnter", "runs-fleet-job.service"),
    }
    return {name: 1_000 * (at - on_s) for name, at in at_s.items() if at > 0}


def _told(ground: BootEnv, word: str) -> list[str]:
    """What systemd-analyze says took longest, or of the agent's chain what took any time: five lines of it."""
    words = ["systemd-analyze", "--no-pager", word, *(["runs-fleet-agent.service"] if word == "critical-chain" else [])]
    lines = _inside(ground, "env", "LANG=C.UTF-8", *words).splitlines()
    return [line.strip(" └─") for line in lines if re.search(r"\+\d|^ *\d+m?s ", line)][:5]


def _hide(ground: BootEnv, path: Path | str) -> None:
    """As if the image had nothing there: an overlay's whiteout."""
    place = ground.machine.added / path
    place.parent.mkdir(parents=True, exist_ok=True)
    os.mknod(place, stat.S_IFCHR, os.makedev(0, 0))


def _masked(image: Path) -> list[str]:
    """The units that the base layer masks, but cloud-init's."""
    links = sorted((image / UNITS).iterdir())
    return [link.name for link in links if link.is_symlink() and str(link.readlink()) == os.devnull and link.name not in LATE]


def _stock_order(ground: BootEnv, image: Path) -> None:
    for path in (Path(OURS), *(UNITS / unit for unit in LATE)):
        _hide(ground, path)
    ground.machine.put("/etc/cloud/cloud.cfg.d/90-bench.cfg", "locale: false\n")  # no locales are installed here: it would fail


def _stock_modules(ground: BootEnv, image: Path) -> None:
    kept = [line for line in (image / OURS).read_text("utf-8").splitlines() if line.startswith("datasource")]
    ground.machine.put(OURS, "\n".join([*kept, ""]))


def _unmasked(ground: BootEnv, image: Path) -> None:
    for unit in _masked(image):
        _hide(ground, UNITS / unit)


def _uncompiled(ground: BootEnv, image: Path) -> None:
    for directory in (image / LIBRARY).rglob("__pycache__"):
        _hide(ground, directory.relative_to(image))


def _no_runner(ground: BootEnv, image: Path) -> None:
    _hide(ground, "opt/actions-runner")


def _unconfined(ground: BootEnv, image: Path) -> None:
    unit = (image / UNITS / "runs-fleet-agent.service").read_text("utf-8")
    kept = [
        line
        for line in unit.splitlines()
        if not re.match(r"NoNew|Protect|Private|Lock|Memory|Restrict|SystemCall|Capab|Read", line)
    ]
    ground.machine.put(f"/{UNITS}/runs-fleet-agent.service", "\n".join([*kept, ""]))


def _beside(ground: BootEnv, image: Path) -> None:
    unit = (image / "lib/systemd/system/cloud-init.service").read_text("utf-8")
    ground.machine.put(f"/{UNITS}/cloud-init.service", re.sub(r"Before=(sysinit|network-online)\.target\n", "", unit))


def _direct(ground: BootEnv, image: Path) -> None:
    for unit in ("cloud-init-local", "cloud-init"):
        ground.machine.link(f"/{UNITS}/{unit}.service", os.devnull)
    ground.machine.put(f"/{UNITS}/bench-fetch.service", FETCH)
    ground.machine.link(f"/{UNITS}/sysinit.target.wants/bench-fetch.service", f"/{UNITS}/bench-fetch.service")


VARIANTS = {
    "stock-script": Variant("stock image, user-data as a script", image="stock", hook=False, takes=("bundle", "runner")),
    "stock": Variant("stock image, user-data as a boot hook", image="stock", takes=("bundle", "runner")),
    "baked": Variant("our image"),
    "order": Variant("our image with the distribution's cloud-init, user-data as a script", _stock_order, hook=False),
    "late": Variant("the distribution's cloud-init, the boot hook kept", _stock_order),
    "modules": Variant("all modules in the stage that is left", _stock_modules),
    "masks": Variant("no unit masked but cloud-init's", _unmasked),
    "compiled": Variant("agent not compiled in advance", _uncompiled),
    "runner": Variant("runner not in the image", _no_runner, takes=("runner",)),
    "again": Variant("nothing: our image once more", lambda ground, image: None),
    "sandbox": Variant("agent's unit without its sandbox", _unconfined),
    "beside": Variant("`cloud-init.service` no longer before `sysinit.target` and `network-online.target`", _beside),
    "direct": Variant("no cloud-init: a unit of ours asks the metadata service and runs the user-data", _direct),
}
PATHS = ("stock-script", "stock", "order", "baked")
TRICKS = {
    "order": "two more Python stages and the modules of all of them, and the script comes after `multi-user.target`",
    "late": "the hook starts as early, but the agent's unit waits for the end of `cloud-init.service`, which has 15 modules to"
    " run and four kinds of host keys to make; the late stages then want the cores while the agent starts",
    "modules": "the same wait; the late stages stay away",
    "masks": "{masked} units are masked, of which this small Debian has {present}, and none of them computes in these seconds",
    "compiled": "the agent's 50 modules and msgspec's are compiled at every start, since `/usr` is read-only to the unit",
    "runner": "boto3 is imported and a client made before the runner can be started; the stand-in's archive is only a few KB, a"
    " real one of 200 MB takes what (a) says",
    "again": "the noise: what is smaller than this is nothing",
}
NEXT = {
    "direct": "Python is started twice for what two calls of curl and a shell do",
    "beside": "an override of two lines; the agent no longer waits for what cloud-init does after the hook",
    "sandbox": "no proposal, its price: mounts and system call filters, built before the agent is executed",
}


def section(found: Mapping[str, Any]) -> str:
    """The part of the page: tables of what was measured, and what follows from them."""
    boots = {name: [Boot(**one) for one in taken] for name, taken in found["boots"].items()}
    shown = ("systemd", "user_data", "agent", "awake", "exec")
    masked = {"masked": len(found["masked"]), "present": sum(found["masked"].values())}
    where = found["machine"]
    lines = [
        f"ms from power-on, median (least–most) of {where['rounds']} boots each; load {where['load_at_the_end']} at the end:",
        "",
        f"| machine | {' | '.join(POINTS[point] for point in shown)} | off after the job's end |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in PATHS:
        cells = [_middle([one.points[point] for one in boots[name]]) for point in shown]
        lines.append(f"| {VARIANTS[name].what} | {' | '.join(cells)} | {_middle([one.off for one in boots[name]])} |")
    lines += ["", "Where the time goes on our image:", "", "| until | ms since the one before |", "|---|---|"]
    lines += [f"| {what} | {_middle(_step(boots['baked'], point))} |" for point, what in POINTS.items()]
    tricks = {name: cause.format(**masked) for name, cause in TRICKS.items()}
    lines += _differences(boots, "What each trick bought: one taken away from our image at a time.", "without", tricks)
    lines += _differences(boots, "Rehearsed on our image, one at a time:", "with", NEXT)
    lines += ["", "Three next things, by what the above says they are worth:", "", *_next(boots)]
    for name in ("baked", "order"):
        middle = sorted(boots[name], key=lambda one: one.points["exec"])[len(boots[name]) // 2]
        lines += ["", f"`systemd-analyze` on {VARIANTS[name].what} (the boot in the middle):", "", "```", "blame"]
        lines += [f"  {line}" for line in middle.blame]
        lines += ["critical-chain runs-fleet-agent.service, what took time", *(f"  {line}" for line in middle.chain), "```"]
    return "\n".join(lines) + "\n"


def _next(boots: Mapping[str, list[Boot]]) -> list[str]:
    """Derived from the medians, so that they never say more than was measured."""
    won = {name: -median(_against(boots, name)) for name in NEXT}
    step = {point: median(_step(boots["baked"], point)) for point in POINTS}
    return [
        f"1. **No cloud-init on our image** (−{won['direct']:,.0f} ms, rehearsed): a unit of ours fetches the user-data and runs"
        " it. It must then also do what cloud-init's first stages do on EC2 and a container cannot show: grow the root file"
        " system, and bring up the network where the image's own DHCP does not. Until then an override of two lines that takes"
        f" `cloud-init.service` out of the agent's way (−{won['beside']:,.0f} ms, rehearsed).",
        f"2. **The agent awake before it is asked for** (up to −{step['confined'] + step['awake']:,.0f} ms, not rehearsed): its"
        f" sandbox ({step['confined']:,.0f} ms) and its imports ({step['awake']:,.0f} ms) need nothing of the user-data. Started"
        " early and let wait for its environment file, they pass beside the network and the metadata service.",
        f"3. **Fewer processes in the boot script** (part of {step['asked']:,.0f} ms, not rehearsed): token, instance and region"
        " are a curl each, one after the other, then `systemctl` twice. One curl can ask for the last two.",
    ]


def _differences(boots: Mapping[str, list[Boot]], title: str, head: str, causes: Mapping[str, str]) -> list[str]:
    lines = ["", title, "", f"| {head} | runner's exec, ms | difference, ms | slower | cause |", "|---|---|---|---|---|"]
    for name, cause in causes.items():
        more = _against(boots, name)
        slower = f"{sum(one > 0 for one in more)} of {len(more)}"
        theirs = _middle([one.points["exec"] for one in boots[name]])
        lines.append(f"| {VARIANTS[name].what} | {theirs} | {_middle(more)} | {slower} | {cause} |")
    return lines


def _against(boots: Mapping[str, list[Boot]], name: str) -> list[float]:
    """ms to the runner's exec more than our image as it is, round by round, since rounds differ more than machines do."""
    return [one.points["exec"] - own.points["exec"] for one, own in zip(boots[name], boots["baked"], strict=True)]


def _step(boots: list[Boot], point: str) -> list[float]:
    before = list(POINTS)[max(0, list(POINTS).index(point) - 1)]
    return [one.points[point] - (one.points[before] if before != point else 0.0) for one in boots]


def _middle(values: list[float]) -> str:
    return f"**{median(values):,.0f}** ({min(values):,.0f}–{max(values):,.0f})"


if __name__ == "__main__":
    main()
