// Application Insights and its workspace. Both accept Entra tokens alone.

import { Monitoring } from 'types.bicep'

param location string
param tags object
param name string
param monitoring Monitoring

@description('Principal id of the app\'s identity, and the id that its assignment is named after.')
param principalId string
param identityId string

var metricsPublisher = '3913510d-42f4-4e42-8a64-420c390055eb'
var existingId = monitoring.?workspaceId ?? ''

resource workspace 'Microsoft.OperationalInsights/workspaces@2023-09-01' = if (empty(existingId)) {
  name: name
  location: location
  tags: tags
  properties: {
    sku: { name: 'PerGB2018' }
    retentionInDays: monitoring.?retentionDays ?? 30
    features: { disableLocalAuth: true, enableLogAccessUsingOnlyResourcePermissions: true }
  }
}

resource insights 'Microsoft.Insights/components@2020-02-02' = {
  name: name
  location: location
  tags: tags
  kind: 'web'
  properties: {
    Application_Type: 'web'
    DisableLocalAuth: true
    IngestionMode: 'LogAnalytics'
    WorkspaceResourceId: empty(existingId) ? workspace.id : existingId
  }
}

resource publisher 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(insights.id, identityId, metricsPublisher)
  scope: insights
  properties: {
    principalId: principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', metricsPublisher)
  }
}

output workspaceId string = empty(existingId) ? workspace.id : existingId
output insightsId string = insights.id
output connectionString string = insights.properties.ConnectionString
