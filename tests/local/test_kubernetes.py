"""What the stand-in for API servers can do beside the contract that it shares with the real one."""

import asyncio
import contextlib
import json
import re
import ssl
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import aiohttp
import pytest

from local.azure.entra import AKS, Entra, Identity
from local.clock import Clock
from local.kubernetes import ApiServer
from local.serving import Fault, Faults, Journal
from tests.contract.cluster import Cluster, connected
from tests.contract.conversation import Caller, Json, pull_secret

SECRETS = "/api/v1/namespaces/default/secrets"


@contextlib.asynccontextmanager
async def _unthrottled(_cluster: Cluster, _identity: Identity) -> AsyncIterator[None]:
    yield


@contextlib.asynccontextmanager
async def running(server: ApiServer, entra: Entra) -> AsyncIterator[Caller]:
    """The human at a server that runs meanwhile."""
    await server.start()
    async with connected(server, entra, _unthrottled) as cluster:
        yield cluster.human
    await server.stop()


@pytest.fixture(scope="module")
def entra() -> Entra:
    return Entra(Clock())


@pytest.fixture
async def human(entra: Entra) -> AsyncIterator[Caller]:
    async with running(ApiServer("one", entra, Clock()), entra) as caller:
        yield caller


async def test_stopped_is_unreachable_and_started_again_it_has_kept_everything(entra: Entra) -> None:
    server = ApiServer("one", entra, Clock())
    await server.start()
    url = server.url
    async with connected(server, entra, _unthrottled) as cluster:
        created = await cluster.human.apply(f"{SECRETS}/ar-pull-secret", pull_secret())
        await server.stop()
        with pytest.raises(aiohttp.ClientConnectionError):
            await cluster.human.get(SECRETS)
        await server.start()
        found = await cluster.human.get(f"{SECRETS}/ar-pull-secret")
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
        connected(servers[0], entra, _unthrottled) as first,
        connected(servers[1], entra, _unthrottled) as second,
    ):
        await first.human.apply(f"{SECRETS}/ar-pull-secret", pull_secret())
        elsewhere = await second.human.get(f"{SECRETS}/ar-pull-secret")
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


async def test_a_client_certificate_is_who_it_says(entra: Entra, tmp_path: Path) -> None:
    server = ApiServer("one", entra, Clock())
    await server.start()
    certificate, key = server.client_certificate("ann", "developers")
    pem = tmp_path / "ann.pem"
    pem.write_text(key + certificate)
    tls = ssl.create_default_context(cadata=server.ca_pem)
    tls.load_cert_chain(pem)
    async with aiohttp.ClientSession() as session:
        path = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
        async with session.post(server.url + path, json={}, ssl=tls) as answer:
            review = await answer.json()
    await server.stop()

    assert review["status"]["userInfo"] == {"username": "ann", "groups": ["developers", "system:authenticated"]}


async def test_a_token_expires_by_the_shared_clock(entra: Entra) -> None:
    clock = Clock()
    entra = Entra(clock)
    identity = entra.add_identity("app")
    server = ApiServer("one", entra, clock)
    await server.start()
    async with connected(server, entra, _unthrottled) as cluster:
        caller = cluster.bearer(entra.token(identity, AKS, lifetime=timedelta(hours=1)))
        before = await caller.get("/version")
        clock.advance(timedelta(minutes=61))
        after = await caller.get("/version")
    await server.stop()

    assert (before.status, after.status) == (200, 401)


async def test_faults_come_before_the_server_and_the_journal_sees_them(entra: Entra) -> None:
    journal, faults = Journal(), Faults()
    server = ApiServer("one", entra, Clock(), middlewares=[journal.middleware, faults.middleware])
    async with running(server, entra) as human:
        faults.add(Fault(path="/secrets", method="PATCH", status=503, body="{}", times=1))
        failed = await human.apply(f"{SECRETS}/ar-pull-secret", pull_secret())
        worked = await human.apply(f"{SECRETS}/ar-pull-secret", pull_secret())

    assert (failed.status, worked.status) == (503, 201)
    assert [seen.status for seen in journal.requests] == [503, 201]
    assert journal.count("PATCH", "/secrets/ar-pull-secret$") == 2


