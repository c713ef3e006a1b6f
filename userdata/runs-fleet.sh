#!/bin/bash
# Runs at every boot: learn who we are, install the agent where the image has none, write its environment, start it. No secret. The operator's settings come before this text, as `export RUNS_FLEET_…=…`.
set -u
: "${RUNS_FLEET_POWER_OFF:=systemctl start --no-block runs-fleet-power-off}" "${RUNS_FLEET_TERMINATION_QUEUE_URL:=}" "${RUNS_FLEET_INSTANCE_ID:=}"
state=${RUNS_FLEET_STATE_DIR:-/var/lib/runs-fleet} imds=${AWS_EC2_METADATA_SERVICE_ENDPOINT:-http://169.254.169.254}
environment=${RUNS_FLEET_ENVIRONMENT_FILE:-/etc/runs-fleet/agent.env} token=
(umask 077 && mkdir -p "$state" "$(dirname "$environment")") && exec 3>&2 2> "$state/boot.log"
network='(https?|all|no)_proxy|(HTTPS?|ALL|NO)_PROXY|(AWS|REQUESTS|CURL)_CA_BUNDLE|SSL_CERT_(FILE|DIR)' ca=${AWS_CA_BUNDLE:-${REQUESTS_CA_BUNDLE:-}}
ask() { curl -sS --noproxy '*' --fail --retry 20 --retry-delay 1 --retry-max-time 40 --retry-all-errors --connect-timeout 1 --max-time 5 "$@"; }
tell() { ask -H "X-aws-ec2-metadata-token: $token" "$imds/latest/meta-data/$1"; }; value() { sed -n "s/.*\"$1\" *: *\"\([^\"]*\)\".*/\1/p" <<< "$keys"; }
signed() {  # signed SERVICE CURL-WORDS…: with a token of now, and the role's credentials through a pipe, never through argv
    local role keys token; token=$(ask -X PUT -H "X-aws-ec2-metadata-token-ttl-seconds: 300" "$imds/latest/api/token") || return 1
    role=$(tell iam/security-credentials/) && keys=$(tell "iam/security-credentials/$role" | tr -d '\n') || return 1
    curl -sS --fail --retry 3 --retry-delay 1 --retry-all-errors --connect-timeout 3 ${ca:+--cacert "$ca"} --aws-sigv4 "aws:amz:$AWS_REGION:$1" "${@:2}" --config \
        <(printf 'user = "%s:%s"\nheader = "x-amz-security-token: %s"\n' "$(value AccessKeyId)" "$(value SecretAccessKey)" "$(value Token)")
}
send() {
    local fifo=() AWS_REGION=$AWS_REGION
    [[ ! $RUNS_FLEET_TERMINATION_QUEUE_URL =~ ^https://(([a-z0-9-]+\.)?(sqs|queue)\.([a-z]+(-[a-z]+)+-[0-9])|([a-z]+(-[a-z]+)+-[0-9])\.queue)\. ]] || AWS_REGION=${BASH_REMATCH[4]:-${BASH_REMATCH[6]}}
    [[ $RUNS_FLEET_TERMINATION_QUEUE_URL != *.fifo ]] || fifo=(-d "MessageGroupId=$RUNS_FLEET_INSTANCE_ID" -d "MessageDeduplicationId=$(sha256sum <<< "$1" | cut -c-64)")
    signed sqs --max-time 5 -o /dev/null -d Action=SendMessage -d Version=2012-11-05 "${fifo[@]}" --data-urlencode "MessageBody=$1" \
        "$RUNS_FLEET_TERMINATION_QUEUE_URL" && : > "$state/final-word-sent"  # an empty file needs no room on a full disk
}
last_will() {  # what the agent wrote in advance, in case it dies (`died`) or the machine starts again (`rebooted`)
    send "$(sed "s/@NOW@/$(date -u +%FT%TZ)/; s/\"@SECONDS@\"/$(($(date +%s) - $(stat -c %Y "$state/last-will-$1")))/" "$state/last-will-$1")"
}
bootstrap_failed() {
    local error; error=$(tr -s '[:space:]' ' ' <<< "$1" | LC_ALL=C tr -cd '[:print:]' | tr -d '\042\134' | tail -c 800)
    send "{\"instance_id\":\"$RUNS_FLEET_INSTANCE_ID\",\"status\":\"bootstrap_failed\",\"error\":\"$error\"}"
}
fail() {  # no agent: nobody else would switch this machine off
    [ "$1" -ne 0 ] || return
    cat "$state/boot.log" >&3
    [ -e "$state/final-word-sent" ] || [ -z "$token" ] || bootstrap_failed "$(cat "$state/boot.log")"
    eval "$RUNS_FLEET_POWER_OFF" || systemctl poweroff
}
trap 'fail $?' EXIT; token=$(ask -X PUT -H "X-aws-ec2-metadata-token-ttl-seconds: 300" "$imds/latest/api/token") || exit 1
RUNS_FLEET_INSTANCE_ID=$(tell instance-id) && AWS_REGION=${AWS_REGION:-$(tell placement/region)} || exit 1; export RUNS_FLEET_INSTANCE_ID AWS_REGION RUNS_FLEET_POWER_OFF
(umask 077 && { declare -f ask tell value signed send last_will bootstrap_failed
    export -p | grep -E "^declare -x ($network)="; declare -p ca imds state AWS_REGION RUNS_FLEET_INSTANCE_ID RUNS_FLEET_TERMINATION_QUEUE_URL; } > "$state/boot-functions")
[ ! -e "$state/final-word-sent" ] || exit 1  # this machine has had its life
[ ! -s "$state/last-will-rebooted" ] || { last_will rebooted; exit 1; }
if [ -z "${RUNS_FLEET_START:-}" ] && ! systemctl cat runs-fleet-agent > /dev/null; then
    systemd-run -q --no-block -u runs-fleet-install-limit -p DefaultDependencies=no --timer-property=DefaultDependencies=no --on-active=15min systemctl poweroff --force
    new=$(mktemp -d) suffix=amazonaws.com; [[ $AWS_REGION != cn-* ]] || suffix+=.cn
    fetch() { signed s3 -H "x-amz-content-sha256: $(sha256sum < /dev/null | cut -c-64)" --max-time 120 -D "$new/headers" -o "$new/bundle" "${AWS_ENDPOINT_URL_S3:-${AWS_ENDPOINT_URL:-https://s3.$AWS_REGION.$suffix}}/${RUNS_FLEET_CONFIG_BUCKET:?}/${RUNS_FLEET_AGENT_BUNDLE:?}"; }
    fetch; elsewhere=$(sed -n 's/^x-amz-bucket-region: *\([a-z0-9-]*\).*/\1/Ip' "$new/headers" | tail -n 1)  # what a bucket in another region says
    [ "${elsewhere:-$AWS_REGION}" = "$AWS_REGION" ] || AWS_REGION=$elsewhere fetch
    sha256sum --check --quiet <<< "${RUNS_FLEET_AGENT_SHA256:?}  $new/bundle" >&2 && tar -xzf "$new/bundle" -C "$new" && "$new/install.sh" >&2 || exit 1
    rm -rf "$new"; systemctl stop runs-fleet-install-limit.timer
fi
[ "${RUNS_FLEET_JOB_SUDO:-no}" != yes ] || (umask 337 && echo "runner ALL=(ALL) NOPASSWD: ALL" > /etc/sudoers.d/runs-fleet)
awk -v run="${RUNS_FLEET_MAX_RUNTIME:-360}" -v wait="${RUNS_FLEET_CONFIG_TIMEOUT_SECONDS:-300}" -v grace="${RUNS_FLEET_GRACE_SECONDS:-90}" \
    'BEGIN { print int(run + 45 + (wait + grace) / 60) }' > "$state/limit-minutes"
(umask 077 && env -0 | grep -zE "^(RUNS_FLEET_|AWS_REGION=|AWS_ENDPOINT_URL|AWS_EC2_METADATA_SERVICE_ENDPOINT=|NODE_EXTRA_CA_CERTS=|($network)=)" \
    | sed -z 's/[\\"]/\\&/g; s/=/="/; s/$/"/' | tr '\0' '\n' > "$environment")
[ -z "${RUNS_FLEET_START:-}" ] || exec 2>&3
# shellcheck disable=SC2086  # a command line, split on purpose
${RUNS_FLEET_START:-systemctl start --no-block runs-fleet-agent}
