// The storage account: the host's blobs, the deployed package, queues and tables. No keys, no public blobs.

param location string
param tags object
param name string

@description('Whether requests from the internet are refused.')
param private bool

@description('Copies in three zones rather than one.')
param zoneRedundant bool

@description('Principal id of the app\'s identity, and the id that its assignments are named after.')
param principalId string
param identityId string

@description('Workspace for the log of writes and deletions. Empty: no log.')
param auditWorkspaceId string

var queueNames = ['refresh', 'refresh-poison', 'onboarding', 'onboarding-poison']
var tableNames = ['fleet', 'shards', 'operations']
var packages = 'packages'

// Storage Blob Data Owner, Storage Queue Data Contributor, Storage Table Data Contributor: see docs/security.md.
var roleIds = [
  'b7e6dc6d-f1e8-4753-8033-0f276bb0955b'
  '974c5e8b-45b9-4653-ba55-5f855dd0fb88'
  '0a9a7e1f-b9d0-4cc4-a60d-0319b160aaa3'
]

resource account 'Microsoft.Storage/storageAccounts@2024-01-01' = {
  name: name
  location: location
  tags: tags
  kind: 'StorageV2'
  sku: { name: zoneRedundant ? 'Standard_ZRS' : 'Standard_LRS' }
  properties: {
    accessTier: 'Hot'
    allowBlobPublicAccess: false
    allowCrossTenantReplication: false
    allowSharedKeyAccess: false
    defaultToOAuthAuthentication: true
    minimumTlsVersion: 'TLS1_2'
    supportsHttpsTrafficOnly: true
    publicNetworkAccess: private ? 'Disabled' : 'Enabled'
    networkAcls: { bypass: 'None', defaultAction: private ? 'Deny' : 'Allow' }
  }

  resource blobs 'blobServices' = {
    name: 'default'
    properties: {
      // A package that was replaced can be brought back: see "Roll back" in docs/install.md.
      deleteRetentionPolicy: { enabled: true, days: 14 }
      containerDeleteRetentionPolicy: { enabled: true, days: 14 }
    }

    resource container 'containers' = {
      name: packages
      properties: { publicAccess: 'None' }
    }
  }

  resource queueService 'queueServices' = {
    name: 'default'

    resource queues 'queues' = [for one in queueNames: { name: one }]
  }

  resource tableService 'tableServices' = {
    name: 'default'

    resource tables 'tables' = [for one in tableNames: { name: one }]
  }
}

resource roles 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for id in roleIds: {
    name: guid(account.id, identityId, id)
    scope: account
    properties: {
      principalId: principalId
      principalType: 'ServicePrincipal'
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', id)
    }
  }
]

var auditLogs = [
  { category: 'StorageWrite', enabled: true }
  { category: 'StorageDelete', enabled: true }
]

resource auditBlobs 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = if (!empty(auditWorkspaceId)) {
  name: 'audit-blobs'
  scope: account::blobs
  properties: { workspaceId: auditWorkspaceId, logs: auditLogs }
}

resource auditQueues 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = if (!empty(auditWorkspaceId)) {
  name: 'audit-queues'
  scope: account::queueService
  properties: { workspaceId: auditWorkspaceId, logs: auditLogs }
}

resource auditTables 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = if (!empty(auditWorkspaceId)) {
  name: 'audit-tables'
  scope: account::tableService
  properties: { workspaceId: auditWorkspaceId, logs: auditLogs }
}

output id string = account.id
output packageContainerUrl string = 'https://${name}.blob.${environment().suffixes.storage}/${packages}'
