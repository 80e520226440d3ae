"""Calls to the app's storage account: how azure-core's errors are translated."""

from collections.abc import Iterator
from contextlib import contextmanager

from azure.core.exceptions import AzureError, ResourceExistsError, ResourceModifiedError, ResourceNotFoundError

from pullkeeper.errors import StorageUnavailable


@contextmanager
def map_storage_errors(service: str) -> Iterator[None]:
    """Translate azure-core errors: not found, exists and modified pass through; everything else becomes
    StorageUnavailable. service: `tables` or `queues`, for the message.
    """
    try:
        yield
    except (ResourceExistsError, ResourceModifiedError, ResourceNotFoundError):
        raise
    except AzureError as e:
        raise StorageUnavailable(f"{service}: {type(e).__name__}: {e.message}") from None
