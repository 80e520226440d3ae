"""The pod of the job in the cluster, and a netrc."""

from pathlib import Path

import pytest

from tests.core.pod import pod  # noqa: F401 - a fixture


@pytest.fixture
def netrc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A password for every host, which a client could send in the place of a token."""
    passwords = tmp_path / "netrc"
    passwords.write_text("default login someone password canary-of-netrc", encoding="utf-8")
    monkeypatch.setenv("NETRC", str(passwords))
