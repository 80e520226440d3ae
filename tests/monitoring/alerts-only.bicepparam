using '../../infra/monitoring/monitoring.bicep'

param location = 'westeurope'
param tags = {}
param name = 'pullkeeper'
param workspaceId = '/subscriptions/22222222-2222-2222-2222-222222222222/resourceGroups/pullkeeper/providers/Microsoft.OperationalInsights/workspaces/pullkeeper'
param dashboardUrl = 'https://pullkeeper.azurewebsites.net/api/dashboard'
param documentationUrl = 'https://github.com/pullkeeper/pullkeeper/blob/main'
param workbook = false
param grafana = false
