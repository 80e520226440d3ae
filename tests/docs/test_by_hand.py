"""The runbook's commands that write, taken from its pages and run on a real cluster."""

import base64
import json
from datetime import UTC, datetime, timedelta

import pytest

from pullkeeper import errors
from pullkeeper.cluster import pull_secret
from pullkeeper.model import Target
from pullkeeper.tokens import Token
from tests.core.publisher import parsed_hub
from tests.docs.conftest import TOKEN_BY_HAND, Terminal
from tests.docs.pages import RUNBOOK, blocks

pytestmark = [pytest.mark.real, pytest.mark.servers, pytest.mark.asyncio(loop_scope="module")]
TARGET = Target()


def commands(page: str, *containing: str) -> str:
    """Return the one shell block of a runbook page that contains all these texts."""
    (found,) = (
        block.text
        for block in blocks("bash")
        if block.page == RUNBOOK / f"{page}.md" and all(word in block.text for word in containing)
    )
    return found


async def write(terminal: Terminal) -> pull_secret.WriteResult:
    """Write the secret as Pullkeeper does when it does not know the uid."""
    now = datetime.now(UTC)
    token = Token("ya29.from-pullkeeper", now, now + timedelta(hours=1))
    async with terminal.connect_as_app() as api:
        return await pull_secret.write(api, TARGET, parsed_hub(), token, known_uid=None, adopt=False)


async def read_password(terminal: Terminal) -> str:
    printed = await terminal.run('kubectl get secret "$SECRET" -n "$NAMESPACE" -o json')
    config = json.loads(base64.b64decode(json.loads(printed)["data"][".dockerconfigjson"]))
    return str(config["auths"]["europe-docker.pkg.dev"]["password"])


@pytest.fixture
async def namespace(terminal: Terminal) -> None:
    """An empty namespace."""
    await terminal.run(
        'kubectl get namespace "$NAMESPACE" || kubectl create namespace "$NAMESPACE"\n'
        'kubectl delete secret,role,rolebinding,quota,cronjob --all -n "$NAMESPACE"'
    )


@pytest.mark.usefixtures("namespace")
async def test_role_and_binding_by_hand_are_all_that_pullkeeper_needs(terminal: Terminal) -> None:
    with pytest.raises(errors.ClusterRbacDenied):
        await write(terminal)
    await terminal.run(commands("cluster_rbac_denied", "kubectl create role"))
    printed = await terminal.run(commands("cluster_rbac_denied", "can-i"))
    assert printed.split().count("yes") == 2
    assert (await write(terminal)).created


@pytest.mark.usefixtures("namespace")
async def test_pullkeeper_takes_over_a_secret_written_by_hand_without_a_conflict(terminal: Terminal) -> None:
    await terminal.run(commands("cluster_rbac_denied", "kubectl create role"))
    await terminal.run(commands("README", "gcloud auth print-access-token"))
    assert await read_password(terminal) == TOKEN_BY_HAND
    written = await write(terminal)
    assert (written.created, written.drift) == (False, None)
    assert await read_password(terminal) == "ya29.from-pullkeeper"


@pytest.mark.usefixtures("namespace")
async def test_a_secret_of_pullkeeper_can_be_overwritten_by_hand(terminal: Terminal) -> None:
    await terminal.run(commands("cluster_rbac_denied", "kubectl create role"))
    uid = (await write(terminal)).uid
    await terminal.run(commands("README", "gcloud auth print-access-token"))
    assert await read_password(terminal) == TOKEN_BY_HAND
    assert (await write(terminal)).uid == uid
    expiry = await terminal.run(commands("README", "expires-at"))
    assert datetime.fromisoformat(expiry.strip()) > datetime.now(UTC)


@pytest.mark.usefixtures("namespace")
async def test_the_fixes_for_refusals_work(terminal: Terminal) -> None:
    """Of quota, a second writer and another type."""
    await terminal.run(commands("cluster_rbac_denied", "kubectl create role"))
    await terminal.run('kubectl create quota default -n "$NAMESPACE" --hard=secrets=0')
    await terminal.run(commands("quota_exceeded", "describe"))
    await terminal.run(commands("quota_exceeded", "patch"))
    await terminal.run('kubectl create cronjob refresh-ar-secret -n "$NAMESPACE" --image=x --schedule="*/30 * * * *"')
    await terminal.run(commands("secret_conflict", "suspend"))
    await terminal.run('kubectl create secret generic "$SECRET" -n "$NAMESPACE" --from-literal=a=b')
    with pytest.raises(errors.SecretConflict):
        await write(terminal)
    printed = await terminal.run(commands("secret_conflict", "--show-managed-fields"))
    assert "manager: kubectl-create" in printed
    await terminal.run(commands("secret_immutable", "kubectl delete").split("curl", 1)[0])
    assert (await write(terminal)).created
