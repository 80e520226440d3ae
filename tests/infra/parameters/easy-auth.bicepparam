// Callers sign in, the network and the workspace exist already, and a package is deployed at once.
using '../../../infra/resources.bicep'

// As long as a name may be.
param name = 'pullkeeper-prod-east'
param signIn = { clientId: '33333333-3333-3333-3333-333333333333' }
param network = {
  mode: 'existing'
  appSubnetId: '/subscriptions/22222222-2222-2222-2222-222222222222/resourceGroups/hub/providers/Microsoft.Network/virtualNetworks/hub/subnets/functions'
  endpointSubnetId: '/subscriptions/22222222-2222-2222-2222-222222222222/resourceGroups/hub/providers/Microsoft.Network/virtualNetworks/hub/subnets/endpoints'
}
param monitoring = {
  workspaceId: '/subscriptions/22222222-2222-2222-2222-222222222222/resourceGroups/logs/providers/Microsoft.OperationalInsights/workspaces/central'
  workspaceLocation: 'northeurope'
}
param hubs = {
  deepintshield: {
    credentialConfig: {
      type: 'external_account'
      audience: '//iam.googleapis.com/projects/123456789012/locations/global/workloadIdentityPools/acme-azure-pool/providers/acme-azure-provider'
      subject_token_type: 'urn:ietf:params:oauth:token-type:jwt'
      token_url: 'https://sts.googleapis.com/v1/token'
      service_account_impersonation_url: 'https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/acme-pull@deepintshield-images.iam.gserviceaccount.com:generateAccessToken'
    }
    registries: ['europe-docker.pkg.dev']
    probe: 'europe-docker.pkg.dev/deepintshield-images/acme/deepintshield:latest'
  }
}
param settings = { DOCUMENTATION_URL: 'https://example.com/pullkeeper', ONBOARDING_WAIT_HOURS: '48' }
param packageUri = 'https://example.com/pullkeeper-0.1.0.zip'
