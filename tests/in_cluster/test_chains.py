"""Both ways from a service account's token to an image that pulls, on a real API server."""

import base64
import json
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from local.azure.entra import EXCHANGE
from local.serving import Fault
from pullkeeper.cluster.pull_secret import _manifest
from pullkeeper.tokens import Token
from tests.in_cluster.conftest import Place

pytestmark = pytest.mark.real


async def test_the_entra_chain_makes_a_secret_that_pulls(place: Place) -> None:
    """The guide's own intent: Google trusts the tenant, and the managed identity is the subject."""
    await place.onboard("entra")
    exchanges = place.site.cloud.assertions.exchanges
    ended = await place.run()

    assert ended.code == 0, ended.said
    assert ended.said.startswith(f"pullkeeper: {place.namespace}/ar-pull-secret is good until ")
    assert ended.said.count("\n") == 1
    assert await place.pulls()
    assert exchanges + 1 == place.site.cloud.assertions.exchanges


async def test_the_kubernetes_chain_makes_a_secret_that_pulls(place: Place) -> None:
    """What the guide's own job does: the projected token goes to Google as it is. Entra is not asked."""
    await place.trust_cluster()
    await place.onboard("kubernetes")
    exchanges = place.site.cloud.assertions.exchanges
    ended = await place.run()

    assert ended.code == 0, ended.said
    assert await place.pulls()
    assert exchanges == place.site.cloud.assertions.exchanges


@pytest.mark.parametrize("chain", ["entra", "kubernetes"])
async def test_a_hub_without_a_service_account_takes_the_federated_token(place: Place, chain: str) -> None:
    place.hub = place.site.cloud.add_hub(f"fed-{place.namespace[-8:]}", impersonate=False)
    subject = place.identity.principal_id
    if chain == "kubernetes":
        await place.trust_cluster()
        subject = place.subject
    place.allow(subject)
    principal = f"principal://iam.googleapis.com/{place.hub.provider.pool}/subject/{subject}"
    place.site.cloud.registries[0].grant(place.hub.image.rpartition("/")[0], principal)
    await place.onboard("entra" if chain == "entra" else "kubernetes")
    ended = await place.run()

    assert ended.code == 0, ended.said
    assert await place.pulls()


async def test_a_second_run_writes_in_place(place: Place) -> None:
    await place.onboard()
    assert (await place.run()).code == 0
    first = await place.secret()
    assert (await place.run()).code == 0
    second = await place.secret()

    assert first["metadata"]["uid"] == second["metadata"]["uid"]
    assert first["data"] != second["data"]


async def test_a_deleted_secret_heals(place: Place) -> None:
    await place.onboard()
    assert (await place.run()).code == 0
    await place.human.delete(f"/api/v1/namespaces/{place.namespace}/secrets/ar-pull-secret")
    ended = await place.run()

    assert ended.code == 0, ended.said
    assert await place.pulls()


async def test_it_writes_what_the_central_refresher_writes(place: Place) -> None:
    """Byte for byte, under the same field manager: the look without reading cannot tell them apart."""
    await place.onboard()
    await place.run()
    found = await place.secret()
    [owner] = found["metadata"]["managedFields"]
    content = json.loads(base64.b64decode(found["data"][".dockerconfigjson"]))
    issued, expires = (
        datetime.fromisoformat(found["metadata"]["annotations"][f"pullkeeper.dev/{name}"])
        for name in ("issued-at", "expires-at")
    )
    [entry] = content["auths"].values()
    central = _manifest(place.target, place.parsed_hub, Token(entry["password"], issued, expires))

    assert (owner["manager"], owner["operation"]) == ("pullkeeper", "Apply")
    assert central["data"] == found["data"]
    assert central["type"] == found["type"]
    for name in ("labels", "annotations"):
        assert central["metadata"][name] == found["metadata"][name]
    assert timedelta(minutes=59) < expires - issued <= timedelta(hours=1)


async def test_a_foreign_secret_is_left_alone(place: Place) -> None:
    secrets = f"/api/v1/namespaces/{place.namespace}/secrets"
    theirs = {
        "metadata": {"name": "ar-pull-secret"},
        "type": "kubernetes.io/dockerconfigjson",
        "data": {".dockerconfigjson": base64.b64encode(b'{"auths":{}}').decode()},
    }
    await place.human.post(secrets, theirs, fieldManager="kubectl-create")
    before = await place.secret()
    await place.onboard()
    ended = await place.run()

    assert ended.code == 2
    assert ended.said.startswith("pullkeeper: kubernetes: HTTP 409: ")
    assert 'conflict with "kubectl-create"' in ended.said
    assert before == await place.secret()


async def test_a_foreign_secret_is_adopted_in_place_when_asked(place: Place) -> None:
    secrets = f"/api/v1/namespaces/{place.namespace}/secrets"
    theirs = {
        "metadata": {"name": "ar-pull-secret"},
        "type": "kubernetes.io/dockerconfigjson",
        "data": {".dockerconfigjson": base64.b64encode(b'{"auths":{}}').decode()},
    }
    uid = (await place.human.post(secrets, theirs, fieldManager="kubectl-create")).uid
    await place.onboard(adopt=True)
    ended = await place.run()

    assert ended.code == 0, ended.said
    assert uid == (await place.secret())["metadata"]["uid"]
    assert await place.pulls()


async def test_a_humans_edit_is_taken_back(place: Place) -> None:
    await place.onboard()
    await place.run()
    edit = {"data": {".dockerconfigjson": base64.b64encode(b'{"auths":{}}').decode()}}
    path = f"/api/v1/namespaces/{place.namespace}/secrets/ar-pull-secret"
    merge = "application/merge-patch+json"
    edited = await place.human.send("PATCH", path, edit, content_type=merge, fieldManager="kubectl-edit")
    ended = await place.run()

    assert edited.status == 200
    assert ended.code == 0, ended.said
    assert await place.pulls()


@pytest.mark.parametrize("hop", ["entra", "google sts", "google iam"])
async def test_what_passes_is_tried_again(place: Place, hop: str) -> None:
    path = {"entra": "oauth2/v2.0/token", "google sts": "/v1/token", "google iam": "generateAccessToken"}[hop]
    faults = place.site.entra_faults if hop == "entra" else place.site.cloud.google_part.faults
    faults.add(Fault(path=path, status=503, body="busy", content_type="text/plain", times=1))
    await place.onboard()
    ended = await place.run()

    assert faults.have_fired
    assert ended.code == 0, ended.said


@pytest.mark.parametrize("status", [302, 429, 503])
async def test_a_registry_that_neither_takes_nor_refuses_delays_nothing(place: Place, status: int) -> None:
    place.site.cloud.registry_parts[0].faults.add(Fault(path="/v2/token", status=status, body="busy"))
    await place.onboard()
    ended = await place.run()

    assert ended.code == 0, ended.said
    assert ended.said.startswith(f"pullkeeper: registry: HTTP {status}: busy; written all the same\n")


async def test_the_audience_in_the_kubernetes_chain_is_what_the_provider_allows(place: Place) -> None:
    """An audience of its own keeps the job's tokens from being assertions that Entra accepts, too."""
    place.hub = replace(place.hub, document={**place.hub.document, "entraResource": "api://pull"})
    await place.trust_cluster()
    await place.onboard("kubernetes")
    ended = await place.run()

    assert ended.code == 0, ended.said
    assert EXCHANGE not in json.dumps(place.job)
