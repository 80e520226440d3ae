// The rights of the two identities at the clusters: custom roles and their assignments. It can be deployed by itself, by
// someone who may assign roles, to add clusters or where the app is deployed by someone who may not.

targetScope = 'subscription'

import { Grant, Onboarding } from 'types.bicep'

@description('Name of the app\'s identity. The one that onboards is called the same, with -onboarding.')
param name string = 'pullkeeper'

@description('Resource group of the identities.')
param resourceGroupName string

@description('Resource ids of subscriptions, resource groups or clusters.')
@minLength(1)
param clusterScopes string[]

param onboarding Onboarding = {}

// Azure compares ids without regard to case. An id of another form would be left out without a word, so it fails.
var parts = map(
  clusterScopes,
  id => contains([3, 5, 9], length(split(id, '/')))
    ? split(toLower(id), '/')
    : fail('clusterScopes: neither a subscription nor a resource group nor a cluster: ${id}')
)
var subscriptionIds = map(filter(parts, one => length(one) == 3), one => one[2])
var wholeGroups = map(filter(parts, one => length(one) == 5), one => join(one, '/'))
var clusters = filter(parts, one => length(one) == 9)
var groups = union(wholeGroups, map(clusters, one => join(take(one, 5), '/')))

var group = '${subscription().id}/resourceGroups/${resourceGroupName}'
var roleIds = {
  refresh: guid(toLower(group), name, 'refresh')
  onboarding: guid(toLower(group), name, 'onboarding')
  identities: guid(toLower(group), name, 'identities')
}

module roles 'roles.bicep' = {
  params: {
    name: '${name} in ${resourceGroupName}'
    ids: roleIds
    assignableScopes: union([toLower(subscription().id)], map(parts, one => join(take(one, 3), '/')))
    enableWorkloadIdentity: onboarding.?enableWorkloadIdentity ?? false
  }
}

resource identity 'Microsoft.ManagedIdentity/userAssignedIdentities@2024-11-30' existing = {
  name: name
  scope: resourceGroup(resourceGroupName)
}

resource onboardingIdentity 'Microsoft.ManagedIdentity/userAssignedIdentities@2024-11-30' existing = {
  name: '${name}-onboarding'
  scope: resourceGroup(resourceGroupName)
}

var rbacClusterAdmin = 'b1ff04bb-8a4e-4dc4-8eb5-8693973ce19b'
var onboardingRoles = union(
  { onboarding: roleIds.onboarding, identities: roleIds.identities },
  (onboarding.?clusterAdministrator ?? false) ? { clusterAdministrator: rbacClusterAdmin } : {}
)
var grants Grant[] = concat(
  [
    {
      key: 'refresh'
      identityId: identity.id
      principalId: identity.properties.principalId
      roleId: roleIds.refresh
      atGroup: false
    }
  ],
  map(items(onboardingRoles), role => {
    key: role.key
    identityId: onboardingIdentity.id
    principalId: onboardingIdentity.properties.principalId
    roleId: role.value
    atGroup: role.key == 'identities'
  })
)

module subscriptionAccess 'access-subscription.bicep' = [
  for id in subscriptionIds: {
    scope: subscription(id)
    params: { grants: grants }
    dependsOn: [roles]
  }
]

module groupAccess 'access-group.bicep' = [
  for id in groups: {
    scope: resourceGroup(split(id, '/')[2], split(id, '/')[4])
    params: {
      grants: grants
      clusters: contains(wholeGroups, id)
        ? []
        : map(filter(clusters, one => startsWith(join(one, '/'), '${id}/')), one => one[8])
    }
    dependsOn: [roles]
  }
]
