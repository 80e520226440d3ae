// Grants for all clusters of a subscription.

targetScope = 'subscription'

import { Grant } from 'types.bicep'

param grants Grant[]

resource assignments 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for grant in grants: {
    name: guid(subscription().id, grant.identityId, grant.key)
    properties: {
      principalId: grant.principalId
      principalType: 'ServicePrincipal'
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', grant.roleId)
    }
  }
]
