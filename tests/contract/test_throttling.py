"""Too many requests."""

from local.azure.entra import Identity
from tests.contract.cluster import Cluster
from tests.contract.conversation import Caller, pull_secret


async def test_a_request_too_many_is_answered_in_plain_text(
    cluster: Cluster, identity: Identity, app: Caller, secrets: str
) -> None:
    async with cluster.throttled(cluster, identity):
        answer = await app.apply(f"{secrets}/ar-pull-secret", pull_secret())

    assert answer.status == 429
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["retry-after"] == "1"
    assert answer.text == "Too many requests, please try again later.\n"
