// The Flex Consumption plan and the function app.

import { Scale, SignIn } from 'types.bicep'

param location string
param tags object

@description('Of the app: its default host name begins with it, so it is unique in Azure.')
param name string
param planName string

param scale Scale
param signIn SignIn?
param settings object

@description('Resource id of the identity that reads the package, and of the one that onboards.')
param identityId string
param onboardingIdentityId string

param packageContainerUrl string

@description('https address of a package to deploy. Empty: the code is deployed later.')
param packageUri string

@description('Subnet for all outbound traffic. Empty: none.')
param subnetId string

param workspaceId string

resource plan 'Microsoft.Web/serverfarms@2024-11-01' = {
  name: planName
  location: location
  tags: tags
  kind: 'functionapp'
  sku: { tier: 'FlexConsumption', name: 'FC1' }
  properties: { reserved: true, zoneRedundant: scale.?zoneRedundant ?? false }
}

resource app 'Microsoft.Web/sites@2024-11-01' = {
  name: name
  location: location
  // azd deploys the service of this name, from azure.yaml.
  tags: union(tags, { 'azd-service-name': 'app' })
  kind: 'functionapp,linux'
  identity: {
    type: 'UserAssigned'
    userAssignedIdentities: { '${identityId}': {}, '${onboardingIdentityId}': {} }
  }
  properties: {
    serverFarmId: plan.id
    httpsOnly: true
    virtualNetworkSubnetId: empty(subnetId) ? null : subnetId
    siteConfig: {
      ftpsState: 'Disabled'
      http20Enabled: true
      minTlsVersion: '1.2'
      scmMinTlsVersion: '1.2'
    }
    functionAppConfig: {
      runtime: { name: 'python', version: '3.13' }
      deployment: {
        storage: {
          type: 'blobContainer'
          value: packageContainerUrl
          authentication: { type: 'UserAssignedIdentity', userAssignedIdentityResourceId: identityId }
        }
      }
      scaleAndConcurrency: {
        instanceMemoryMB: scale.?instanceMemoryMB ?? 2048
        maximumInstanceCount: scale.?maximumInstances ?? 40
        alwaysReady: scale.?alwaysReady ?? []
      }
      // In Microsoft's documentation since this API version, but not in its type.
      #disable-next-line BCP037
      siteUpdateStrategy: (scale.?rollingUpdate ?? false) ? { type: 'RollingUpdate' } : null
    }
  }

  resource appSettings 'config' = {
    name: 'appsettings'
    properties: settings
  }

  resource ftp 'basicPublishingCredentialsPolicies' = {
    name: 'ftp'
    properties: { allow: false }
  }

  resource scm 'basicPublishingCredentialsPolicies' = {
    name: 'scm'
    properties: { allow: false }
  }

  resource auth 'config' = if (signIn != null) {
    name: 'authsettingsV2'
    properties: {
      platform: { enabled: true }
      globalValidation: {
        requireAuthentication: true
        unauthenticatedClientAction: 'Return401'
        // The app answers these to everyone: they hold no data.
        excludedPaths: ['/api/health', '/api/dashboard']
      }
      httpSettings: { requireHttps: true }
      identityProviders: {
        azureActiveDirectory: {
          enabled: true
          registration: {
            clientId: signIn!.clientId
            openIdIssuer: '${environment().authentication.loginEndpoint}${signIn!.?tenantId ?? tenant().tenantId}/v2.0'
          }
          validation: { allowedAudiences: [signIn!.clientId, 'api://${signIn!.clientId}'] }
        }
      }
    }
  }

  resource package 'extensions' = if (!empty(packageUri)) {
    name: 'onedeploy'
    // Documented for Flex Consumption, but not in the type.
    #disable-next-line BCP187
    properties: { packageUri: packageUri, remoteBuild: false }
    dependsOn: [appSettings]
  }
}

// What the host says of itself, also where the exporter of telemetry does not work.
resource logs 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  name: 'host'
  scope: app
  properties: {
    workspaceId: workspaceId
    logs: [{ category: 'FunctionAppLogs', enabled: true }]
  }
}

output id string = app.id
output url string = 'https://${app.properties.defaultHostName}'
