// The custom roles: what refreshing and onboarding need at clusters and identities, and nothing else.

targetScope = 'subscription'

@description('Distinguishes the roles of several Pullkeepers in a tenant: role names are unique there.')
param name string

@description('Ids of the three roles: guids.')
param ids {
  refresh: string
  onboarding: string
  identities: string
}

@description('Subscriptions in which the roles may be assigned.')
param assignableScopes string[]

param enableWorkloadIdentity bool

var definitions = [
  {
    id: ids.refresh
    name: 'refresh'
    description: 'Find the address and the CA of a cluster. Its rights in the cluster are Kubernetes roles.'
    actions: [
      'Microsoft.ContainerService/managedClusters/read'
      'Microsoft.ContainerService/managedClusters/listClusterUserCredential/action'
    ]
  }
  {
    id: ids.onboarding
    name: 'onboarding'
    description: 'Look at a cluster that joins or leaves, and enable workload identity if that is allowed.'
    actions: concat(
      [
        'Microsoft.ContainerService/managedClusters/read'
        'Microsoft.ContainerService/managedClusters/listClusterUserCredential/action'
      ],
      enableWorkloadIdentity ? ['Microsoft.ContainerService/managedClusters/write'] : []
    )
  }
  {
    id: ids.identities
    name: 'identities'
    description: 'Create and delete the identities of clusters, with their federated credentials.'
    actions: [
      'Microsoft.ManagedIdentity/userAssignedIdentities/read'
      'Microsoft.ManagedIdentity/userAssignedIdentities/write'
      'Microsoft.ManagedIdentity/userAssignedIdentities/delete'
      'Microsoft.ManagedIdentity/userAssignedIdentities/federatedIdentityCredentials/read'
      'Microsoft.ManagedIdentity/userAssignedIdentities/federatedIdentityCredentials/write'
      'Microsoft.ManagedIdentity/userAssignedIdentities/federatedIdentityCredentials/delete'
    ]
  }
]

resource roles 'Microsoft.Authorization/roleDefinitions@2022-04-01' = [
  for one in definitions: {
    name: one.id
    properties: {
      roleName: 'Pullkeeper ${one.name} (${name})'
      description: one.description
      type: 'CustomRole'
      assignableScopes: assignableScopes
      permissions: [{ actions: one.actions, notActions: [], dataActions: [], notDataActions: [] }]
    }
  }
]
