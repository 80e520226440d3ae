// Everything that Pullkeeper needs, in an existing resource group: the entry point of the Deploy to Azure button and of
// `az deployment group create`. main.bicep creates the group, too.

import { Budget, Monitoring, Network, Onboarding, Scale, SignIn } from 'types.bicep'

@description('Name of the identities, and the beginning of every other name.')
@minLength(3)
@maxLength(20)
param name string = 'pullkeeper'

@description('A region that has Flex Consumption: az functionapp list-flexconsumption-locations.')
param location string = resourceGroup().location

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

@description('https address of the package of a release, to deploy it at once. Empty: you deploy the code afterwards.')
param packageUri string = ''

var suffix = uniqueString(resourceGroup().id, name)
var storageName = 'pk${suffix}'
var isPrivate = (network.?mode ?? 'none') != 'none'

// The address of the project is in one place, which a fork changes, and then compiles the template again.
var documentationUrl = '${split(split(loadTextContent('../pullkeeper/version.py'), 'REPOSITORY = "')[1], '"')[0]}/blob/main'

var storageSettings = toObject(
  ['blob', 'queue', 'table'],
  service => 'AzureWebJobsStorage__${service}ServiceUri',
  service => 'https://${storageName}.${service}.${environment().suffixes.storage}'
)
// The setting takes subscriptions and resource groups. Of a cluster's group the identity has rights at that cluster alone.
var onboardingScopes = map(clusterScopes, id => join(take(split(id, '/'), 5), '/'))
var cloudNames = { AzureUSGovernment: 'AzureUSGovernment', AzureChinaCloud: 'AzureChina' }

resource identity 'Microsoft.ManagedIdentity/userAssignedIdentities@2024-11-30' = {
  name: name
  location: location
  tags: tags
}

resource onboardingIdentity 'Microsoft.ManagedIdentity/userAssignedIdentities@2024-11-30' = {
  name: '${name}-onboarding'
  location: location
  tags: tags
}

module storage 'storage.bicep' = {
  params: {
    location: location
    tags: tags
    name: storageName
    private: isPrivate
    zoneRedundant: scale.?zoneRedundant ?? false
    principalId: identity.properties.principalId
    identityId: identity.id
    auditWorkspaceId: (monitoring.?auditStorage ?? false) ? telemetry.outputs.workspaceId : ''
  }
}

module telemetry 'telemetry.bicep' = {
  params: {
    location: location
    tags: tags
    name: name
    monitoring: monitoring
    principalId: identity.properties.principalId
    identityId: identity.id
  }
}

module privateNetwork 'network.bicep' = if (isPrivate) {
  params: {
    location: location
    tags: tags
    name: name
    network: network
    storageId: storage.outputs.id
  }
}

module app 'app.bicep' = {
  params: {
    location: location
    tags: tags
    name: '${name}-${suffix}'
    planName: name
    scale: scale
    signIn: signIn
    identityId: identity.id
    onboardingIdentityId: onboardingIdentity.id
    packageContainerUrl: storage.outputs.packageContainerUrl
    packageUri: packageUri
    subnetId: isPrivate ? privateNetwork!.outputs.appSubnetId : ''
    workspaceId: telemetry.outputs.workspaceId
    settings: union(
      storageSettings,
      {
        AzureWebJobsStorage__credential: 'managedidentity'
        AzureWebJobsStorage__clientId: identity.properties.clientId
        AZURE_CLIENT_ID: identity.properties.clientId
        AZURE_CLOUD: cloudNames[?environment().name] ?? 'AzurePublic'
        HUBS: string(hubs)
        REFRESH_SCHEDULE: refreshSchedule
        ONBOARDING_CLIENT_ID: onboardingIdentity.properties.clientId
        ONBOARDING_SCOPES: join(union(onboardingScopes, []), ',')
        APPLICATIONINSIGHTS_CONNECTION_STRING: telemetry.outputs.connectionString
        APPLICATIONINSIGHTS_AUTHENTICATION_STRING: 'ClientId=${identity.properties.clientId};Authorization=AAD'
        PYTHON_APPLICATIONINSIGHTS_ENABLE_TELEMETRY: 'true'
        PYTHON_APPLICATIONINSIGHTS_LOGGER_NAME: 'pullkeeper'
        OTEL_TRACES_EXPORTER: 'none'
      },
      settings
    )
  }
}

module views 'monitoring/monitoring.bicep' = {
  params: {
    location: monitoring.?workspaceLocation ?? location
    tags: tags
    name: name
    workspaceId: telemetry.outputs.workspaceId
    actionGroups: monitoring.?actionGroups ?? []
    dashboardUrl: '${app.outputs.url}/api/dashboard'
    documentationUrl: settings.?DOCUMENTATION_URL ?? documentationUrl
    alerts: monitoring.?alerts ?? true
    workbook: monitoring.?workbook ?? true
    grafana: monitoring.?grafana ?? true
  }
}

module access 'access.bicep' = if (grantAccess && !empty(clusterScopes)) {
  scope: subscription()
  params: {
    name: name
    resourceGroupName: resourceGroup().name
    clusterScopes: clusterScopes
    onboarding: onboarding
  }
  dependsOn: [identity, onboardingIdentity]
}

resource monthlyBudget 'Microsoft.Consumption/budgets@2023-11-01' = if (budget != null) {
  name: name
  properties: {
    amount: budget!.amount
    category: 'Cost'
    timeGrain: 'Monthly'
    timePeriod: { startDate: budget!.start }
    notifications: {
      forecast: { enabled: true, operator: 'GreaterThan', threshold: 100, thresholdType: 'Forecasted', contactEmails: budget!.contacts }
      actual: { enabled: true, operator: 'GreaterThan', threshold: 80, thresholdType: 'Actual', contactEmails: budget!.contacts }
    }
  }
}

@description('Resource id of the function app: APP_ID of the documentation.')
output appId string = app.outputs.id

@description('Address of the app: URL of the documentation.')
output url string = app.outputs.url

output storageAccount string = storageName

@description('The identity that refreshes. The publisher trusts this one: pullkeeper handover prints the commands.')
output tenantId string = tenant().tenantId
output clientId string = identity.properties.clientId
output objectId string = identity.properties.principalId

@description('The identity that onboards. In clusters without Azure RBAC, make it administrator by this object id.')
output onboardingObjectId string = onboardingIdentity.properties.principalId

@description('The one address that clusters see, for authorized IP ranges. Empty without a NAT gateway.')
output outboundAddress string = isPrivate ? privateNetwork!.outputs.outboundAddress : ''
