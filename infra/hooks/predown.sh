#!/usr/bin/env bash
# Remove what the deletion of the resource group would leave: the role assignments of the two identities, and the custom
# roles. It stops while clusters are onboarded, because only the app can remove what is in them.
#
#   PULLKEEPER_LEAVE=yes   remove all the same: the app does not respond any more
set -euo pipefail

status() {
  local key
  key=$(az rest --method post --url "${PULLKEEPER_APP_ID:?}/host/default/listKeys?api-version=2023-12-01" \
    --query functionKeys.default --output tsv)
  # The key comes from a file: arguments appear in the list of processes.
  curl --silent --show-error --fail --max-time 60 --header @<(printf 'x-functions-key: %s\n' "$key") \
    "${PULLKEEPER_URL:?}/api/status"
}

if [[ ${PULLKEEPER_LEAVE-} != yes ]]; then
  clusters=$(status | jq .totals.clusters) || clusters=unknown
  if [[ $clusters != 0 ]]; then
    echo "Onboarded clusters: $clusters. Offboard them first: docs/install.md#uninstall. If the app no longer responds," \
      'PULLKEEPER_LEAVE=yes removes its roles all the same.' >&2
    exit 1
  fi
fi

name=${PULLKEEPER_NAME:-pullkeeper}
subscriptions=$(jq --raw-output --arg own "${AZURE_SUBSCRIPTION_ID:?}" \
  'map(split("/")[2]) + [$own] | unique[]' <<<"${PULLKEEPER_CLUSTER_SCOPES:-[]}")
for subscription in $subscriptions; do
  for principal in "${PULLKEEPER_OBJECT_ID:?}" "${PULLKEEPER_ONBOARDING_OBJECT_ID:?}"; do
    az role assignment list --subscription "$subscription" --all --query "[?principalId=='$principal'].id" --output tsv |
      while read -r id; do
        az role assignment delete --subscription "$subscription" --ids "$id"
      done
  done
done
az role definition list --subscription "$AZURE_SUBSCRIPTION_ID" --custom-role-only true \
  --query "[?ends_with(roleName, '($name in ${AZURE_RESOURCE_GROUP:?})')].name" --output tsv |
  while read -r role; do
    az role definition delete --subscription "$AZURE_SUBSCRIPTION_ID" --custom-role-only true --name "$role"
  done
echo 'The role assignments and the custom roles are removed.'
