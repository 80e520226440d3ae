// Grants for all clusters of a resource group, or for some of them by name.

import { Grant } from 'types.bicep'

param grants Grant[]

@description('Names of clusters. Empty: all.')
param clusters string[]

var atGroup = filter(grants, grant => empty(clusters) || grant.atGroup)
var atClusters = flatten(map(
  clusters,
  cluster => map(filter(grants, grant => !grant.atGroup), grant => { cluster: cluster, grant: grant })
))

resource assignments 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for grant in atGroup: {
    name: guid(resourceGroup().id, grant.identityId, grant.key)
    properties: {
      principalId: grant.principalId
      principalType: 'ServicePrincipal'
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', grant.roleId)
    }
  }
]

resource aks 'Microsoft.ContainerService/managedClusters@2025-01-01' existing = [
  for one in atClusters: { name: one.cluster }
]

resource clusterAssignments 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for (one, i) in atClusters: {
    name: guid(aks[i].id, one.grant.identityId, one.grant.key)
    scope: aks[i]
    properties: {
      principalId: one.grant.principalId
      principalType: 'ServicePrincipal'
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', one.grant.roleId)
    }
  }
]
