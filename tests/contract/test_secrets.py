"""What a secret may contain."""

import base64

import pytest

from tests.contract.conversation import Caller, bare, pull_secret


@pytest.mark.parametrize("content", ["{}", '{"auths":[]}'])
async def test_any_json_object_passes_for_a_pull_secret(admin: Caller, secrets: str, content: str) -> None:
    """The server does not look further: only we can keep an empty pull secret from being written."""
    data = {".dockerconfigjson": base64.b64encode(content.encode()).decode()}
    answer = await admin.apply(f"{secrets}/ar-pull-secret", pull_secret() | {"data": data})

    assert answer.status == 201


async def test_a_secret_holds_one_mebibyte(admin: Caller, secrets: str) -> None:
    fits = base64.b64encode(b"x" * 1024 * 1024).decode()
    answer = await admin.apply(f"{secrets}/large", bare("large") | {"data": {"x": fits}})

    assert answer.status == 201
