// The parameters of azd: `azd env set NAME VALUE` sets each of these variables. docs/install.md lists them.
using './main.bicep'

param environmentName = readEnvironmentVariable('AZURE_ENV_NAME')
param location = readEnvironmentVariable('AZURE_LOCATION')
param name = readEnvironmentVariable('PULLKEEPER_NAME', 'pullkeeper')
param tags = json(readEnvironmentVariable('PULLKEEPER_TAGS', '{}'))
param clusterScopes = json(readEnvironmentVariable('PULLKEEPER_CLUSTER_SCOPES', '[]'))
param hubs = json(readEnvironmentVariable('PULLKEEPER_HUBS', '{}'))
param onboarding = json(readEnvironmentVariable('PULLKEEPER_ONBOARDING', '{}'))
param scale = json(readEnvironmentVariable('PULLKEEPER_SCALE', '{}'))
param network = json(readEnvironmentVariable('PULLKEEPER_NETWORK', '{}'))
param signIn = json(readEnvironmentVariable('PULLKEEPER_SIGN_IN', 'null'))
param monitoring = json(readEnvironmentVariable('PULLKEEPER_MONITORING', '{}'))
param budget = json(readEnvironmentVariable('PULLKEEPER_BUDGET', 'null'))
param settings = json(readEnvironmentVariable('PULLKEEPER_SETTINGS', '{}'))

// `azd down` deletes every resource group that its deployment has written to. So the roles at clusters, which lie in
// other groups, are a deployment of their own: the hook in azure.yaml deploys access.bicep.
param grantAccess = false
