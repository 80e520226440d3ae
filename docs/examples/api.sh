# shellcheck shell=bash
# How onboard.sh and fleet.sh call the app. Needs bash 4, curl and jq.
#
#   PULLKEEPER_URL        the app's address: https://APP.azurewebsites.net
#   PULLKEEPER_KEY        a function key
#   PULLKEEPER_TOKEN      an Entra token, if the app makes its callers sign in; with the key or instead of it
#   PULLKEEPER_PATIENCE   seconds to wait for the result; 1800 by default: longer than all the app's own tries, and than a
#                         thousand clusters take that are onboarded at once

usage_error() {
  printf '%s\n' "$1" >&2
  exit 2
}

url=${PULLKEEPER_URL:?is not set: the address of the app}
url=${url%/}
[[ $url =~ ^(https://|http://(127\.0\.0\.1|localhost)(:|$)) ]] || usage_error 'PULLKEEPER_URL must begin with https://'
[[ ${PULLKEEPER_KEY-}${PULLKEEPER_TOKEN-} ]] || usage_error 'set PULLKEEPER_KEY, PULLKEEPER_TOKEN, or both'

patience=${PULLKEEPER_PATIENCE:-1800}
deadline=$((SECONDS + patience))
operation='' # what to look at when the time is over
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

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

# Wait as long as the response asks, at most 99 seconds; $1 seconds if it does not.
pause() {
  local seconds
  seconds=$(header retry-after)
  [[ $seconds =~ ^[0-9]{1,2}$ ]] || seconds=$1
  if ((SECONDS + seconds >= deadline)); then
    printf 'no result within %s seconds; look again: %s%s\n' "$patience" "$url" "$operation" >&2
    exit 4
  fi
  sleep "$seconds"
}

# The same, again while that may help.
request() {
  call "$@"
  while may_retry; do
    pause 2
    call "$@"
  done
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
