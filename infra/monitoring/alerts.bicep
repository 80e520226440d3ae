// Alert rules. Each query was executed by tests/monitoring over events of the app.

param location string
param tags object
param name string
param workspaceId string
param actionGroups string[]
param dashboardUrl string
param documentationUrl string

var runbook = '${documentationUrl}/docs/runbook'
var targets = loadTextContent('queries/targets.kql')
var lifeLeft = '${targets}${loadTextContent('queries/life-left.kql')}'

@description('Azure fills in the first dimension. Dimensions are listed in the order of the alphabet, which is also the order of their declaration here.')
var firstDimension = '\${data.alertContext.condition.allOf[0].dimensions[0].value}'
var perTarget = ['category', 'cluster', 'target']

var rules = [
  {
    name: 'third'
    title: 'less than a third of a token\'s life is left'
    description: 'The secret of this target has not been refreshed for two thirds of its token\'s life. Pods cannot pull once it has expired.'
    severity: 2
    query: lifeLeft
    dimensions: perTarget
    range: 'P1D'
    window: 'PT5M'
    measure: 'percent_left'
    aggregation: 'Minimum'
    operator: 'LessThan'
    threshold: json('33.3')
    periods: 2
    category: firstDimension
    page: '${firstDimension}.md'
  }
  {
    name: 'sixth'
    title: 'less than a sixth of a token\'s life is left'
    description: 'The secret of this target is about to expire, or has expired. Stop what creates pods, and write the secret by hand if needed.'
    severity: 0
    query: '${lifeLeft}| where TimeGenerated > ago(5m)\n'
    dimensions: perTarget
    range: 'P1D'
    window: 'PT5M'
    measure: 'percent_left'
    aggregation: 'Minimum'
    operator: 'LessThan'
    threshold: json('16.7')
    periods: 1
    category: firstDimension
    page: 'README.md#a-secret-has-expired-what-now'
  }
  {
    name: 'stopped'
    title: 'no completed run for 15 minutes'
    description: 'The timer has stopped, or each of its runs fails. Nothing is refreshed.'
    severity: 1
    query: loadTextContent('queries/completed-runs.kql')
    dimensions: []
    range: null
    window: 'PT15M'
    measure: 'runs'
    aggregation: 'Total'
    operator: 'LessThan'
    threshold: 1
    periods: 1
    category: 'refresh_stopped'
    page: 'refresh_stopped.md'
  }
  {
    name: 'overdue'
    title: 'shards are overdue'
    description: 'The timer runs, but the clusters of some shards are not refreshed.'
    severity: 1
    query: loadTextContent('queries/overdue.kql')
    dimensions: []
    range: null
    window: 'PT10M'
    measure: 'overdue'
    aggregation: 'Minimum'
    operator: 'GreaterThan'
    threshold: 0
    periods: 1
    category: 'refresh_stopped'
    page: 'refresh_stopped.md'
  }
  {
    name: 'poisoned'
    title: 'a message was poisoned'
    description: 'The queue has given up a message. No work is lost: the timer sends it again.'
    severity: 2
    query: loadTextContent('queries/poisoned.kql')
    dimensions: ['queue']
    range: null
    window: 'PT15M'
    measure: 'messages'
    aggregation: 'Total'
    operator: 'GreaterThan'
    threshold: 0
    periods: 1
    category: 'message.poisoned'
    page: 'README.md#look-at-the-poison-queues-and-clear-them'
  }
  {
    name: 'action'
    title: 'a failure needs action'
    description: 'The refresh of this target fails, and only a person can fix it. The page of the category says how.'
    severity: 2
    query: '${targets}${loadTextContent('queries/needs-action.kql')}'
    dimensions: perTarget
    range: 'P1D'
    window: 'PT5M'
    measure: null
    aggregation: 'Count'
    operator: 'GreaterThan'
    threshold: 0
    periods: 1
    category: firstDimension
    page: '${firstDimension}.md'
  }
  {
    name: 'drift'
    title: 'a secret was changed or deleted by another client'
    description: 'Pullkeeper has restored it. If this repeats, two writers fight.'
    severity: 3
    query: loadTextContent('queries/drift-repaired.kql')
    dimensions: ['cluster', 'target']
    range: null
    window: 'PT1H'
    measure: 'repairs'
    aggregation: 'Total'
    operator: 'GreaterThan'
    threshold: 0
    periods: 1
    category: 'drift_repaired'
    page: 'drift_repaired.md'
  }
]

resource alerts 'Microsoft.Insights/scheduledQueryRules@2023-12-01' = [
  for rule in rules: {
    name: '${name}-${rule.name}'
    location: location
    tags: tags
    kind: 'LogAlert'
    properties: {
      displayName: 'Pullkeeper: ${rule.title}'
      description: rule.description
      severity: rule.severity
      enabled: true
      scopes: [workspaceId]
      evaluationFrequency: 'PT5M'
      windowSize: rule.window
      overrideQueryTimeRange: rule.range
      criteria: {
        allOf: [
          {
            query: rule.query
            metricMeasureColumn: rule.measure
            timeAggregation: rule.aggregation
            dimensions: map(rule.dimensions, dimension => { name: dimension, operator: 'Include', values: ['*'] })
            operator: rule.operator
            threshold: rule.threshold
            failingPeriods: { numberOfEvaluationPeriods: rule.periods, minFailingPeriodsToAlert: rule.periods }
          }
        ]
      }
      // An alert ends by itself: that excludes muteActionsDuration.
      autoMitigate: true
      // The workspace gets its tables with the first event, which may be after the deployment.
      skipQueryValidation: true
      actions: {
        actionGroups: actionGroups
        customProperties: {
          category: rule.category
          runbook: '${runbook}/${rule.page}'
          dashboard: dashboardUrl
        }
      }
    }
  }
]
