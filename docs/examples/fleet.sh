#!/usr/bin/env bash
# Onboard all AKS clusters with a tag, or offboard them, and wait for the results:
#
#   fleet.sh onboard NAME=VALUE BODY.json [SUBSCRIPTION...]
#   fleet.sh offboard NAME=VALUE [SUBSCRIPTION...]
#
# Lists the clusters with az, in its own subscription unless others are named, sends the body (without `cluster`) for each,
# and follows the operations. It is safe to run again: it leaves out the clusters that are done, and follows what is under
# way. Needs az, and api.sh beside it, which lists further variables: the app's address, its key, how long to wait.
#
#   PULLKEEPER_AGAIN      anything: send the body for the clusters that are done, too, because it has changed
#   PULLKEEPER_INTERVAL   seconds between two looks at the operations; 10 by default
#
# Exit code  0 all Succeeded
#            1 some Failed, or were refused: the last lines name each, with category and remedy
#            2 wrong usage, or no cluster has the tag
#            3 none Failed, but some are AwaitingFederation: the publisher has to trust what /api/handover says
#            4 no result within PULLKEEPER_PATIENCE: the operations continue
set -o errexit -o nounset -o pipefail
# shellcheck source=docs/examples/api.sh
source "$(dirname "${BASH_SOURCE[0]}")/api.sh"

usage="usage: ${0##*/} onboard NAME=VALUE BODY.json [SUBSCRIPTION...] | ${0##*/} offboard NAME=VALUE [SUBSCRIPTION...]"
kind=${1-} tag=${2-} body=${3-}
case $kind in
onboard)
  [[ -r $body ]] || usage_error "$usage"
  jq --exit-status 'type == "object"' "$body" >/dev/null || usage_error "$body is no JSON object"
  shift 3
  ;;
