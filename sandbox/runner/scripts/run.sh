#!/bin/bash
# Stand-in for the runner's run.sh: starts run-helper.sh again for as long as it returns 2.
root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)

one_turn() {
    cp -f "$root/run-helper.sh.template" "$root/run-helper.sh"
}

finish() {
    echo "Exiting runner..."
    exit "$1"
}

if [ -n "$RUNNER_MANUALLY_TRAP_SIG" ]; then
    set -m
    forward() {
        trap - INT TERM
        [ -n "$helper" ] && kill -INT -"$helper" 2>/dev/null
        echo "Exiting runner..."
        wait "$helper"
        exit "$1"
    }
    trap 'forward 130' INT
    trap 'forward 143' TERM
    while :; do
        one_turn
        "$root/run-helper.sh" "$@" &
        helper=$!
        wait "$helper"
        code=$?
        case $code in
            2) echo "Restarting runner..." ;;
            *) finish "$code" ;;
        esac
    done
fi

while :; do
    one_turn
    "$root/run-helper.sh" "$@"
    code=$?
    case $code in
        2) echo "Restarting runner..." ;;
        7) finish 7 ;;
        *) finish 0 ;;
    esac
done
