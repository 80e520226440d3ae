"""The runbook's commands that write, taken from its pages and typed into a real cluster."""

import base64
import json
from datetime import UTC, datetime, timedelta

import pytest

from pullkeeper import errors
from pullkeeper.cluster import pull_secret
from pullkeeper.model import Target
from pullkeeper.tokens import Token
from tests.core.publisher import parsed_hub
from tests.docs.conftest import STOP_GAP_TOKEN, Terminal
from tests.docs.pages import RUNBOOK, blocks

pytestmark = [pytest.mark.real, pytest.mark.servers, pytest.mark.asyncio(loop_scope="module")]
TARGET = Target()


def commands(page: str, *containing: str) -> str:
    """The one shell block of a runbook page with all these words."""
    (found,) = (
        block.text
        for block in blocks("bash")
        if block.page == RUNBOOK / f"{page}.md" and all(word in block.text for word in containing)
    )
    return found


async def write(terminal: Terminal) -> pull_secret.Written:
    """As Pullkeeper does it, never having seen the secret."""
    now = datetime.now(UTC)
    token = Token("ya29.from-pullkeeper", now, now + timedelta(hours=1))
    async with terminal.pullkeeper() as api:
        return await pull_secret.write(api, TARGET, parsed_hub(), token, known_uid=None, adopt=False)


async def password(terminal: Terminal) -> str:
    printed = await terminal.type('kubectl get secret "$SECRET" -n "$NAMESPACE" -o json')
    config = json.loads(base64.b64decode(json.loads(printed)["data"][".dockerconfigjson"]))
    return str(config["auths"]["europe-docker.pkg.dev"]["password"])


@pytest.fixture
async def namespace(terminal: Terminal) -> None:
    """With nothing of earlier tests in it."""
    await terminal.type(
        'kubectl get namespace "$NAMESPACE" || kubectl create namespace "$NAMESPACE"\n'
        'kubectl delete secret,role,rolebinding,quota,cronjob --all -n "$NAMESPACE"'
    )


@pytest.mark.usefixtures("namespace")
async def test_role_and_binding_made_by_hand_are_all_that_pullkeeper_needs(terminal: Terminal) -> None:
    with pytest.raises(errors.ClusterRbacDenied):
        await write(terminal)
    await terminal.type(commands("cluster_rbac_denied", "kubectl create role"))
    printed = await terminal.type(commands("cluster_rbac_denied", "can-i"))
    assert printed.split().count("yes") == 2
    assert (await write(terminal)).created


@pytest.mark.usefixtures("namespace")
async def test_a_secret_written_by_hand_is_taken_over_in_place_and_without_a_conflict(terminal: Terminal) -> None:
    await terminal.type(commands("cluster_rbac_denied", "kubectl create role"))
    await terminal.type(commands("README", "gcloud auth print-access-token"))
    assert await password(terminal) == STOP_GAP_TOKEN
    written = await write(terminal)
    assert (written.created, written.drift) == (False, None)
    assert await password(terminal) == "ya29.from-pullkeeper"


@pytest.mark.usefixtures("namespace")
async def test_a_secret_that_pullkeeper_keeps_can_be_overwritten_by_hand(terminal: Terminal) -> None:
    await terminal.type(commands("cluster_rbac_denied", "kubectl create role"))
    uid = (await write(terminal)).uid
    await terminal.type(commands("README", "gcloud auth print-access-token"))
    assert await password(terminal) == STOP_GAP_TOKEN
    assert (await write(terminal)).uid == uid
    expiry = await terminal.type(commands("README", "expires-at"))
    assert datetime.fromisoformat(expiry.strip()) > datetime.now(UTC)


@pytest.mark.usefixtures("namespace")
async def test_the_way_out_of_each_refusal_works(terminal: Terminal) -> None:
    """Quota, a second writer, a foreign type: what their pages have the operator type."""
    await terminal.type(commands("cluster_rbac_denied", "kubectl create role"))
    await terminal.type('kubectl create quota default -n "$NAMESPACE" --hard=secrets=0')
    await terminal.type(commands("quota_exceeded", "describe"))
    await terminal.type(commands("quota_exceeded", "patch"))
    await terminal.type('kubectl create cronjob refresh-ar-secret -n "$NAMESPACE" --image=x --schedule="*/30 * * * *"')
    await terminal.type(commands("secret_conflict", "suspend"))
    await terminal.type('kubectl create secret generic "$SECRET" -n "$NAMESPACE" --from-literal=a=b')
    with pytest.raises(errors.SecretConflict):
        await write(terminal)
    printed = await terminal.type(commands("secret_conflict", "--show-managed-fields"))
    assert "manager: kubectl-create" in printed
    await terminal.type(commands("secret_immutable", "kubectl delete").split("curl", 1)[0])
    assert (await write(terminal)).created
