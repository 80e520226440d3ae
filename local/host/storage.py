"""The storage accounts that the app's settings name, by connection string or by identity."""

import logging
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from azure.core.exceptions import (
    AzureError,
    ClientAuthenticationError,
    HttpResponseError,
    ServiceRequestError,
    ServiceRequestTimeoutError,
    ServiceResponseError,
    ServiceResponseTimeoutError,
)
from azure.identity.aio import ManagedIdentityCredential
from azure.storage.queue.aio import QueueClient, QueueServiceClient

from local.host.registrations import IndexingError
from local.host.settings import UnsupportedError

REFUSAL_PATIENCE = timedelta(seconds=26)
"""For how long the real host retries a refused or reset connection before its process ends."""
_HOST_STORAGE = "AzureWebJobsStorage"
_RETRIES = 3  # of the SDK
# The SDK's request records of this host are the host's own; those of the app stay as the app sets them.
_requests = logging.getLogger("local.host.requests")
_requests.setLevel(logging.WARNING)


class StorageRefusedError(RuntimeError):
    """Storage answered 403 or refused the connection: the real host's process ends."""


class Storage:
    """Queues by connection. environment: the app's settings."""

    def __init__(self, environment: Mapping[str, str], refusal_patience: timedelta = REFUSAL_PATIENCE) -> None:
        self._environment = environment
        self._pause = refusal_patience.total_seconds() / _RETRIES
        self._services: dict[str, QueueServiceClient] = {}
        self._opened: list[QueueServiceClient | ManagedIdentityCredential] = []

    @property
    def holds_timers(self) -> bool:
        """Whether the host finds the blobs that it keeps its timers in: without them no timer runs."""
        names = (_HOST_STORAGE, f"{_HOST_STORAGE}__blobServiceUri", f"{_HOST_STORAGE}__accountName")
        return any(self._environment.get(name) for name in names)

    def queue(self, name: str, connection: str) -> QueueClient:
        """Raises IndexingError if no setting says where `connection` is, UnsupportedError for unknown credentials."""
        if connection not in self._services:
            self._services[connection] = self._service(connection)
            self._opened.append(self._services[connection])
        return self._services[connection].get_queue_client(name)

    async def close(self) -> None:
        for opened in self._opened:
            await opened.close()

    def _service(self, connection: str) -> QueueServiceClient:
        backoff = {"initial_backoff": self._pause, "increment_base": 0, "random_jitter_range": 0}
        options: dict[str, Any] = {"read_timeout": 100, "logger": _requests, **backoff}
        for prefix in (f"AzureWebJobs{connection}", connection):
            if text := self._environment.get(prefix):
                return QueueServiceClient.from_connection_string(text, **options)
            account, credential, client_id, uri = (
                self._environment.get(f"{prefix}__{name}")
                for name in ("accountName", "credential", "clientId", "queueServiceUri")
            )
            if uri or account:
                if credential not in {None, "managedidentity"}:
                    raise UnsupportedError(f"{prefix}__credential={credential}")
                identity = ManagedIdentityCredential(client_id=client_id or self._environment.get("AZURE_CLIENT_ID"))
                self._opened.append(identity)
                uri = uri or f"https://{account}.queue.core.windows.net"
                return QueueServiceClient(uri, credential=identity, **options)
        raise IndexingError(f"no setting says which storage account {connection!r} is")


def refuse(error: AzureError, what: str) -> None:
    """Raises StorageRefusedError for an error that ends the real host. It outlives any other answer, and silence."""
    silent = isinstance(error, ServiceRequestTimeoutError | ServiceResponseTimeoutError)
    refused = isinstance(error, ClientAuthenticationError | ServiceRequestError | ServiceResponseError) and not silent
    if refused or (isinstance(error, HttpResponseError) and error.status_code == 403):  # noqa: PLR2004 - HTTP
        raise StorageRefusedError(f"{what}: {type(error).__name__}: {error.message}") from error
