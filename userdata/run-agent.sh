#!/bin/bash
# Runs the agent and switches the power off however it ended: crash, kill -9, or a life well lived.
# Where systemd is, the unit does this; here it is a few lines of shell.
trap '' TERM INT
"$@" &
agent=$!
trap 'kill -TERM $agent 2>/dev/null' TERM INT
wait "$agent"; code=$?  # also of one that is gone already
while kill -0 "$agent" 2>/dev/null; do wait "$agent"; code=$?; done
[ -n "${RUNS_FLEET_POWER_OFF:-}" ] && eval "$RUNS_FLEET_POWER_OFF"
exit "${code:-1}"
