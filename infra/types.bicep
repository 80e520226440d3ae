// The shapes of the parameters that main.bicep and resources.bicep share. A property with `?` may be left out.

@export()
@description('How the app scales.')
@sealed()
type Scale = {
  @description('Memory of an instance, and with it its CPU. 2048 by default; 512 has a quarter of its CPU.')
  instanceMemoryMB: (512 | 2048 | 4096)?

  @description('Instances at most. 40 by default: a bound of the cost.')
  @minValue(1)
  @maxValue(1000)
  maximumInstances: int?

  @description('Instances that are paid for at any time, by group: http, or function:NAME. None by default.')
  alwaysReady: AlwaysReady[]?

  @description('Let instances finish what they do when a new version is deployed (public preview of Azure). false by default: they end, and the next run of the timer repairs what they did not finish.')
  rollingUpdate: bool?

  @description('Spread instances over availability zones. false by default.')
  zoneRedundant: bool?
}

@sealed()
type AlwaysReady = {
  @description('http, or function: and the name of a function, such as function:refresh.')
  @minLength(4)
  name: string

  @minValue(1)
  @maxValue(100)
  instanceCount: int
}

@export()
@description('What onboarding may do, beside creating identities for the clusters.')
@sealed()
type Onboarding = {
  @description('Make the onboarding identity administrator in clusters that use Azure RBAC. false by default: then grant it in each cluster.')
  clusterAdministrator: bool?

  @description('Allow it to enable OIDC issuer and workload identity, which changes clusters. false by default.')
  enableWorkloadIdentity: bool?
}

@export()
@description('How the app reaches storage and clusters.')
@sealed()
type Network = {
  @description('none (default): public addresses. new: a virtual network is created. existing: the subnets below.')
  mode: ('none' | 'new' | 'existing')?

  @description('new: its addresses, /24 or larger. 10.90.0.0/24 by default.')
  addressPrefix: string?

  @description('new: send all traffic from one fixed public address, for API servers with authorized IP ranges. false by default.')
  natGateway: bool?

  @description('existing: resource id of a subnet of /27 or larger, delegated to Microsoft.App/environments.')
  appSubnetId: string?

  @description('existing: resource id of a subnet for private endpoints.')
  endpointSubnetId: string?

  @description('existing: resource ids of the private DNS zones of blob, queue and table, in this order. Without them a policy has to register the endpoints.')
  @minLength(3)
  @maxLength(3)
  dnsZoneIds: string[]?
}

@export()
@description('Callers sign in with Entra (Easy Auth), and need no function key.')
@sealed()
type SignIn = {
  @description('Client id of the app registration, which has the app roles of app-roles.json.')
  @minLength(36)
  @maxLength(36)
  clientId: string

  @description('Tenant of the callers. That of the subscription by default.')
  tenantId: string?
}

@export()
@description('Where logs go, and who is notified.')
@sealed()
type Monitoring = {
  @description('Resource id of a Log Analytics workspace. By default one is created.')
  workspaceId: string?

  @description('Region of that workspace, where alert rules have to be. That of the app by default.')
  workspaceLocation: string?

  @description('Days for which a created workspace keeps logs. 30 by default.')
  @minValue(30)
  @maxValue(730)
  retentionDays: int?

  @description('Resource ids of action groups that alerts call. None by default: then alerts are visible in the Portal only.')
  actionGroups: string[]?

  @description('Deploy the alert rules. true by default.')
  alerts: bool?

  @description('Deploy the workbook. true by default.')
  workbook: bool?

  @description('Deploy the dashboard with Grafana. true by default.')
  grafana: bool?

  @description('Log each write and deletion in the storage account. false by default.')
  auditStorage: bool?
}

@export()
@description('Warn by email when a month costs more.')
@sealed()
type Budget = {
  @description('In the currency of the subscription, for a month.')
  @minValue(1)
  amount: int

  @description('Email addresses.')
  @minLength(1)
  contacts: string[]

  @description('First day of the first month: 2026-12-01. Azure accepts none in the past.')
  @minLength(10)
  start: string
}

@export()
@description('A role for one of the identities.')
@sealed()
type Grant = {
  @description('Names the assignment, together with scope and identity: a name made of what is known before the deployment.')
  key: string

  @description('Resource id of the identity.')
  identityId: string
  principalId: string

  @description('The guid of the role.')
  roleId: string

  @description('Where clusters are listed one by one: granted at their resource group, because it is about identities there.')
  atGroup: bool
}
