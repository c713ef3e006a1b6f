#!/bin/bash
# The base layer: what every job expects of its machine, and nothing that boots with it needlessly. Idempotent.
# Amazon Linux 2023 (dnf) and Ubuntu 24.04 or Debian 12 (apt). DOCKER=yes adds the distribution's docker.
set -euo pipefail
have() { command -v "$1" >/dev/null 2>&1; }

# Python of 3.11 or newer, the firewall, and what the runner and most workflows call.
if have dnf; then
    packages=(python3.11 nftables git tar gzip curl-minimal util-linux procps-ng shadow-utils libicu sudo)
    [ "${DOCKER:-no}" != yes ] || packages+=(docker)
    have curl && packages=("${packages[@]/curl-minimal/}")
    # shellcheck disable=SC2068  # an emptied name is no word
    rpm -q ${packages[@]} >/dev/null 2>&1 || dnf install -y -q ${packages[@]}
else
    export DEBIAN_FRONTEND=noninteractive
    packages=(python3 nftables git tar gzip curl ca-certificates util-linux procps passwd sudo)
    [ "${DOCKER:-no}" != yes ] || packages+=(docker.io)
    missing=()
    for package in "${packages[@]}"; do
        dpkg-query --show --showformat '${db:Status-Status}\n' "$package" 2>/dev/null | grep -qx installed || missing+=("$package")
    done
    if [ "${#missing[@]}" -gt 0 ]; then
        # A stock image in its first minutes holds apt's locks itself: cloud-init writes the sources, its timers renew the lists.
        [ ! -d /run/systemd/system ] || [ -e /etc/cloud/cloud.cfg.d/99-runs-fleet.cfg ] || timeout 300 cloud-init status --wait >/dev/null || true
        for pause_s in 5 10 20 40 60 1; do apt-get update -qq && break; sleep "$pause_s"; done
        apt-get install -y -qq -o DPkg::Lock::Timeout=300 --no-install-recommends "${missing[@]}" >/dev/null
    fi
fi

# Nothing here helps a machine that lives for one job; each costs time, disk or network while it boots. A unit that is not
# installed is masked all the same, which does no harm. Source: what the images of other fleets mask.
systemctl mask --quiet \
    apt-daily.timer apt-daily.service apt-daily-upgrade.timer apt-daily-upgrade.service dpkg-db-backup.timer e2scrub_all.timer \
    e2scrub_reap.service fstrim.timer fwupd.service fwupd-refresh.timer logrotate.timer man-db.timer motd-news.timer \
    ModemManager.service multipathd.service multipathd.socket plymouth-start.service snapd.service snapd.socket snapd.seeded.service \
    systemd-journal-flush.service ua-timer.timer ua-reboot-cmds.service ubuntu-advantage.service unattended-upgrades.service \
    update-notifier-download.timer amazon-ssm-agent.service update-motd.service dnf-makecache.timer atd.service cron.service crond.service
if [ "${DOCKER:-no}" = yes ]; then
    systemctl disable --quiet docker.service containerd.service 2>/dev/null || true  # Debian's and Ubuntu's start at every boot
    systemctl enable --quiet docker.socket  # started by the first who asks; the job may
    id runner >/dev/null 2>&1 || useradd --create-home --user-group --shell /bin/bash runner
    groupadd --system --force docker
    usermod --append --groups docker runner
fi

# cloud-init: find EC2, bring the network up, run the user-data's boot hook. No later stage, no other datasource.
install -d /etc/cloud/cloud.cfg.d
cat > /etc/cloud/cloud.cfg.d/99-runs-fleet.cfg <<'CFG'
datasource_list: [ NoCloud, Ec2, None ]
datasource: { Ec2: { strict_id: false, max_wait: 120, timeout: 5, apply_full_imds_network_config: false } }
cloud_init_modules: [ growpart, resizefs, users-groups, ssh ]
cloud_config_modules: []
cloud_final_modules: []
ssh_genkeytypes: [ ed25519 ]
users: [ default ]
CFG
systemctl mask --quiet cloud-config.service cloud-final.service

# A kernel that stops thinking starts again, and a machine that started again has had its life.
cat > /etc/sysctl.d/60-runs-fleet.conf <<'CFG'
kernel.panic = 10
kernel.panic_on_oops = 1
kernel.softlockup_panic = 1
kernel.watchdog_thresh = 60
kernel.hung_task_panic = 0
CFG
# What EC2 keeps of a machine that died without a word is its console: there it says how far it came.
install -d /etc/systemd/journald.conf.d
cat > /etc/systemd/journald.conf.d/10-runs-fleet.conf <<'CFG'
[Journal]
ForwardToConsole=yes
MaxLevelConsole=notice
CFG
install -d /etc/systemd/system.conf.d
cat > /etc/systemd/system.conf.d/runs-fleet.conf <<'CFG'
[Manager]
# Where the machine has a watchdog, systemd feeds it: if systemd hangs, the machine resets. Power-off may not hang either.
RuntimeWatchdogSec=60s
RebootWatchdogSec=2min
DefaultTimeoutStopSec=15s
CFG
