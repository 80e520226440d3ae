"""What admission does besides refusing, on a real server."""

import pytest

from local.azure.entra import Identity
from tests.contract.cases import Stage, quota, webhook, when_refused
from tests.contract.cluster import Cluster
from tests.contract.conversation import Json, auths, pull_secret

pytestmark = pytest.mark.real


async def test_a_full_quota_does_not_hinder_an_update(real: Cluster, identity: Identity) -> None:
    stage = Stage(real, identity, await real.namespace(), None)
    await stage.admin.apply(f"{stage.secrets}/kept", pull_secret("kept", token="one"))
    await quota(stage)
    answer = await stage.admin.apply(f"{stage.secrets}/kept", pull_secret("kept", token="two"))

    assert answer.status == 200
    assert answer.body["data"] == {".dockerconfigjson": auths("two")}


async def test_a_webhook_is_shown_the_whole_secret(real: Cluster, identity: Identity) -> None:
    """So an owner of an admission webhook on secrets has the token."""
    stage = Stage(real, identity, await real.namespace(), None)
    asked: list[Json] = []
    async with webhook(stage, {"allowed": False}, asked):
        await when_refused(stage)

    assert (asked[-1]["operation"], asked[-1]["dryRun"]) == ("CREATE", True)
    assert asked[-1]["object"]["data"] == {".dockerconfigjson": auths("one")}
