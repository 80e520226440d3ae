#!/usr/bin/env bash
# Print what to do next.
set -euo pipefail

cat <<END

Pullkeeper is deployed. Sign in to it:

  export PULLKEEPER_URL=${PULLKEEPER_URL:?}
  export PULLKEEPER_KEY=\$(az rest --method post --url "${PULLKEEPER_APP_ID:?}/host/default/listKeys?api-version=2023-12-01" --query functionKeys.default --output tsv)

Then:

  pullkeeper check      what is wrong with settings, timer or storage
  pullkeeper handover   what the publisher must trust, with the commands to run

Put the publisher's answer into PULLKEEPER_HUBS (azd env set, then azd provision), and onboard the first cluster:
docs/onboarding.md.
END
