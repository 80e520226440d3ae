#!/usr/bin/env bash
# Onboard a cluster and wait for the result: onboard.sh BODY.json
#
# Posts the body to /api/clusters, polls the operation, and prints each step when it ends. Needs bash 4, curl and jq. The
# same call twice does no harm.
#
#   PULLKEEPER_URL        the app's address: https://APP.azurewebsites.net
#   PULLKEEPER_KEY        a function key
#   PULLKEEPER_TOKEN      an Entra token, if the app makes its callers sign in; with the key or instead of it
#   PULLKEEPER_PATIENCE   seconds to wait for the result; 1800 by default, which is longer than all the app's own tries
#   PULLKEEPER_MANIFESTS  file for manifests that the app could not apply; pullkeeper-manifests.yaml by default
#
# Exit code  0 Succeeded
#            1 Failed, or refused: the last lines have the category and the remedy
#            2 wrong usage
#            3 AwaitingFederation: the publisher has to trust what is printed; then send the body again with a hub
#            4 no result within PULLKEEPER_PATIENCE: the operation continues
set -o errexit -o nounset -o pipefail

usage_error() {
  printf '%s\n' "$1" >&2
  exit 2
}

body=${1-}
[[ $# -eq 1 && -r $body ]] || usage_error "usage: ${0##*/} BODY.json"
url=${PULLKEEPER_URL:?is not set: the address of the app}
url=${url%/}
[[ $url =~ ^(https://|http://(127\.0\.0\.1|localhost)(:|$)) ]] || usage_error 'PULLKEEPER_URL must begin with https://'
[[ ${PULLKEEPER_KEY-}${PULLKEEPER_TOKEN-} ]] || usage_error 'set PULLKEEPER_KEY, PULLKEEPER_TOKEN, or both'
jq empty "$body" || usage_error "$body is not JSON"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
deadline=$((SECONDS + ${PULLKEEPER_PATIENCE:-1800}))

# Texts of services are printed on one line, so that they are no commands to the pipeline's agent (`::error`, `##vso[...]`).
readonly LINE='def line: tostring | gsub("[[:cntrl:]]+"; " ") | gsub("##"; "# #");'

credentials() {
  if [[ ${PULLKEEPER_KEY-} ]]; then printf 'x-functions-key: %s\n' "$PULLKEEPER_KEY"; fi
  if [[ ${PULLKEEPER_TOKEN-} ]]; then printf 'Authorization: Bearer %s\n' "$PULLKEEPER_TOKEN"; fi
}

# METHOD PATH [option of curl...]: the response is in $status, $work/headers and $work/body. curl reads the credentials from
# a file, because arguments appear in the list of processes. It sends a Content-Length and follows no redirects.
call() {
  local method=$1 path=$2
  shift 2
  : >"$work/headers"
  : >"$work/body"
  status=$(curl --silent --show-error --max-time 60 --request "$method" --header @<(credentials) \
    --dump-header "$work/headers" --output "$work/body" --write-out '%{http_code}' "$@" "$url$path") || status=000
}

# NAME in lower case: print that header of the response.
header() {
  local name value found=''
  while IFS=': ' read -r name value; do
    if [[ ${name,,} == "$1" ]]; then found=${value%$'\r'}; fi
  done <"$work/headers"
  printf '%s' "$found"
}

# Wait as long as the response asks, at most 99 seconds; two seconds if it does not.
pause() {
  local seconds
  seconds=$(header retry-after)
  [[ $seconds =~ ^[0-9]{1,2}$ ]] || seconds=2
  if ((SECONDS + seconds >= deadline)); then
    printf 'no result within %s seconds; look again: %s%s\n' "${PULLKEEPER_PATIENCE:-1800}" "$url" "${operation-}" >&2
    exit 4
  fi
  sleep "$seconds"
}

# The category of a problem document; empty if the response is none.
category() {
  jq --raw-output '.category? // empty' "$work/body" 2>/dev/null || true
}

# Whether the same request may succeed later. A 500 without a body is the platform's, when it has lost the app's process.
may_retry() {
  [[ $status =~ ^(429|502|503|504)$ || ($status == 500 && ! -s $work/body) ]] && [[ $(category) != invalid_request ]]
}

fail() {
  if [[ $(category) ]]; then
    jq --raw-output "$LINE"' "refused (HTTP \(.status), \(.category)): \(.detail | line)",
      (.operation // empty | "look at: \(line)"), "remedy: \(.remedy | line)"' "$work/body" >&2
  else
    printf 'refused (HTTP %s): is the address right, and the key or token?\n' "$status" >&2
  fi
  exit 1
}

post() {
  call POST /api/clusters --header 'Content-Type: application/json' --data-binary "@$body"
}

post
while may_retry; do
  pause
  post
done
[[ $status == 202 ]] || fail
operation=$(header location)
if [[ ! $operation =~ ^/api/operations/[0-9a-f]{32}$ ]]; then
  printf 'the response names no operation: is %s the app?\n' "$url" >&2
  exit 1
fi
printf 'operation %s\n' "$operation"

declare -A printed=()
result=''
while [[ ! $result ]]; do
  pause
  call GET "$operation"
  if [[ $status == 000 ]] || may_retry; then continue; fi
  [[ $status == 200 ]] || fail
  while IFS= read -r step; do
    if [[ ! ${printed[$step]-} ]]; then printf '%s\n' "$step"; fi
    printed[$step]=yes
  done < <(jq --raw-output "$LINE"' .steps[] | select(.status | IN("done", "planned", "skipped", "failed"))
    | "\(.status)  \(.name): \(.detail // "" | line)" + if .category then " (\(.category))" else "" end' "$work/body")
  result=$(jq --raw-output '.status | select(IN("Succeeded", "AwaitingFederation", "Failed"))' "$work/body")
done

jq --raw-output "$LINE"' "\(.status) after \(.result.seconds // "?") s", (.result.left // [] | .[] | "left: \(line)")' "$work/body"
if [[ $(jq --raw-output '.result.manifests // empty' "$work/body") ]]; then
  manifests=${PULLKEEPER_MANIFESTS:-pullkeeper-manifests.yaml}
  jq --raw-output '.result.manifests' "$work/body" >"$manifests"
  printf 'the app could not apply these; run: kubectl apply --server-side --field-manager=pullkeeper -f %s\n' "$manifests"
fi

case $result in
Failed)
  jq --raw-output "$LINE"' first(.steps[] | select(.category)) // {category: "internal", detail: "no reason was given"}
    | "failed (\(.category)): \(.detail // "" | line)", "remedy: \(.remedy // "see the runbook" | line)"' "$work/body" >&2
  exit 1
  ;;
AwaitingFederation)
  jq --raw-output "$LINE"' .result.handover | "for the publisher:",
    (to_entries[] | select(.key != "commands") | "  \(.key): \(.value | line)"), (.commands[] | "  \(line)")' "$work/body"
  exit 3
  ;;
esac
