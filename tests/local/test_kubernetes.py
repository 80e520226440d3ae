"""What the stand-in for API servers can do beside the contract that it shares with the real one."""

import contextlib
import ssl
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import aiohttp
import pytest

from local.azure.entra import AKS, Entra
from local.clock import Clock
from local.kubernetes import ApiServer
from local.serving import Fault, Faults, Journal
from tests.contract.cluster import connected
from tests.contract.conversation import Caller, pull_secret

REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
SECRETS = "/api/v1/namespaces/default/secrets"


@contextlib.asynccontextmanager
async def running(server: ApiServer, entra: Entra) -> AsyncIterator[Caller]:
    """The administrator of a server that runs meanwhile."""
    await server.start()
    async with connected(server, entra) as cluster:
        yield cluster.admin
    await server.stop()


@pytest.fixture(scope="module")
def entra() -> Entra:
    return Entra(Clock())


@pytest.fixture
async def admin(entra: Entra) -> AsyncIterator[Caller]:
    async with running(ApiServer("one", entra, Clock()), entra) as caller:
        yield caller


async def test_a_server_that_is_stopped_is_unreachable_and_keeps_its_objects(entra: Entra) -> None:
    server = ApiServer("one", entra, Clock())
    await server.start()
    url = server.url
    async with connected(server, entra) as cluster:
        created = await cluster.admin.apply(f"{SECRETS}/ar-pull-secret", pull_secret())
        await server.stop()
        with pytest.raises(aiohttp.ClientConnectionError):
            await cluster.admin.get(SECRETS)
        await server.start()
        found = await cluster.admin.get(f"{SECRETS}/ar-pull-secret")
    await server.stop()

    assert server.url == url
    assert found.body == created.body


async def test_fifty_in_one_process_start_within_two_seconds_and_share_nothing(entra: Entra) -> None:
    began = time.process_time()
    servers = [ApiServer(f"cluster-{number}", entra, Clock()) for number in range(50)]
    for server in servers:
        await server.start()
    spent = time.process_time() - began

    async with (
        connected(servers[0], entra) as first,
        connected(servers[1], entra) as second,
    ):
        await first.admin.apply(f"{SECRETS}/ar-pull-secret", pull_secret())
        elsewhere = await second.admin.get(f"{SECRETS}/ar-pull-secret")
    for server in servers:
        await server.stop()

    assert elsewhere.status == 404
    assert len({server.ca_pem for server in servers}) == 50
    assert spent < 2


async def test_the_certificate_of_one_cluster_opens_no_other(entra: Entra, tmp_path: Path) -> None:
    one, other = ApiServer("one", entra, Clock()), ApiServer("other", entra, Clock())
    await one.start()
    pem = tmp_path / "admin.pem"
    pem.write_text(other.admin_key_pem + other.admin_cert_pem)
    tls = ssl.create_default_context(cadata=one.ca_pem)
    tls.load_cert_chain(pem)
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientError):
            await session.get(f"{one.url}/api/v1/namespaces", ssl=tls)
    await one.stop()


async def test_a_token_expires_by_the_shared_clock(entra: Entra) -> None:
    clock = Clock()
    entra = Entra(clock)
    identity = entra.add_identity("app")
    server = ApiServer("one", entra, clock)
    await server.start()
    async with connected(server, entra) as cluster:
        caller = cluster.bearer(entra.token(identity, AKS, lifetime=timedelta(hours=1)))
        before = await caller.post(REVIEWS, {"spec": {"resourceAttributes": {"verb": "get"}}})
        clock.advance(timedelta(minutes=61))
        after = await caller.post(REVIEWS, {"spec": {"resourceAttributes": {"verb": "get"}}})
    await server.stop()

    assert (before.status, after.status) == (201, 401)


async def test_faults_come_before_the_server_and_the_journal_sees_them(entra: Entra) -> None:
    journal, faults = Journal(), Faults()
    server = ApiServer("one", entra, Clock(), middlewares=[journal.middleware, faults.middleware])
    async with running(server, entra) as admin:
        faults.add(Fault(path="/secrets", method="PATCH", status=503, body="{}", times=1))
        failed = await admin.apply(f"{SECRETS}/ar-pull-secret", pull_secret())
        worked = await admin.apply(f"{SECRETS}/ar-pull-secret", pull_secret())

    assert (failed.status, worked.status) == (503, 201)
    assert [seen.status for seen in journal.requests] == [503, 201]
    assert journal.count("PATCH", "/secrets/ar-pull-secret$") == 2


async def test_a_thousand_rotations_keep_the_uid_and_are_quick(admin: Caller) -> None:
    path = f"{SECRETS}/ar-pull-secret"
    uids = set()
    began = time.process_time()
    for number in range(1000):
        uids.add((await admin.apply(path, pull_secret(token=str(number)))).uid)
    spent = time.process_time() - began

    assert len(uids) == 1
    assert spent < 10
