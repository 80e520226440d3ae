"""What nobody expected says its type and where, and nothing of its text."""

import logging

import pytest

from functions.unexpected import guarded
from pullkeeper.errors import InternalError, StorageUnavailable

# Not written in one piece: the log shows the line that raises.
_DASH = "-"


async def test_a_triggers_exception_leaves_its_text_behind(caplog: pytest.LogCaptureFixture) -> None:
    async def broken(_: object) -> None:
        raise ValueError(f"ya29{_DASH}quoted")

    with caplog.at_level(logging.INFO), pytest.raises(InternalError, match=r"^internal: ValueError$") as raised:
        await guarded(broken)("message")
    assert raised.value.__context__ is None, "not even suppressed: somebody could log it"
    assert "ya29-quoted" not in caplog.text
    assert "broken failed: ValueError" in caplog.text
    assert "test_unexpected.py" in caplog.text


async def test_a_failure_that_is_known_passes_as_it_is() -> None:
    failure = StorageUnavailable("queues: down")

    async def failing(_: object) -> None:
        raise failure

    with pytest.raises(StorageUnavailable) as raised:
        await guarded(failing)("message")
    assert raised.value is failure
