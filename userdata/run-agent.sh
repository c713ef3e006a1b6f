#!/bin/bash
# Runs the agent and switches the power off however it ended: crash, kill -9, or a life well lived.
# Where systemd is, the unit does this; here it is a few lines of shell.
trap '' TERM INT
"$@" &
agent=$!
trap 'kill -TERM $agent 2>/dev/null' TERM INT
while kill -0 "$agent" 2>/dev/null; do wait "$agent"; code=$?; done
# shellcheck disable=SC2086  # a command line, split on purpose
[ -n "${RUNS_FLEET_POWER_OFF:-}" ] && $RUNS_FLEET_POWER_OFF
exit "${code:-1}"
