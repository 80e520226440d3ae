"""Both token chains, from a service account's token to a secret that pulls, on a real API server."""

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
    """Google trusts the tenant, and the managed identity is the subject."""
    await place.onboard("entra")
    exchanges = place.site.cloud.assertions.exchanges
    ended = await place.run()

    assert ended.code == 0, ended.output
    assert ended.output.startswith(f"pullkeeper: {place.namespace}/ar-pull-secret is valid until ")
    assert ended.output.count("\n") == 1
    assert await place.can_pull()
    assert exchanges + 1 == place.site.cloud.assertions.exchanges


async def test_the_kubernetes_chain_makes_a_secret_that_pulls(place: Place) -> None:
    """The projected token is sent to Google; Entra is not called."""
    await place.trust_cluster()
    await place.onboard("kubernetes")
    exchanges = place.site.cloud.assertions.exchanges
    ended = await place.run()

    assert ended.code == 0, ended.output
    assert await place.can_pull()
    assert exchanges == place.site.cloud.assertions.exchanges


@pytest.mark.parametrize("chain", ["entra", "kubernetes"])
async def test_a_hub_without_a_service_account_uses_the_federated_token(place: Place, chain: str) -> None:
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

    assert ended.code == 0, ended.output
    assert await place.can_pull()


async def test_a_second_run_updates_the_secret_in_place(place: Place) -> None:
    await place.onboard()
    assert (await place.run()).code == 0
    first = await place.secret()
    assert (await place.run()).code == 0
    second = await place.secret()

    assert first["metadata"]["uid"] == second["metadata"]["uid"]
    assert first["data"] != second["data"]


async def test_a_deleted_secret_is_created_again(place: Place) -> None:
    await place.onboard()
    assert (await place.run()).code == 0
    await place.admin.delete(f"/api/v1/namespaces/{place.namespace}/secrets/ar-pull-secret")
    ended = await place.run()

    assert ended.code == 0, ended.output
    assert await place.can_pull()


async def test_the_secret_equals_the_central_refreshers(place: Place) -> None:
    """The same bytes under the same field manager."""
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


async def _create_foreign_secret(place: Place) -> str:
    """Create the secret as kubectl would. Returns its uid."""
    secret = {
        "metadata": {"name": "ar-pull-secret"},
        "type": "kubernetes.io/dockerconfigjson",
        "data": {".dockerconfigjson": base64.b64encode(b'{"auths":{}}').decode()},
    }
    path = f"/api/v1/namespaces/{place.namespace}/secrets"
    created = await place.admin.post(path, secret, fieldManager="kubectl-create")
    assert created.status == 201
    return created.uid


async def test_a_secret_of_another_owner_is_not_changed(place: Place) -> None:
    await _create_foreign_secret(place)
    before = await place.secret()
    await place.onboard()
    ended = await place.run()

    assert ended.code == 2
    assert ended.output.startswith("pullkeeper: kubernetes: HTTP 409: ")
    assert 'conflict with "kubectl-create"' in ended.output
    assert before == await place.secret()


async def test_a_secret_of_another_owner_is_adopted_in_place_on_request(place: Place) -> None:
    uid = await _create_foreign_secret(place)
    await place.onboard(adopt=True)
    ended = await place.run()

    assert ended.code == 0, ended.output
    assert uid == (await place.secret())["metadata"]["uid"]
    assert await place.can_pull()


async def test_a_manual_edit_is_taken_back(place: Place) -> None:
    await place.onboard()
    await place.run()
    edit = {"data": {".dockerconfigjson": base64.b64encode(b'{"auths":{}}').decode()}}
    path = f"/api/v1/namespaces/{place.namespace}/secrets/ar-pull-secret"
    merge = "application/merge-patch+json"
    edited = await place.admin.send("PATCH", path, edit, content_type=merge, fieldManager="kubectl-edit")
    ended = await place.run()

    assert edited.status == 200
    assert ended.code == 0, ended.output
    assert await place.can_pull()


@pytest.mark.parametrize("hop", ["entra", "google sts", "google iam"])
async def test_a_temporary_failure_is_retried(place: Place, hop: str) -> None:
    path = {"entra": "oauth2/v2.0/token", "google sts": "/v1/token", "google iam": "generateAccessToken"}[hop]
    faults = place.site.entra_faults if hop == "entra" else place.site.cloud.google_part.faults
    faults.add(Fault(path=path, status=503, body="busy", content_type="text/plain", times=1))
    await place.onboard()
    ended = await place.run()

    assert faults.have_fired
    assert ended.code == 0, ended.output


@pytest.mark.parametrize("status", [302, 429, 503])
async def test_a_registry_that_is_down_does_not_keep_the_secret_from_being_written(place: Place, status: int) -> None:
    place.site.cloud.registry_parts[0].faults.add(Fault(path="/v2/token", status=status, body="busy"))
    await place.onboard()
    ended = await place.run()

    assert ended.code == 0, ended.output
    assert ended.output.startswith(f"pullkeeper: registry: HTTP {status}: busy; the secret is written all the same\n")


async def test_the_kubernetes_chain_uses_the_hubs_audience(place: Place) -> None:
    """With an audience of its own, Entra does not accept the job's tokens as assertions."""
    place.hub = replace(place.hub, document={**place.hub.document, "entraResource": "api://pull"})
    await place.trust_cluster()
    await place.onboard("kubernetes")
    ended = await place.run()

    assert ended.code == 0, ended.output
    assert EXCHANGE not in json.dumps(place.job)


async def test_a_deleted_probe_image_is_reported_and_the_secret_written(place: Place) -> None:
    """The registry has granted the pull: a publisher's clean-up must not let the secret expire."""
    place.site.cloud.registries[0].remove_image(place.hub.image)
    await place.onboard()
    ended = await place.run()

    assert ended.code == 0, ended.output
    warning, written = ended.output.splitlines()
    assert warning == "pullkeeper: registry manifest: HTTP 404: Not Found; the secret is written all the same"
    assert " is valid until " in written
    assert (await place.secret())["data"]
