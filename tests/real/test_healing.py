"""What people with kubectl do to the secret, and what becomes of it."""

import json
from dataclasses import dataclass

import pytest
import pytest_asyncio

from local.cloud import LocalCluster
from pullkeeper.model import Target
from tests.contract.conversation import Caller
from tests.real.conftest import Join, pulled
from tests.real.kubectl import Kubectl, encoded
from tests.real.watch import watching
from tests.world import MINUTE, World

_THEIRS = '{"auths":{"registry.example":{"username":"u","password":"p","auth":"dTpw"}}}'


async def test_what_a_person_deletes_is_there_again_after_the_next_refresh(
    world: World, join: Join, kubectl: Kubectl
) -> None:
    cluster = await join()
    await world.refresh(cluster)
    first = (await world.target(cluster)).uid
    await kubectl("delete", "secret", "ar-pull-secret")
    await world.refresh(cluster)

    assert await pulled(world, cluster)
    assert first != (await world.target(cluster)).uid
    assert (await world.target(cluster)).uid == await kubectl(
        "get", "secret", "ar-pull-secret", "-o", "jsonpath={.metadata.uid}"
    )
    assert [event["detail"] for event in world.events.named("drift.repaired")] == ["it had been deleted"]


async def content_of_theirs(kubectl: Kubectl) -> str:
    """A manifest of the same secret with other content, and nothing of ours in it."""
    make = ("create", "secret", "generic", "ar-pull-secret", "--type=kubernetes.io/dockerconfigjson")
    return await kubectl(*make, f"--from-literal=.dockerconfigjson={_THEIRS}", "--dry-run=client", "-o", "yaml")


@dataclass(frozen=True, slots=True)
class Edit:
    """One of the ways in which people change a secret. manager: what the server calls those who do it so."""

    how: str
    manager: str

    async def made(self, kubectl: Kubectl) -> None:
        match self.how:
            case "patch":
                patch = {"data": {".dockerconfigjson": encoded(_THEIRS)}}
                await kubectl("patch", "secret", "ar-pull-secret", "-p", json.dumps(patch))
            case "edit":
                editor = kubectl.home / "editor"
                line = r"  \.dockerconfigjson: "
                editor.write_text(f"#!/bin/sh\nsed -i 's|^{line}.*|{line}{encoded(_THEIRS)}|' \"$1\"\n")
                editor.chmod(0o700)
                await kubectl("edit", "secret", "ar-pull-secret", KUBE_EDITOR=str(editor))
            case _:
                await kubectl(*self.how.split(), "-f", "-", given=await content_of_theirs(kubectl))


_EDITS = (
    Edit("patch", "kubectl-patch"),
    Edit("replace", "kubectl-replace"),
    Edit("edit", "kubectl-edit"),
    Edit("apply", "kubectl-client-side-apply"),
    Edit("apply --server-side --force-conflicts", "kubectl"),
)


@pytest_asyncio.fixture(loop_scope="session")
async def refreshed(world: World, join: Join) -> LocalCluster:
    cluster = await join()
    await world.refresh(cluster)
    return cluster


@pytest.mark.parametrize("edit", _EDITS, ids=lambda edit: edit.how)
async def test_what_a_person_edits_is_taken_back_and_told_with_the_way_it_was_done(
    world: World, refreshed: LocalCluster, kubectl: Kubectl, edit: Edit, admin: Caller
) -> None:
    target = refreshed.target
    async with watching(admin, target.namespace) as watch:
        await edit.made(kubectl)
        there = await refreshed.admin.read_auths(target.namespace, target.secret)
        assert json.loads(_THEIRS)["auths"] == there
        await world.refresh(refreshed)
        world.clock.advance(25 * MINUTE)
        await world.refresh(refreshed)
        events = await watch.events(target.secret)

    assert await pulled(world, refreshed)
    assert [event["detail"] for event in world.events.named("drift.repaired")] == [f"edited by {edit.manager}"]
    assert {(await world.target(refreshed)).uid} == {event.uid for event in events}
    assert {"MODIFIED"} == {event.kind for event in events}


async def test_a_secret_that_a_person_made_is_left_untouched(
    world: World, join: Join, kubectl: Kubectl, admin: Caller, target: Target
) -> None:
    """Not even its resourceVersion changes, however often we try."""
    cluster = await join()
    made = ("--docker-server=registry.example", "--docker-username=u", "--docker-password=p")
    await kubectl("create", "secret", "docker-registry", "ar-pull-secret", *made)
    before = await kubectl.json("get", "secret", "ar-pull-secret", "--show-managed-fields")
    async with watching(admin, target.namespace) as watch:
        for reason in ("retry", "due", "manual"):
            assert await world.refresh_category(cluster, reason) == "secret_conflict"
        assert await watch.events(target.secret) == []

    assert before == await kubectl.json("get", "secret", "ar-pull-secret", "--show-managed-fields")


async def test_a_secret_that_a_person_replaced_by_force_is_theirs(world: World, join: Join, kubectl: Kubectl) -> None:
    """`kubectl replace --force` deletes and creates: another secret, of which nothing is ours."""
    cluster = await join()
    await world.refresh(cluster)
    await kubectl("replace", "--force", "-f", "-", given=await content_of_theirs(kubectl))
    before = await kubectl.json("get", "secret", "ar-pull-secret")

    assert await world.refresh_category(cluster) == "secret_conflict"
    assert before == await kubectl.json("get", "secret", "ar-pull-secret")
