// Storage behind private endpoints, one address to the outside, and everything else that costs extra.
using '../../../infra/resources.bicep'

param tags = { 'cost-center': '4711' }
param network = { mode: 'new', natGateway: true }
param scale = {
  instanceMemoryMB: 512
  maximumInstances: 4
  alwaysReady: [{ name: 'function:refresh', instanceCount: 1 }]
  zoneRedundant: true
}
param monitoring = {
  auditStorage: true
  actionGroups: ['/subscriptions/22222222-2222-2222-2222-222222222222/resourceGroups/oncall/providers/Microsoft.Insights/actionGroups/platform']
}
param budget = { amount: 100, contacts: ['platform@example.com'], start: '2026-12-01' }
