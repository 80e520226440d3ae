// The way to storage without the internet: private endpoints, in a network that is created here or in existing subnets.

import { Network } from 'types.bicep'

param location string
param tags object
param name string
param network Network
param storageId string

var isNew = network.?mode == 'new'
var prefix = network.?addressPrefix ?? '10.90.0.0/24'
var appSubnet = 'app'
var endpointSubnet = 'endpoints'
var services = ['blob', 'queue', 'table']

// Nothing comes in: the platform needs no port of the subnet, and endpoints answer the app's subnet alone.
resource groups 'Microsoft.Network/networkSecurityGroups@2024-05-01' = [
  for subnet in isNew ? [appSubnet, endpointSubnet] : []: {
    name: '${name}-${subnet}'
    location: location
    tags: tags
    properties: {
      securityRules: [
        {
          name: 'refuse-internet'
          properties: {
            access: 'Deny'
            direction: 'Inbound'
            priority: 4000
            protocol: '*'
            sourceAddressPrefix: 'Internet'
            sourcePortRange: '*'
            destinationAddressPrefix: '*'
            destinationPortRange: '*'
          }
        }
      ]
    }
  }
]

var hasGateway = isNew && (network.?natGateway ?? false)

resource address 'Microsoft.Network/publicIPAddresses@2024-05-01' = if (hasGateway) {
  name: '${name}-outbound'
  location: location
  tags: tags
  sku: { name: 'Standard' }
  properties: { publicIPAllocationMethod: 'Static' }
}

resource gateway 'Microsoft.Network/natGateways@2024-05-01' = if (hasGateway) {
  name: '${name}-outbound'
  location: location
  tags: tags
  sku: { name: 'Standard' }
  properties: { publicIpAddresses: [{ id: address.id }] }
}

resource virtualNetwork 'Microsoft.Network/virtualNetworks@2024-05-01' = if (isNew) {
  name: name
  location: location
  tags: tags
  properties: {
    addressSpace: { addressPrefixes: [prefix] }
    subnets: [
      {
        name: appSubnet
        properties: {
          addressPrefix: cidrSubnet(prefix, 26, 0)
          delegations: [
            { name: 'functions', properties: { serviceName: 'Microsoft.App/environments' } }
          ]
          natGateway: hasGateway ? { id: gateway.id } : null
          networkSecurityGroup: { id: groups[0].id }
        }
      }
      {
        name: endpointSubnet
        properties: {
          addressPrefix: cidrSubnet(prefix, 27, 2)
          networkSecurityGroup: { id: groups[1].id }
          privateEndpointNetworkPolicies: 'Enabled'
        }
      }
    ]
  }
}

resource zones 'Microsoft.Network/privateDnsZones@2024-06-01' = [
  for service in isNew ? services : []: {
    name: 'privatelink.${service}.${environment().suffixes.storage}'
    location: 'global'
    tags: tags
  }
]

resource links 'Microsoft.Network/privateDnsZones/virtualNetworkLinks@2024-06-01' = [
  for (service, i) in isNew ? services : []: {
    parent: zones[i]
    name: name
    location: 'global'
    tags: tags
    properties: { registrationEnabled: false, virtualNetwork: { id: virtualNetwork.id } }
  }
]

resource endpoints 'Microsoft.Network/privateEndpoints@2024-05-01' = [
  for service in services: {
    name: '${name}-${service}'
    location: location
    tags: tags
    properties: {
      subnet: { id: isNew ? '${virtualNetwork.id}/subnets/${endpointSubnet}' : network.endpointSubnetId! }
      privateLinkServiceConnections: [
        { name: service, properties: { privateLinkServiceId: storageId, groupIds: [service] } }
      ]
    }
  }
]

var hasZones = isNew || network.?dnsZoneIds != null

resource records 'Microsoft.Network/privateEndpoints/privateDnsZoneGroups@2024-05-01' = [
  for (service, i) in hasZones ? services : []: {
    parent: endpoints[i]
    name: 'default'
    properties: {
      privateDnsZoneConfigs: [
        {
          name: service
          properties: { privateDnsZoneId: isNew ? zones[i].id : network.dnsZoneIds![i] }
        }
      ]
    }
  }
]

output appSubnetId string = isNew ? '${virtualNetwork.id}/subnets/${appSubnet}' : network.appSubnetId!

@description('The one address that clusters see, empty without a NAT gateway.')
output outboundAddress string = hasGateway ? address!.properties.ipAddress : ''
