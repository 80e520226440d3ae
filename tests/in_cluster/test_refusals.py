"""Every hop can refuse. The job then ends with a code that is not 0 and one line that says which hop and why."""

import json
import re
from datetime import timedelta

import pytest

from local.serving import Fault
from tests.contract.conversation import until
from tests.in_cluster.conftest import Place
from tests.in_cluster.kubelet import Ended

pytestmark = pytest.mark.real


def one_line(ended: Ended) -> str:
    """What it said, which must be one line."""
    assert ended.said.count("\n") == 1, ended.said
    return ended.said.removesuffix("\n").removeprefix("pullkeeper: ")


async def refused(place: Place) -> str:
    """A run that somebody has to do something about, and that has written nothing."""
    ended = await place.run()
    assert ended.code == 2, ended.said
    assert (await place.secret())["code"] == 404
    return one_line(ended)


@pytest.mark.parametrize(
    ("change", "code", "told"),
    [
        ({"subject": "system:serviceaccount:other:deepintshield-sa"}, 700213, "assertion subject 'system:service"),
        ({"audience": "api://other"}, 700212, "assertion audience 'api://AzureADTokenExchange'"),
        ({"issuer": "https://other.example/"}, 700211, "assertion issuer 'https://127.0.0.1"),
    ],
)
async def test_a_federated_credential_that_does_not_fit(
    place: Place, change: dict[str, str], code: int, told: str
) -> None:
    place.federate(**change)
    await place.onboard()
    said = await refused(place)

    assert said.startswith(f"entra: HTTP 401: AADSTS{code}: No matching federated identity record found")
    assert told in said


async def test_an_issuer_with_a_slash_too_many(place: Place) -> None:
    place.federate(issuer=f"{place.site.cluster.url}/")
    await place.onboard()

    assert "AADSTS700211" in await refused(place)


async def test_the_guides_own_mistake(place: Place) -> None:
    """The cluster's token for a provider that trusts the tenant: what the guide's job would have met."""
    await place.onboard("kubernetes")
    said = await refused(place)

    issuer = re.escape(place.site.cluster.url)
    expected = re.escape(place.hub.provider.issuer)
    assert re.fullmatch(
        f"google sts: HTTP 400: The issuer in ID Token {issuer} does not match the expected one in config: {expected}",
        said,
    )


async def test_a_provider_that_does_not_take_the_audience(place: Place) -> None:
    await place.trust_cluster()
    place.hub.provider.allowed_audiences = frozenset({"api://other"})
    await place.onboard("kubernetes")

    assert await refused(place) == (
        "google sts: HTTP 400: The audience in ID Token [api://AzureADTokenExchange] does not match the expected "
        "audience."
    )


async def test_a_provider_that_takes_another_identity(place: Place) -> None:
    place.allow("somebody-else")
    await place.onboard()

    assert await refused(place) == (
        "google sts: HTTP 400: The given credential is rejected by the attribute condition."
    )


async def test_a_service_account_that_it_may_not_impersonate(place: Place) -> None:
    place.site.cloud.google.add_service_account(place.hub.service_account)
    await place.onboard()

    assert await refused(place) == (
        "google iam: HTTP 403: Permission 'iam.serviceAccounts.getAccessToken' denied on resource (or it may not "
        "exist)."
    )


async def test_a_token_that_opens_nothing_is_not_written(place: Place) -> None:
    repository = place.hub.image.rpartition("/")[0]
    place.site.cloud.registries[0].revoke(repository, f"serviceAccount:{place.hub.service_account}")
    await place.onboard()

    assert (await refused(place)).startswith(
        'registry: HTTP 403: Permission "artifactregistry.repositories.downloadArtifacts" denied'
    )


async def test_a_role_that_is_gone(place: Place) -> None:
    await place.onboard()
    name = place.job["metadata"]["name"]
    rbac = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{place.namespace}/rolebindings/{name}"
    await place.human.delete(rbac)
    workload = await place.workload()
    path = f"/api/v1/namespaces/{place.namespace}/secrets/ar-pull-secret"
    bare = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "ar-pull-secret"}}
    await until(lambda: workload.apply(path, bare, dryRun="All"), lambda answer: answer.status == 403)
    said = await refused(place)

    assert said.startswith("kubernetes: HTTP 403: ")
    assert f'User "{place.subject}" cannot patch resource "secrets"' in said


async def test_a_service_that_stays_away(place: Place) -> None:
    """It gives up before the pod is stopped, and says that another try may help."""
    place.site.entra_faults.add(Fault(path="oauth2/v2.0/token", status=503, body="busy", content_type="text/plain"))
    await place.onboard()
    await _have_little_patience(place)
    ended = await place.run()

    assert ended.code == 1
    assert one_line(ended) == "entra: HTTP 503: busy"


async def test_a_service_that_hangs(place: Place) -> None:
    place.site.entra_faults.add(Fault(path="oauth2/v2.0/token", hang=True))
    await place.onboard()
    await _have_little_patience(place)
    ended = await place.run()

    assert ended.code == 1
    assert re.fullmatch(r"entra: 127\.0\.0\.1:\d+ gives no answer: TimeoutError", one_line(ended))


async def test_a_redirect_is_not_followed(place: Place) -> None:
    elsewhere = {"Location": f"{place.site.cluster.url}/token"}
    place.site.entra_faults.add(Fault(path="oauth2/v2.0/token", status=302, headers=elsewhere))
    await place.onboard()

    assert (await refused(place)).startswith("entra: HTTP 302")


async def test_a_token_that_somebody_echoes_is_not_said(place: Place) -> None:
    """Nobody knows what a service may say. `run` looks for tokens in every line."""
    body = json.dumps({"error": "x", "error_description": f"no: ya29.{'a' * 40} {_jwt()}"})
    place.site.entra_faults.add(Fault(path="oauth2/v2.0/token", status=400, body=body))
    await place.onboard()

    assert await refused(place) == "entra: HTTP 400: no: [redacted] [redacted]"


async def test_a_stranger_in_entras_place_gets_nothing(place: Place) -> None:
    """A certificate that nobody trusts is no reason to wait."""
    await place.onboard()
    place.site.cloud.trust_file.rename(place.root / "aside.pem")
    place.site.cloud.trust_file.write_text(place.site.server.ca_pem)
    try:
        said = await refused(place)
    finally:
        (place.root / "aside.pem").rename(place.site.cloud.trust_file)

    assert re.fullmatch(r"entra: 127\.0\.0\.1:\d+ gives no answer: SSLCertVerificationError", said)


def _jwt() -> str:
    return f"eyJ{'a' * 30}.eyJ{'b' * 30}.{'c' * 30}"


async def _have_little_patience(place: Place) -> None:
    patience = timedelta(seconds=3)
    path = f"/api/v1/namespaces/{place.namespace}/configmaps/{place.job['metadata']['name']}"
    settings = json.loads((await place.human.get(path)).body["data"]["settings.json"])
    settings["deadlineSeconds"] = patience.total_seconds()
    merge = {"data": {"settings.json": json.dumps(settings)}}
    changed = await place.human.send("PATCH", path, merge, content_type="application/merge-patch+json")
    assert changed.status == 200