async def test_throttled_requests_change_nothing(entra: Entra) -> None:
    server = ApiServer("one", entra, Clock())
    async with running(server, entra) as human:
        server.knobs.throttled = 2
        refused = [await human.apply(f"{SECRETS}/ar-pull-secret", pull_secret()) for _ in range(2)]
        found = await human.get(f"{SECRETS}/ar-pull-secret")

    assert [answer.status for answer in refused] == [429, 429]
    assert found.status == 404


async def test_a_watch_tells_what_happens(human: Caller) -> None:
    seen: list[tuple[str, str]] = []
    async with asyncio.timeout(10), human.session.get(f"{human.url}{SECRETS}?watch=true&labelSelector=a=b") as stream:
        await human.apply(f"{SECRETS}/one", pull_secret("one", labels={"a": "b"}))
        await human.apply(f"{SECRETS}/other", pull_secret("other"))
        await human.apply(f"{SECRETS}/one", pull_secret("one"))
        await human.apply(f"{SECRETS}/two", pull_secret("two", labels={"a": "b"}))
        await human.delete(f"{SECRETS}/two")
        while len(seen) < 4:
            event = json.loads(await stream.content.readline())
            seen.append((event["type"], event["object"]["metadata"]["name"]))

    assert seen == [("ADDED", "one"), ("DELETED", "one"), ("ADDED", "two"), ("DELETED", "two")]


async def test_a_watch_of_a_moment_long_gone_says_so(human: Caller) -> None:
    for number in range(1100):
        await human.session.patch(
            f"{human.url}{SECRETS}/busy?fieldManager=a&force=true",
            json=pull_secret("busy", token=str(number)),
            headers={"Content-Type": "application/apply-patch+yaml"},
        )
    async with asyncio.timeout(10), human.session.get(f"{human.url}{SECRETS}?watch=true&resourceVersion=1") as stream:
        event = json.loads(await stream.content.readline())

    assert (event["type"], event["object"]["code"], event["object"]["reason"]) == ("ERROR", 410, "Expired")


REGISTRATION = "/apis/admissionregistration.k8s.io/v1"
RULE = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["secrets"]}
POLICY = {
    "matchConstraints": {"resourceRules": [RULE]},
    "validations": [{"expression": "object.spec.items.all(x, x > 1)"}],
}
WEBHOOK = {
    "name": "gate.example.com",
    "clientConfig": {"service": {"name": "gate", "namespace": "default"}},
    "rules": [RULE],
    "sideEffects": "None",
    "admissionReviewVersions": ["v1"],
}


@pytest.mark.parametrize(
    ("path", "content", "what"),
    [
        (
            "/api/v1/namespaces/default/resourcequotas",
            {"spec": {"hard": {"requests.cpu": "4"}}},
            r"quotas but for numbers of objects \(requests.cpu\)",
        ),
        (
            f"{REGISTRATION}/validatingadmissionpolicies",
            {"spec": POLICY},
            r"admission policies with the expression all\(\)",
        ),
        (
            f"{REGISTRATION}/validatingwebhookconfigurations",
            {"webhooks": [WEBHOOK]},
            "webhooks behind a service",
        ),
    ],
)
async def test_a_rule_that_would_not_be_kept_is_not_stored(human: Caller, path: str, content: Json, what: str) -> None:
    """A stand-in that took a rule and passed over it would be laxer than the real server."""
    answer = await human.post(path, {"metadata": {"name": "rule"}, **content})
    listed = await human.get(path)

    assert answer.status == 501
    assert re.search(what, answer.body["message"])
    assert listed.body["items"] == []


async def test_two_writers_at_once_lose_nothing(human: Caller) -> None:
    """Each of them changes a label of its own; a webhook or not, both are there in the end."""
    path = f"{SECRETS}/shared"
    await human.apply(path, pull_secret("shared"))
    patches = [
        human.send(
            "PATCH", path, {"metadata": {"labels": {f"l{number}": "x"}}}, content_type="application/merge-patch+json"
        )
        for number in range(20)
    ]
    answers = await asyncio.gather(*patches)
    found = await human.get(path)

    assert {answer.status for answer in answers} == {200}
    assert found.body["metadata"]["labels"] == {f"l{number}": "x" for number in range(20)}


async def test_a_thousand_rotations_keep_the_uid_and_are_quick(human: Caller) -> None:
    path = f"{SECRETS}/ar-pull-secret"
    uids = set()
    began = time.process_time()
    for number in range(1000):
        uids.add((await human.apply(path, pull_secret(token=str(number)))).uid)
    spent = time.process_time() - began

    assert len(uids) == 1
    assert spent < 10
