using '../../infra/monitoring/planned-work.bicep'

param workspaceId = '/subscriptions/22222222-2222-2222-2222-222222222222/resourceGroups/pullkeeper/providers/Microsoft.OperationalInsights/workspaces/pullkeeper'
param clusterId = '/subscriptions/22222222-2222-2222-2222-222222222222/resourceGroups/shop/providers/Microsoft.ContainerService/managedClusters/shop-west'
param start = '2026-12-01T20:00:00'
param end = '2026-12-01T22:00:00'