offboard)
  [[ $# -ge 2 ]] || usage_error "$usage"
  shift 2
  ;;
*) usage_error "$usage" ;;
esac
# Quotes and backslashes would end the strings in the query.
[[ $tag =~ ^[^=\'\"\`\\]+=[^\'\"\`\\]*$ ]] || usage_error "$tag is no NAME=VALUE without quotes and backslashes"
operation='/api/operations?status=Running'

query="[?tags.\"${tag%%=*}\" == '${tag#*=}'].id"
if (($#)); then
  for subscription in "$@"; do
    az aks list --subscription "$subscription" --query "$query" --output tsv
  done
else
  az aks list --query "$query" --output tsv
fi >"$work/clusters"
mapfile -t clusters <"$work/clusters"
((${#clusters[@]})) || usage_error "no cluster has the tag $tag"

# PATH LIST FIELDS: read all pages, and print these fields (jq) of each entry on a line.
read_pages() {
  local path=$1 list=$2 fields=$3 separator='?' continuation=''
  if [[ $path == *\?* ]]; then separator='&'; fi
  while :; do
    request GET "$path${continuation:+${separator}continuation=$continuation}"
    [[ $status == 200 ]] || fail
    jq --raw-output ".${list}[] | $fields" "$work/body"
    continuation=$(jq --raw-output '.continuation // "" | @uri' "$work/body")
    if [[ ! $continuation ]]; then return; fi
  done
}

# Azure and the app write ids in different cases.
declare -A in_fleet=() latest=() pending=()
read_pages /api/clusters clusters '.cluster | ascii_downcase' >"$work/fleet"
while read -r cluster; do in_fleet[$cluster]=yes; done <"$work/fleet"
# Dry runs change nothing. An offboarding that kept the workload is not the one that is asked for here.
outcome='if .keepWorkload and .status == "Succeeded" then "KeptWorkload" else .status end'
read_pages /api/operations operations \
  "select(.dryRun | not) | [(.cluster | ascii_downcase), .kind, ($outcome), .id] | join(\" \")" >"$work/operations"
while read -r cluster rest; do # the newest comes first
  if [[ ! ${latest[$cluster]-} ]]; then latest[$cluster]=$rest; fi
done <"$work/operations"

# CLUSTER: whether nothing is left to do. One that failed may be in the fleet, or have left something behind.
is_done() {
  case "$kind ${latest[$1]-} ${in_fleet[$1]-no}" in
  "onboard onboard Succeeded "*" yes") [[ ! ${PULLKEEPER_AGAIN-} ]] ;;
  "offboard offboard Succeeded "*" no" | "offboard  no") true ;;
  *) false ;;
  esac
}

# CLUSTER DETAIL CATEGORY REMEDY of a failure
add_failure() {
  printf '%s\n  failed (%s): %s\n  remedy: %s\n' "$1" "$3" "$2" "$4" >>"$work/failures"
  failed=$((failed + 1))
}

# CLUSTER: send its request, and remember the operation.
begin() {
  local cluster=$1 subscription group name
  if [[ $kind == onboard ]]; then
    jq --arg cluster "$cluster" '.cluster = $cluster' "$body" >"$work/request"
    request POST /api/clusters --header 'Content-Type: application/json' --data-binary "@$work/request"
  else
    IFS=/ read -r _ _ subscription _ group _ _ _ name <<<"$cluster"
    request DELETE "/api/clusters/$subscription/$group/$name"
  fi
  if [[ $status == 202 ]]; then
    pending[$(jq --raw-output .id "$work/body")]=$cluster
  else
    add_failure "$cluster" "HTTP $status, $(text '.detail // "no reason was given"')" "$(text '.category // "refused"')" \
      "$(text '.remedy // "is the address right, and the key or token?"')"
  fi
}

# FILTER: print a text of the response on one line.
text() {
  jq --raw-output "$LINE $1 | line" "$work/body" 2>/dev/null || true
}

# OPERATION: count its result, if it has ended.
conclude() {
  local cluster=${pending[$1]} step
  call GET "/api/operations/$1"
  if [[ $status != 200 ]]; then return; fi
  case $(jq --raw-output .status "$work/body") in
  Succeeded)
    succeeded=$((succeeded + 1))
    jq --raw-output --arg name "${cluster##*/}" "$LINE"' .result | (.left // [] | .[] | "\($name): left: \(line)"),
      (.manifests // empty | "\($name): the app could not apply its manifests: run onboard.sh for it")' "$work/body"
    ;;
  AwaitingFederation) awaiting=$((awaiting + 1)) ;;
  Failed)
    step='(first(.steps[] | select(.category)) // {})'
    add_failure "$cluster" "$(text "$step.detail // \"no reason was given\"")" "$(text "$step.category // \"internal\"")" \
      "$(text "$step.remedy // \"see the runbook\"")"
    ;;
  *) return ;;
  esac
  unset "pending[$1]"
}

succeeded=0 awaiting=0 failed=0 finished=0
: >"$work/failures"
for cluster in "${clusters[@]}"; do
  read -r last_kind last_status last <<<"${latest[${cluster,,}]-}"
  if is_done "${cluster,,}"; then
    finished=$((finished + 1))
  elif [[ $last_kind == "$kind" && $last_status =~ ^(Queued|Running)$ ]]; then
    pending[$last]=$cluster
  else
    begin "$cluster"
  fi
done
printf '%s clusters with %s: %s are done already, %s operations to follow\n' \
  "${#clusters[@]}" "$tag" "$finished" "${#pending[@]}"

progress=''
while ((${#pending[@]})); do
  pause "${PULLKEEPER_INTERVAL:-10}"
  declare -A under_way=()
  # In this order: an operation that begins meanwhile is in the second list.
  for unfinished in Queued Running; do
    read_pages "/api/operations?status=$unfinished" operations .id >"$work/operations"
    while read -r id; do under_way[$id]=yes; done <"$work/operations"
  done
  for id in "${!pending[@]}"; do
    if [[ ! ${under_way[$id]-} ]]; then conclude "$id"; fi
  done
  now="$succeeded Succeeded, $failed Failed, $awaiting AwaitingFederation, ${#pending[@]} under way"
  if [[ $now != "$progress" ]]; then printf '%s\n' "$now"; fi
  progress=$now
done

if ((failed)); then
  printf '%s of %s clusters failed:\n' "$failed" "${#clusters[@]}" >&2
  cat "$work/failures" >&2
  exit 1
fi
if ((awaiting)); then exit 3; fi
