// The entry point of azd and of `az deployment sub create`: a resource group with everything that Pullkeeper needs.

targetScope = 'subscription'

import { Budget, Monitoring, Network, Onboarding, Scale, SignIn } from 'types.bicep'

@description('Name of the azd environment: a tag, and by default in the name of the resource group.')
@minLength(1)
@maxLength(64)
param environmentName string

@description('A region that has Flex Consumption: az functionapp list-flexconsumption-locations.')
param location string

@description('Resource group to create, or to use if it exists.')
param resourceGroupName string = 'rg-${environmentName}'

@description('Name of the identities, and the beginning of every other name.')
@minLength(3)
@maxLength(20)
param name string = 'pullkeeper'

@description('Tags of all resources.')
param tags object = {}

@description('Where the clusters are: resource ids of subscriptions, resource groups or clusters. The identities get their roles there, and these clusters may be onboarded. Empty: you grant the roles yourself.')
param clusterScopes string[] = []

@description('Grant the identities their roles at these clusters. false: somebody else deploys access.bicep.')
param grantAccess bool = true

@description('The publishers (setting HUBS): see docs/reference.md. Empty until the publisher has sent its credential configuration.')
param hubs object = {}

@description('When the timer runs (NCRONTAB with six fields, UTC). At most a twelfth of the shortest token life.')
param refreshSchedule string = '0 */5 * * * *'

param onboarding Onboarding = {}
param scale Scale = {}
param network Network = {}
param signIn SignIn?
param monitoring Monitoring = {}
param budget Budget?

@description('Further app settings, by name: see docs/reference.md. They are visible in the deployment, so they must hold no secret.')
param settings object = {}

var allTags = union(tags, { 'azd-env-name': environmentName })

resource group 'Microsoft.Resources/resourceGroups@2024-03-01' = {
  name: resourceGroupName
  location: location
  tags: allTags
}

module resources 'resources.bicep' = {
  scope: group
  params: {
    name: name
    location: location
    tags: allTags
    clusterScopes: clusterScopes
    grantAccess: grantAccess
    hubs: hubs
    refreshSchedule: refreshSchedule
    onboarding: onboarding
    scale: scale
    network: network
    signIn: signIn
    monitoring: monitoring
    budget: budget
    settings: settings
  }
}

// azd keeps these in its environment, where its hooks and `azd env get-value PULLKEEPER_URL` read them.
output AZURE_RESOURCE_GROUP string = group.name
output PULLKEEPER_APP_ID string = resources.outputs.appId
output PULLKEEPER_URL string = resources.outputs.url
output PULLKEEPER_STORAGE_ACCOUNT string = resources.outputs.storageAccount

@description('The identity that refreshes. The publisher trusts this one: pullkeeper handover prints the commands.')
output PULLKEEPER_TENANT_ID string = tenant().tenantId
output PULLKEEPER_CLIENT_ID string = resources.outputs.clientId
output PULLKEEPER_OBJECT_ID string = resources.outputs.objectId

@description('The identity that onboards. In clusters without Azure RBAC, make it administrator by this object id.')
output PULLKEEPER_ONBOARDING_OBJECT_ID string = resources.outputs.onboardingObjectId

@description('The one address that clusters see, for authorized IP ranges. Empty without a NAT gateway.')
output PULLKEEPER_OUTBOUND_ADDRESS string = resources.outputs.outboundAddress
