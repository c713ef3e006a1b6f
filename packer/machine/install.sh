#!/bin/bash
# Installs the agent beside which this file lies: programs, units, firewall, the job's user. Idempotent.
# Run by packer when an image is baked, by the tests on a root file system, and by the boot script on a stock image.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
library=/usr/local/lib/runs-fleet

if command -v dnf >/dev/null; then  # what a stock Amazon Linux 2023 lacks
    rpm -q python3.11 nftables >/dev/null 2>&1 || dnf install -y -q python3.11 nftables
fi
for python in python3.13 python3.12 python3.11 python3; do
    python=$(command -v "$python") && "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' && break
    python=
done
[ -n "$python" ] || { echo "no Python of 3.11 or newer: install one before the agent (Amazon Linux: dnf install python3.11)" >&2; exit 1; }
built_for=$(cat "$here/python-version")
[ "$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')" = "$built_for" ] || python=$(command -v "python$built_for") \
    || { echo "this bundle was built for Python $built_for, which is not here: build one for $("$python" -V)" >&2; exit 1; }
for tool in nft systemctl curl; do
    command -v "$tool" >/dev/null || { echo "$tool is missing: packer/scripts/base.sh installs what the agent needs" >&2; exit 1; }
done

id runner >/dev/null 2>&1 || useradd --create-home --user-group --shell /bin/bash runner
uid=$(id -u runner)
# Nobody logs in as the job's user: what a login, a service manager, cron or at starts is in no unit of the job's, and outlives it.
if [ -f /etc/ssh/sshd_config ]; then
    install -d -m 0755 /etc/ssh/sshd_config.d
    echo "DenyUsers runner" > /etc/ssh/sshd_config.d/00-runs-fleet.conf
    grep -q '^Include /etc/ssh/sshd_config.d/' /etc/ssh/sshd_config || sed -i '1i Include /etc/ssh/sshd_config.d/*.conf' /etc/ssh/sshd_config
fi
ln -sfn /dev/null "/etc/systemd/system/user@$uid.service"
rm -f /var/lib/systemd/linger/runner
for file in /etc/subuid /etc/subgid; do [ ! -f $file ] || sed -i "/^runner:/d; /^$uid:/d" $file; done
for name in cron at; do
    [ ! -f /etc/$name.allow ] || sed -i '/^runner$/d' /etc/$name.allow
    [ $name = at ] && [ ! -f /etc/at.deny ] && continue  # without both lists, at is root's alone
    grep -qx runner /etc/$name.deny 2>/dev/null || echo runner >> /etc/$name.deny
done
install -d -m 0755 /etc/polkit-1 /etc/polkit-1/rules.d
echo 'polkit.addRule(function(action, subject) { if (subject.user == "runner") return polkit.Result.NO; });' > /etc/polkit-1/rules.d/00-runs-fleet.rules
chmod 0644 /etc/polkit-1/rules.d/00-runs-fleet.rules
if [ -d /etc/polkit-1/localauthority ]; then  # polkit before 0.106, as on Ubuntu 22.04. Source: pklocalauthority(8)
    install -d /etc/polkit-1/localauthority/90-mandatory.d
    printf '%s\n' "[runs-fleet]" "Identity=unix-user:runner" "Action=*" ResultAny=no ResultInactive=no ResultActive=no \
        > /etc/polkit-1/localauthority/90-mandatory.d/runs-fleet.pkla
fi
install -d -m 0755 "$library" /etc/runs-fleet /opt/runs-fleet
install -d -m 0700 /var/lib/runs-fleet
rm -rf "$library/agent.new" && cp -r "$here/agent" "$library/agent.new"
[ -n "$(find "$library/agent.new" -name '*.pyc' -print -quit)" ] || "$python" -m compileall -q "$library/agent.new"
rm -rf "$library/agent" && mv "$library/agent.new" "$library/agent"
ln -sfn "$python" "$library/python"
install -m 0755 "$here"/{deadline,power-off,send-last-will,job-launch} "$library/"
install -m 0755 "$here/runs-fleet-agent" /usr/local/bin/
install -m 0644 "$here/firewall.nft" /etc/runs-fleet/
install -m 0644 "$here"/units/runs-fleet-* /etc/systemd/system/
for stage in cloud-init-local cloud-init cloud-init-network cloud-init-main cloud-config cloud-final; do
    install -D -m 0644 "$here/units/cloud-init-failed.conf" "/etc/systemd/system/$stage.service.d/runs-fleet.conf"
done
install -d /etc/needrestart/conf.d  # after an apt-get in a job, Ubuntu would restart the agent or the job. Source: needrestart(1)
# shellcheck disable=SC2016  # perl's own
echo '$nrconf{override_rc}{qr(^runs-fleet-)} = 0;' > /etc/needrestart/conf.d/runs-fleet.conf
systemctl enable --quiet runs-fleet-deadline.timer runs-fleet-firewall.service
if [ -d /run/systemd/system ]; then  # this machine is up already: a stock image in its boot
    systemctl daemon-reload
    systemctl try-reload-or-restart ssh.service sshd.service 2>/dev/null || true
    systemctl stop --no-block apt-daily.timer apt-daily-upgrade.timer unattended-upgrades.service 2>/dev/null || true
    systemctl start --no-block runs-fleet-deadline.timer
    systemctl start runs-fleet-firewall.service
fi
