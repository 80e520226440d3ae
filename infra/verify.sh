#!/usr/bin/env bash
# Check a deployment: the platform has registered the functions of this code, all of them and no others, and the app says
# that its settings are right. Run it in a clone, after `make setup`.
#
#   infra/verify.sh APP_ID       the app's resource id; the Azure CLI is signed in
#   PULLKEEPER_PATIENCE          seconds to wait for both; 300 by default
#   PYTHON                       with the packages of requirements.txt; .venv/bin/python by default
set -euo pipefail
app=${1:?the resource id of the app}
cd "$(dirname "$0")/.."
deadline=$((SECONDS + ${PULLKEEPER_PATIENCE:-300}))

expected=$("${PYTHON:-.venv/bin/python}" -c '
from function_app import app
print("\n".join(sorted(function.get_function_name() for function in app.get_functions())))')
host=$(az resource show --ids "$app" --api-version 2023-12-01 --query properties.defaultHostName --output tsv)

# An import error leaves an app that runs and has no function.
compare_functions() {
  registered=$(az rest --url "$app/functions?api-version=2023-12-01" --query 'value[].name' --output tsv |
    sed 's|.*/||' | sort)
  differences=$(comm -3 <(echo "$expected") <(echo "$registered"))
  [[ ! $differences ]]
}

ask_health() {
  health=$(curl --silent --show-error --max-time 60 --output /dev/null --write-out '%{http_code}' \
    "https://$host/api/health" 2>&1) || true
  [[ $health == 200 ]]
}

retry() {
  until "$1"; do
    if ((SECONDS + 10 > deadline)); then
      return 1
    fi
    sleep 10
  done
}

if ! retry compare_functions; then
  # comm indents what only the platform has.
  printf 'The functions differ. Missing, and indented those that are too many:\n%s\n' "$differences" >&2
  exit 1
fi
echo "registered: ${expected//$'\n'/, }"
if ! retry ask_health; then
  printf 'GET https://%s/api/health: %s. GET /api/status names the setting that is wrong.\n' "$host" "$health" >&2
  exit 1
fi
echo "GET https://$host/api/health: 200"
