using '../../infra/monitoring/monitoring.bicep'

param location = 'westeurope'
param tags = { app: 'pullkeeper' }
param name = 'pullkeeper'
param workspaceId = '/subscriptions/22222222-2222-2222-2222-222222222222/resourceGroups/pullkeeper/providers/Microsoft.OperationalInsights/workspaces/pullkeeper'
param actionGroups = [
  '/subscriptions/22222222-2222-2222-2222-222222222222/resourceGroups/on-call/providers/Microsoft.Insights/actionGroups/on-call'
]
param dashboardUrl = 'https://pullkeeper.azurewebsites.net/api/dashboard'
param documentationUrl = 'https://github.com/pullkeeper/pullkeeper/blob/main'
