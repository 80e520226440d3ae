// The same variables, for access.bicep.
using './access.bicep'

param name = readEnvironmentVariable('PULLKEEPER_NAME', 'pullkeeper')
param resourceGroupName = readEnvironmentVariable('AZURE_RESOURCE_GROUP')
param clusterScopes = json(readEnvironmentVariable('PULLKEEPER_CLUSTER_SCOPES'))
param onboarding = json(readEnvironmentVariable('PULLKEEPER_ONBOARDING', '{}'))
