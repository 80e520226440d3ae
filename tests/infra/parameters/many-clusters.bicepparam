// Clusters one by one, whole resource groups and a whole subscription, in two subscriptions, in whatever case.
using '../../../infra/resources.bicep'

var here = '/subscriptions/22222222-2222-2222-2222-222222222222'
var there = '/subscriptions/44444444-4444-4444-4444-444444444444'

param onboarding = { clusterAdministrator: true, enableWorkloadIdentity: true }
param clusterScopes = concat(
  map(range(1, 4), i => '${here}/resourceGroups/Shop/providers/Microsoft.ContainerService/managedClusters/shop-${i}'),
  map(range(1, 2), i => '${here}/resourceGroups/bank-${i}/providers/Microsoft.ContainerService/managedClusters/bank'),
  ['${there}/resourceGroups/edge', '${there}/resourceGroups/edge/providers/Microsoft.ContainerService/managedClusters/one-of-it'],
  ['/subscriptions/55555555-5555-5555-5555-555555555555']
)
param monitoring = { alerts: false, workbook: false, grafana: false }
