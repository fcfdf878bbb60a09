#!/bin/sh
# Start whmcs-mock on a free port, arrange, run, assert; the server ends with this script.
set -eu
cd "$(dirname "$0")"

work=$(mktemp -d)
mkfifo "$work/ready"
trap 'kill "$server" 2> "$work/gone" || true; rm -rf "$work"' EXIT
trap 'exit 130' INT TERM HUP
whmcs-mock serve --port 0 --profile live --quiet > "$work/ready" & server=$!
read -r _ _ url _ < "$work/ready" || { echo 'whmcs-mock did not start; see above' >&2; exit 1; }
mock=${url%/includes/api.php}/_mock

# Arrange: a client, and a WHMCS that is down for one call.
curl -fsS --data-binary @- "$mock/fixtures" > "$work/counts" <<'YAML'
clients:
  - {id: 7, credits: [{date: 2024-02-29, amount: 25.00}]}
faults:
  - {fault: maintenance, times: 1}
YAML

# Run what is tested, here in the background.
WHMCS_URL=$url sh pay.sh 7 5.00 > "$work/said" 2>&1 &

# Wait for the call, and print the report if it did not arrive.
curl -fsS "$mock/calls?action=AddCredit&clientid=7&amount=5.00&wait=5" > "$work/calls" || curl -sS "$mock/report"
wait $!
grep -q '"newbalance":"30.00"' "$work/said" || { curl -sS "$mock/report" >&2; exit 1; }
echo ok
