"""What lies in the secret, as kubectl reads it."""

import pytest

from pullkeeper.model import Target
from tests.real.conftest import Join
from tests.real.kubectl import Kubectl
from tests.world import World

_OURS_ALONE = {"name", "uid", "resourceVersion", "creationTimestamp", "labels", "annotations"}


@pytest.mark.parametrize("form", ["json", "yaml"])
async def test_it_is_byte_for_byte_what_kubectl_would_have_created(
    world: World, join: Join, kubectl: Kubectl, target: Target, form: str
) -> None:
    cluster = await join()
    await world.refresh(cluster)
    [registry] = world.cloud.hubs["main"].document["registries"]
    login = (
        f"--docker-server={registry}",
        "--docker-username=oauth2accesstoken",
        f"--docker-password={await world.read_token(cluster)}",
    )
    create = ("create", "secret", "docker-registry")
    dry = await kubectl(*create, target.secret, *login, "--dry-run=client", "-o", form)
    await kubectl(*create, "theirs", *login)
    ours, theirs = [await kubectl("get", "secret", name, "-o", form) for name in (target.secret, "theirs")]

    def of_content(text: str) -> list[str]:
        """The lines of data and type as they are; `metadata` is compared below."""
        return [line for line in text.splitlines() if "dockerconfigjson" in line]

    assert len(of_content(dry)) == 2
    assert of_content(dry) == of_content(ours) == of_content(theirs)
    written = await kubectl.json("get", "secret", target.secret)
    created = await kubectl.json("get", "secret", "theirs")
    for secret in (written, created):
        secret["metadata"] = {name: value for name, value in secret["metadata"].items() if name not in _OURS_ALONE}
    assert written == created


async def test_labels_and_annotations_say_whose_it_is_and_how_long_it_is_good(
    world: World, join: Join, kubectl: Kubectl
) -> None:
    cluster = await join()
    await world.refresh(cluster)
    status = await world.target(cluster)
    assert status.issued_at is not None
    assert status.expires_at is not None
    found = await kubectl.json("get", "secrets", "-l", "app.kubernetes.io/managed-by=pullkeeper")

    [metadata] = [secret["metadata"] for secret in found["items"]]
    assert metadata["labels"] == {"app.kubernetes.io/managed-by": "pullkeeper"}
    assert metadata["annotations"] == {
        "pullkeeper.dev/issued-at": status.issued_at.isoformat(timespec="seconds"),
        "pullkeeper.dev/expires-at": status.expires_at.isoformat(timespec="seconds"),
    }
    assert metadata["uid"] == status.uid
