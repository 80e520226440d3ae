#!/usr/bin/env bash
# Onboard a cluster and wait for the result: onboard.sh BODY.json
#
# Posts the body to /api/clusters, polls the operation, and prints each step when it ends. The same call twice does no
# harm. Needs api.sh beside it, which lists further variables: the app's address, its key, how long to wait.
#
#   PULLKEEPER_MANIFESTS  file for manifests that the app could not apply; pullkeeper-manifests.yaml by default
#
# Exit code  0 Succeeded
#            1 Failed, or refused: the last lines have the category and the remedy
#            2 wrong usage
#            3 AwaitingFederation: the publisher has to trust what is printed; then send the body again with a hub
#            4 no result within PULLKEEPER_PATIENCE: the operation continues
set -o errexit -o nounset -o pipefail
# shellcheck source=docs/examples/api.sh
source "$(dirname "${BASH_SOURCE[0]}")/api.sh"

body=${1-}
[[ $# -eq 1 && -r $body ]] || usage_error "usage: ${0##*/} BODY.json"
jq empty "$body" || usage_error "$body is not JSON"

request POST /api/clusters --header 'Content-Type: application/json' --data-binary "@$body"
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
  pause 2
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
