// Example: no notifications about one cluster while it is being worked on. Its alerts still fire, and are visible.
// Deploy it when the work is announced. It ends by itself; delete it afterwards.

@description('Resource id of the Log Analytics workspace, which is what the alerts are about.')
param workspaceId string

@description('Resource id of the cluster, in the form in which alerts name it.')
param clusterId string

@description('Begin and end: 2026-12-01T20:00:00.')
param start string
param end string

@description('Time zone of both, by its Windows name.')
param timeZone string = 'UTC'

resource silence 'Microsoft.AlertsManagement/actionRules@2021-08-08' = {
  name: 'pullkeeper-planned-work-${uniqueString(clusterId)}'
  location: 'global'
  properties: {
    description: 'Planned work on ${clusterId}'
    scopes: [workspaceId]
    conditions: [{ field: 'AlertContext', operator: 'Contains', values: [clusterId] }]
    schedule: { effectiveFrom: start, effectiveUntil: end, timeZone: timeZone }
    actions: [{ actionType: 'RemoveAllActionGroups' }]
    enabled: true
  }
}
