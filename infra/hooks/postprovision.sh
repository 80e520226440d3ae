#!/usr/bin/env bash
# Grant the identities their roles at the clusters in PULLKEEPER_CLUSTER_SCOPES: access.bicep, a deployment of its own. It
# reads the variables of the azd environment, and needs the Azure CLI, signed in, with the right to assign roles there.
set -euo pipefail
cd "$(dirname "$0")/../.."

if [[ ! ${PULLKEEPER_CLUSTER_SCOPES-} || $PULLKEEPER_CLUSTER_SCOPES == '[]' ]]; then
  echo 'No roles at clusters: PULLKEEPER_CLUSTER_SCOPES is not set.'
  exit 0
fi
az deployment sub create --subscription "${AZURE_SUBSCRIPTION_ID:?}" --location "${AZURE_LOCATION:?}" \
  --name "pullkeeper-access-${AZURE_ENV_NAME:?}" --parameters infra/access.bicepparam --output none
echo 'The identities have their roles at the clusters. They are effective after up to five minutes.'
