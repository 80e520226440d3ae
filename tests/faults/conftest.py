"""Faults make everybody wait before trying again; here nobody does, and the tries stay as many as they are."""

from collections.abc import Iterator

import pytest
import stamina
from azure.core.pipeline.transport import AsyncHttpTransport


@pytest.fixture(autouse=True)
def azure_waits(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """The seconds that Azure's SDKs would have waited between tries."""
    waits: list[float] = []

    async def at_once(_: object, seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr(AsyncHttpTransport, "sleep", at_once)
    with stamina.set_testing(True, attempts=3, cap=True):
        yield waits
