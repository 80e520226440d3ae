"""On a real API server, the job's role allows two verbs on one name."""

import pytest

from tests.contract.conversation import METADATA_ONLY, pull_secret
from tests.in_cluster.conftest import Place

pytestmark = pytest.mark.real


async def test_the_job_cannot_read_list_or_delete_secrets(place: Place) -> None:
    await place.onboard()
    await place.run()
    secrets = f"/api/v1/namespaces/{place.namespace}/secrets"
    workload = await place.workload()
    answers = {
        "get": await workload.get(f"{secrets}/ar-pull-secret"),
        "list": await workload.get(secrets),
        "watch": await workload.get(secrets, watch="true"),
        "delete": await workload.delete(f"{secrets}/ar-pull-secret"),
        "deletecollection": await workload.delete(secrets),
        "update": await workload.put(f"{secrets}/ar-pull-secret", pull_secret()),
        "post": await workload.post(secrets, pull_secret("made")),
    }

    assert dict.fromkeys(answers, 403) == {verb: answer.status for verb, answer in answers.items()}


async def test_the_job_can_write_its_own_secret_only(place: Place) -> None:
    await place.onboard()
    secrets = f"/api/v1/namespaces/{place.namespace}/secrets"
    workload = await place.workload()
    other = await workload.apply(f"{secrets}/other", pull_secret("other"), accept=METADATA_ONLY)
    own = await workload.apply(f"{secrets}/ar-pull-secret", pull_secret(), accept=METADATA_ONLY)

    assert other.status == 403
    assert own.status == 201


async def test_the_job_has_no_right_to_other_objects(place: Place) -> None:
    await place.onboard()
    workload = await place.workload()
    for path in ("configmaps", "serviceaccounts", "pods"):
        assert (await workload.get(f"/api/v1/namespaces/{place.namespace}/{path}")).status == 403
    assert (await workload.get("/api/v1/namespaces/default/secrets/ar-pull-secret")).status == 403
