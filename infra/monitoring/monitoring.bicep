// What operators see in the Portal: a workbook, a dashboard with Grafana, and alerts. Everything reads the events and
// metrics of the app in its Log Analytics workspace.

@description('Region of the resources: that of the workspace.')
param location string
param tags object

@description('Start of the names of the resources.')
param name string

@description('Resource id of the Log Analytics workspace.')
param workspaceId string

@description('Resource ids of action groups that every alert calls. None: alerts are visible in the Portal only.')
param actionGroups string[] = []

@description('Address of the app\'s dashboard, which alerts and workbook link to: https://HOST/api/dashboard.')
param dashboardUrl string

@description('Address of the folder that contains docs/, which alerts and workbook link to.')
param documentationUrl string

@description('Deploy the alert rules.')
param alerts bool = true

@description('Deploy the workbook.')
param workbook bool = true

@description('Deploy the dashboard with Grafana.')
param grafana bool = true

module rules 'alerts.bicep' = if (alerts) {
  params: {
    location: location
    tags: tags
    name: name
    workspaceId: workspaceId
    actionGroups: actionGroups
    dashboardUrl: dashboardUrl
    documentationUrl: documentationUrl
  }
}

module views 'views.bicep' = if (workbook || grafana) {
  params: {
    location: location
    tags: tags
    name: name
    workspaceId: workspaceId
    dashboardUrl: dashboardUrl
    documentationUrl: documentationUrl
    workbook: workbook
    grafana: grafana
  }
}
