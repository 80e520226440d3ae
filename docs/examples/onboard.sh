#!/usr/bin/env bash
# Onboards a cluster and waits for the end: onboard.sh BODY.json
#
# Posts the body to /api/clusters, polls the operation that this starts, and prints each step as it ends. Needs bash 4,
# curl and jq. The same call twice does no harm.
#
#   PULLKEEPER_URL        where the app is: https://APP.azurewebsites.net
#   PULLKEEPER_KEY        a function key
#   PULLKEEPER_TOKEN      an Entra token, where the app has its callers sign in; beside the key or instead of it
#   PULLKEEPER_PATIENCE   how many seconds to wait for the end; 1800, which is longer than all the app's own tries
#   PULLKEEPER_MANIFESTS  where to put manifests that the app could not apply itself; pullkeeper-manifests.yaml
#
# Ends with  0 Succeeded
#            1 Failed, or refused: category and remedy are the last that it says
#            2 called wrongly
#            3 AwaitingFederation: the publisher has to trust what it prints; send it again with the answer
#            4 no end within PULLKEEPER_PATIENCE: the operation goes on
set -o errexit -o nounset -o pipefail

wrongly() {
  printf '%s\n' "$1" >&2
  exit 2
}

body=${1-}
[[ $# -eq 1 && -r $body ]] || wrongly "usage: ${0##*/} BODY.json"
url=${PULLKEEPER_URL:?says where the app is}
url=${url%/}
[[ $url =~ ^(https://|http://(127\.0\.0\.1|localhost)(:|$)) ]] || wrongly 'PULLKEEPER_URL must begin with https://'
[[ ${PULLKEEPER_KEY-}${PULLKEEPER_TOKEN-} ]] || wrongly 'set PULLKEEPER_KEY, PULLKEEPER_TOKEN, or both'
jq empty "$body" || wrongly "$body is not JSON"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
deadline=$((SECONDS + ${PULLKEEPER_PATIENCE:-1800}))

# What services said is printed on one line, and cannot speak to the pipeline's agent (`::error`, `##vso[...]`).
readonly LINE='def line: tostring | gsub("[[:cntrl:]]+"; " ") | gsub("##"; "# #");'

credentials() {
  if [[ ${PULLKEEPER_KEY-} ]]; then printf 'x-functions-key: %s\n' "$PULLKEEPER_KEY"; fi
  if [[ ${PULLKEEPER_TOKEN-} ]]; then printf 'Authorization: Bearer %s\n' "$PULLKEEPER_TOKEN"; fi
}

# METHOD PATH [option of curl...]: the answer lies in $status, $work/headers and $work/body. The credentials go in by a
# file, because arguments show in the list of processes. Redirects are not followed.
call() {
  local method=$1 path=$2
  shift 2
  : >"$work/headers"
  : >"$work/body"
  status=$(curl --silent --show-error --max-time 60 --request "$method" --header @<(credentials) \
    --dump-header "$work/headers" --output "$work/body" --write-out '%{http_code}' "$@" "$url$path") || status=000
}

# NAME, in lower case: that header of the answer.
header() {
  local name value found=''
  while IFS=': ' read -r name value; do
    if [[ ${name,,} == "$1" ]]; then found=${value%$'\r'}; fi
  done <"$work/headers"
  printf '%s' "$found"
}

# For as long as the answer asks, a minute at most; two seconds if it does not.
pause() {
  local asked
  asked=$(header retry-after)
  [[ $asked =~ ^[0-9]{1,2}$ ]] || asked=2
  if ((SECONDS + asked >= deadline)); then
    printf 'no end within %s seconds; look again: %s%s\n' "${PULLKEEPER_PATIENCE:-1800}" "$url" "${operation-}" >&2
    exit 4
  fi
  sleep "$asked"
}

come_again() {
  [[ $status =~ ^(000|429|502|503|504)$ ]]
}

refused() {
  local category
  category=$(jq --raw-output '.category? // empty' "$work/body" 2>/dev/null) || category=''
  if [[ $category ]]; then
    jq --raw-output "$LINE"' "refused (HTTP \(.status), \(.category)): \(.detail | line)",
      (.operation // empty | "look at: \(line)"), "remedy: \(.remedy | line)"' "$work/body" >&2
  else
    printf 'refused (HTTP %s): is the address right, and the key or token?\n' "$status" >&2
  fi
  exit 1
}

call POST /api/clusters --header 'Content-Type: application/json' --data-binary "@$body"
while [[ $status == 429 || $status == 503 ]]; do
  pause
  call POST /api/clusters --header 'Content-Type: application/json' --data-binary "@$body"
done
[[ $status == 202 ]] || refused
operation=$(header location)
if [[ ! $operation =~ ^/api/operations/[0-9a-f]{32}$ ]]; then
  printf 'the answer leads nowhere: is %s the app?\n' "$url" >&2
  exit 1
fi
printf 'operation %s\n' "$operation"

declare -A said=()
ended=''
while [[ ! $ended ]]; do
  pause
  call GET "$operation"
  if come_again; then continue; fi
  [[ $status == 200 ]] || refused
  while IFS= read -r step; do
    if [[ ! ${said[$step]-} ]]; then printf '%s\n' "$step"; fi
    said[$step]=yes
  done < <(jq --raw-output "$LINE"' .steps[] | select(.status | IN("done", "planned", "skipped", "failed"))
    | "\(.status)  \(.name): \(.detail // "" | line)" + if .category then " (\(.category))" else "" end' "$work/body")
  ended=$(jq --raw-output '.status | select(IN("Succeeded", "AwaitingFederation", "Failed"))' "$work/body")
done

jq --raw-output "$LINE"' "\(.status) after \(.result.seconds // "?") s", (.result.left // [] | .[] | "left: \(line)")' "$work/body"
if [[ $(jq --raw-output '.result.manifests // empty' "$work/body") ]]; then
  manifests=${PULLKEEPER_MANIFESTS:-pullkeeper-manifests.yaml}
  jq --raw-output '.result.manifests' "$work/body" >"$manifests"
  printf 'the app could not apply these: kubectl apply --server-side --field-manager=pullkeeper -f %s\n' "$manifests"
fi

case $ended in
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
