"""An unexpected exception is reported by its type and place, without its text."""

import logging

import pytest

from functions.invocation import trigger
from pullkeeper.errors import InternalError, StorageUnavailable

# The log shows the line that raises, so the text must not stand in it as a whole.
_DASH = "-"


async def test_an_unexpected_exception_is_raised_without_its_text(caplog: pytest.LogCaptureFixture) -> None:
    async def broken(_: object) -> None:
        raise ValueError(f"ya29{_DASH}quoted")

    with caplog.at_level(logging.INFO), pytest.raises(InternalError, match=r"^internal: ValueError$") as raised:
        await trigger(broken)("message")
    assert raised.value.__context__ is None, "a suppressed context could still be logged"
    assert "ya29-quoted" not in caplog.text
    assert "broken failed: ValueError" in caplog.text
    assert "test_invocation.py" in caplog.text


async def test_a_known_failure_is_raised_as_it_is() -> None:
    failure = StorageUnavailable("queues: down")

    async def failing(_: object) -> None:
        raise failure

    with pytest.raises(StorageUnavailable) as raised:
        await trigger(failing)("message")
    assert raised.value is failure
