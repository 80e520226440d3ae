"""The clients of the app's storage account, the time limit of each call, and the translation of their errors."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from http import HTTPStatus
from typing import Any, Final

from azure.core.credentials_async import AsyncTokenCredential
from azure.core.exceptions import (
    AzureError,
    HttpResponseError,
    ResourceExistsError,
    ResourceModifiedError,
    ResourceNotFoundError,
)
from azure.core.pipeline.transport import AioHttpTransport
from azure.data.tables.aio import TableClient, TableServiceClient
from azure.storage.queue.aio import QueueServiceClient

from pullkeeper.deadline import remaining
from pullkeeper.errors import StorageUnavailable
from pullkeeper.proxies import find_proxies
from pullkeeper.settings import Settings

CALL: Final = timedelta(seconds=30)
"""The longest that one call may take, retries included."""
_TRY: Final[dict[str, Any]] = {"connection_timeout": 5, "read_timeout": 10}
"""Seconds, for one try: a connection that stays silent leaves time for another try on a new one."""
_QUEUE_RETRIES: Final[dict[str, Any]] = {"initial_backoff": 1, "increment_base": 2, "random_jitter_range": 1}
"""Waits of about 3, 5 and 9 s. With the SDK's defaults the second retry would come after CALL."""


def connect_storage(
    settings: Settings, credential: AsyncTokenCredential
) -> tuple[TableServiceClient, QueueServiceClient]:
    """Create the clients. Connects to nothing yet."""
    addresses = _list_addresses(settings)
    # By default the transport looks up netrc and proxies for every call, in a thread: a quarter of the call's cost.
    # The clients do not pass their time-outs on to it.
    tables, queues = (
        {"transport": AioHttpTransport(use_env_settings=False, **_TRY), "proxies": find_proxies(address)}
        for address in addresses
    )
    queues |= _QUEUE_RETRIES
    if settings.storage:
        return (
            TableServiceClient.from_connection_string(settings.storage, **tables),
            QueueServiceClient.from_connection_string(settings.storage, **queues),
        )
    return (
        TableServiceClient(addresses[0], credential=credential, **tables),
        QueueServiceClient(addresses[1], credential=credential, **queues),
    )


def _list_addresses(settings: Settings) -> tuple[str, str]:
    """Return those of tables and queues."""
    if settings.storage:
        clients = TableServiceClient, QueueServiceClient
        tables, queues = (client.from_connection_string(settings.storage).url for client in clients)
        return tables, queues
    return settings.storage_address("table"), settings.storage_address("queue")


async def open_table(service: TableServiceClient, name: str) -> TableClient:
    """Return a table, created if it is missing and the identity may. Raises StorageUnavailable."""
    table = service.get_table_client(name)
    async with map_storage_errors("tables"):
        with allow_existing():
            await table.create_table()
    return table


@contextmanager
def allow_existing() -> Iterator[None]:
    """Let the creation of a queue or table fail because it exists, or because the identity may only use existing ones.

    If it is missing then, its first use fails.
    """
    try:
        yield
    except ResourceExistsError:
        pass
    except HttpResponseError as e:
        if e.status_code != HTTPStatus.FORBIDDEN:
            raise


@asynccontextmanager
async def map_storage_errors(service: str) -> AsyncIterator[None]:
    """Limit one call, and translate azure-core errors: not found, exists and modified pass through; everything else
    becomes StorageUnavailable, as does a call that lasts longer than CALL or than the invocation's deadline leaves.

    service: `tables` or `queues`, for the message. The body must make one call only: the limit is for all of it.
    """
    limit = remaining(CALL.total_seconds())
    try:
        async with asyncio.timeout(limit):
            yield
    except (ResourceExistsError, ResourceModifiedError, ResourceNotFoundError):
        raise
    except AzureError as e:
        raise StorageUnavailable(f"{service}: {type(e).__name__}: {e.message}") from None
    except TimeoutError:
        raise StorageUnavailable(f"{service}: no response within {limit:.2g} s") from None
