# The older way: the script of the CronJob that the publisher's guide (step 7) has every cluster run, with its
# placeholders and paths as variables. As printed it gets no token, because gcloud does not look at the variable that it
# sets; so the tests set CLOUDSDK_AUTH_CREDENTIAL_FILE_OVERRIDE as well, and leave the script as it is.
set -e
export GOOGLE_APPLICATION_CREDENTIALS="$CREDENTIAL_CONFIG"
TOKEN=$(gcloud auth print-access-token)
kubectl delete secret ar-pull-secret --ignore-not-found -n "$NAMESPACE"
kubectl create secret docker-registry ar-pull-secret \
  --docker-server="$REGISTRY" \
  --docker-username=oauth2accesstoken \
  --docker-password="$TOKEN" \
  -n "$NAMESPACE"
echo "Secret refreshed at $(date)"
