using '../../../infra/resources.bicep'
