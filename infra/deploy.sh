#!/usr/bin/env bash
# Deploy without azd: the resources, the roles at the clusters, the code, and a check that it runs. For a pipeline, or by hand
# in a clone after `make setup`. The Azure CLI is signed in. Run it again for an upgrade, or with an older package to go back.
#
#   infra/deploy.sh PACKAGE.zip
#
#   AZURE_SUBSCRIPTION_ID, AZURE_LOCATION   where
#   AZURE_ENV_NAME                          distinguishes several deployments; the resource group is rg-NAME
#   PULLKEEPER_...                          what main.bicepparam reads
set -euo pipefail
package=$(realpath "${1:?the package}")
cd "$(dirname "$0")/.."

# A variable that a pipeline does not have arrives empty, or as its own name in $().
for name in ${!PULLKEEPER_*}; do
  if [[ ! ${!name} || ${!name} == "\$($name)" ]]; then unset "$name"; fi
done

outputs=$(az deployment sub create --subscription "${AZURE_SUBSCRIPTION_ID:?}" --location "${AZURE_LOCATION:?}" \
  --name "pullkeeper-${AZURE_ENV_NAME:?}" --parameters infra/main.bicepparam --query properties.outputs --output json)
# Azure has been seen to change the case of the first letters of names.
output() { jq --raw-output --arg name "$1" 'with_entries(.key |= ascii_upcase)[$name].value' <<<"$outputs"; }

AZURE_RESOURCE_GROUP=$(output AZURE_RESOURCE_GROUP)
PULLKEEPER_APP_ID=$(output PULLKEEPER_APP_ID)
PULLKEEPER_URL=$(output PULLKEEPER_URL)
export AZURE_RESOURCE_GROUP PULLKEEPER_APP_ID PULLKEEPER_URL

infra/hooks/postprovision.sh
az functionapp deployment source config-zip --subscription "$AZURE_SUBSCRIPTION_ID" --resource-group "$AZURE_RESOURCE_GROUP" \
  --name "${PULLKEEPER_APP_ID##*/}" --src "$package" --build-remote false --output none
infra/verify.sh "$PULLKEEPER_APP_ID"
infra/hooks/postdeploy.sh
