#!/bin/bash
# Runs at every boot: learn who we are, write the agent's environment, start the agent. No logic, no secret.
# The operator's settings come before this text in the user-data, as lines `export RUNS_FLEET_…=…`.
set -u
: "${RUNS_FLEET_POWER_OFF:=systemctl poweroff}"
trap '[ $? -eq 0 ] || eval "$RUNS_FLEET_POWER_OFF"' EXIT  # no agent: nobody else would switch this machine off
imds=${AWS_EC2_METADATA_SERVICE_ENDPOINT:-http://169.254.169.254}
environment=${RUNS_FLEET_ENVIRONMENT_FILE:-/etc/runs-fleet/agent.env}

ask() {
    curl -sS --fail --retry 5 --retry-delay 1 --retry-connrefused --connect-timeout 1 --max-time 5 "$@"
}

token=$(ask -X PUT -H "X-aws-ec2-metadata-token-ttl-seconds: 300" "$imds/latest/api/token") || exit 1
tell() {
    ask -H "X-aws-ec2-metadata-token: $token" "$imds/latest/meta-data/$1"
}
RUNS_FLEET_INSTANCE_ID=$(tell instance-id) || exit 1
AWS_REGION=${AWS_REGION:-$(tell placement/region)} || exit 1
export RUNS_FLEET_INSTANCE_ID AWS_REGION RUNS_FLEET_POWER_OFF

mkdir -p "$(dirname "$environment")"
(umask 077 && env | grep -E '^(RUNS_FLEET_|AWS_REGION=|AWS_ENDPOINT_URL|AWS_EC2_METADATA_SERVICE_ENDPOINT=)' > "$environment")
# shellcheck disable=SC2086  # a command line, split on purpose
${RUNS_FLEET_START:-systemctl start runs-fleet-agent}
