// The workbook and the dashboard with Grafana: the same charts in both.

param location string
param tags object
param name string
param workspaceId string
param dashboardUrl string
param documentationUrl string
param workbook bool
param grafana bool

var timeRange = 'TimeRange'

@description('kind: timechart, or table. A chart has the columns TimeGenerated, numbers, and at most one text, which names the line.')
var charts = [
  {
    title: 'Minutes left of each cluster\'s token (the 20 clusters with the least)'
    kind: 'timechart'
    query: loadTextContent('queries/charts/least-left.kql')
  }
  {
    title: 'Targets by state'
    kind: 'timechart'
    query: loadTextContent('queries/charts/states.kql')
  }
  {
    title: 'Targets that are not fresh'
    kind: 'table'
    query: loadTextContent('queries/charts/not-fresh.kql')
  }
  {
    title: 'Failures by category'
    kind: 'timechart'
    query: loadTextContent('queries/charts/failures.kql')
  }
  {
    title: 'Refreshes by outcome'
    kind: 'timechart'
    query: loadTextContent('queries/charts/refreshes.kql')
  }
  {
    title: 'Runs of the timer'
    kind: 'timechart'
    query: loadTextContent('queries/charts/runs.kql')
  }
  {
    title: 'Seconds of a run over a shard'
    kind: 'timechart'
    query: loadTextContent('queries/charts/duration.kql')
  }
  {
    title: 'Messages on the queues'
    kind: 'timechart'
    query: loadTextContent('queries/charts/queue-depth.kql')
  }
  {
    title: 'Secrets that another client had changed or deleted'
    kind: 'table'
    query: loadTextContent('queries/charts/drift.kql')
  }
  {
    title: 'Onboardings and offboardings'
    kind: 'table'
    query: loadTextContent('queries/charts/operations.kql')
  }
]

var introduction = {
  type: 1
  name: 'introduction'
  content: {
    json: '[Dashboard of the app](${dashboardUrl}) · [Runbook](${documentationUrl}/docs/runbook/README.md) · [Alerts](${documentationUrl}/docs/monitoring.md)'
  }
}

var parameters = {
  type: 9
  name: 'parameters'
  content: {
    version: 'KqlParameterItem/1.0'
    style: 'pills'
    queryType: 0
    resourceType: 'microsoft.operationalinsights/workspaces'
    parameters: [
      {
        id: guid(timeRange)
        version: 'KqlParameterItem/1.0'
        name: timeRange
        label: 'Time range'
        type: 4
        isRequired: true
        value: { durationMs: 86400000 }
        typeSettings: {
          selectableValues: [{ durationMs: 3600000 }, { durationMs: 14400000 }, { durationMs: 86400000 }, { durationMs: 604800000 }]
          allowCustom: true
        }
      }
    ]
  }
}

var items = [
  for (chart, index) in charts: {
    type: 3
    name: 'chart ${index + 1}'
    customWidth: chart.kind == 'table' ? '100' : '50'
    content: {
      version: 'KqlItem/1.0'
      title: chart.title
      query: chart.query
      size: 0
      queryType: 0
      resourceType: 'microsoft.operationalinsights/workspaces'
      crossComponentResources: [workspaceId]
      timeContextFromParameter: timeRange
      visualization: chart.kind
      noDataMessage: 'Nothing in this time.'
    }
  }
]

resource shared 'Microsoft.Insights/workbooks@2023-06-01' = if (workbook) {
  name: guid(resourceGroup().id, name)
  location: location
  tags: tags
  kind: 'shared'
  properties: {
    displayName: 'Pullkeeper (${name})'
    category: 'workbook'
    sourceId: workspaceId
    version: 'Notebook/1.0'
    serializedData: string({
      version: 'Notebook/1.0'
      items: concat([introduction, parameters], items)
      fallbackResourceIds: [workspaceId]
    })
  }
}

var source = { type: 'grafana-azure-monitor-datasource', uid: '\${source}' }

var panels = [
  for (chart, index) in charts: {
    id: index + 1
    title: chart.title
    type: chart.kind == 'table' ? 'table' : 'timeseries'
    datasource: source
    gridPos: { x: index % 2 * 12, y: index / 2 * 9, w: 12, h: 9 }
    targets: [
      {
        refId: 'A'
        datasource: source
        queryType: 'Azure Log Analytics'
        azureLogAnalytics: {
          query: chart.query
          resources: [workspaceId]
          resultFormat: chart.kind == 'table' ? 'table' : 'time_series'
          dashboardTime: true
          timeColumn: 'TimeGenerated'
        }
      }
    ]
  }
]

resource dashboard 'Microsoft.Dashboard/dashboards@2025-09-01-preview' = if (grafana) {
  name: name
  location: location
  tags: tags
  properties: {}

  resource definition 'dashboardDefinitions' = {
    name: 'default'
    properties: {
      serializedData: string({
        title: 'Pullkeeper (${name})'
        uid: uniqueString(resourceGroup().id, name)
        schemaVersion: 41
        editable: true
        refresh: '5m'
        time: { from: 'now-24h', to: 'now' }
        timezone: 'utc'
        tags: ['pullkeeper']
        links: [
          { type: 'link', title: 'Dashboard of the app', url: dashboardUrl, targetBlank: true }
          { type: 'link', title: 'Runbook', url: '${documentationUrl}/docs/runbook/README.md', targetBlank: true }
        ]
        templating: {
          list: [{ name: 'source', label: 'Data source', type: 'datasource', query: source.type, hide: 2 }]
        }
        panels: panels
      })
    }
  }
}
