"""What the admission policy leaves of a cluster role for every namespace, under the app's own credentials."""

import base64
import uuid
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, Final

import pytest
import pytest_asyncio

from local.azure.entra import AKS
from pullkeeper.cluster import pull_secret, rights
from pullkeeper.cluster.api import Api, path_of
from pullkeeper.errors import AdmissionDenied, SecretConflict
from pullkeeper.model import SelectorTarget, Target
from pullkeeper.tokens import EntraToken
from tests.contract.cluster import Cluster
from tests.contract.conversation import JSON_PATCH, MERGE, Answer, Caller, Json, auths, until
from tests.contract.conversation import pull_secret as dockerconfig
from tests.contract.script import Stage, load
from tests.real.conftest import Join
from tests.world import World

_REFUSED: Final = load("refused.yaml", Path(__file__).parent)
_RULES: Final = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews"
_THEIRS: Final = "a-token-of-another-owner"


def selector(team: str, **more: Any) -> SelectorTarget:
    labels = {"matchLabels": {"team": team}}
    return SelectorTarget.parse(
        {"namespaceSelector": labels, "secret": "found", "serviceAccounts": ["app"], "prune": True, **more}
    )


@pytest_asyncio.fixture(loop_scope="session")
async def stage(world: World, join: Join, people: Cluster, target: Target) -> Stage:
    """A cluster with the namespaces that refused.yaml describes."""
    team, admin = target.namespace, people.admin
    named = Target(namespace=f"s-{team}", secret="found")
    await join(further=[selector(team, exclude=[f"e-{team}"]), named])
    stage = Stage(people, world.cloud.app, team)
    for kind, labels in {"m": {"team": team}, "e": {"team": team}, "l": {"team": team}, "p": {"team": team}}.items():
        await _create_namespace(admin, f"{kind}-{team}", labels)
    for kind in ("o", "n"):
        await _create_namespace(admin, f"{kind}-{team}", {"team": f"not-{team}"})
    for space in (f"m-{team}", f"e-{team}", f"o-{team}", team):
        account = {"metadata": {"name": "app"}, "imagePullSecrets": [{"name": "theirs"}]}
        assert (await admin.post(f"/api/v1/namespaces/{space}/serviceaccounts", account)).status == 201
    for kind in ("l", "o"):
        theirs = dockerconfig("found", token=_THEIRS)
        assert (await admin.post(f"/api/v1/namespaces/{kind}-{team}/secrets", theirs)).status == 201
    await _is_in_force(stage)
    ours = dockerconfig("found", annotations={"pullkeeper.dev/issued-at": "now"})
    for kind in ("m", "s"):
        assert (await people.caller(world.cloud.app).apply(_secret(f"{kind}-{team}"), ours)).status == 201
    changed = {"metadata": {"annotations": {"theirs": "kept"}}}
    assert (await admin.send("PATCH", _secret(f"m-{team}"), changed, content_type=MERGE)).status == 200
    return stage


@pytest_asyncio.fixture(loop_scope="session")
async def api(world: World, stage: Stage) -> AsyncIterator[Api]:  # noqa: ARG001 - joins the cluster
    """The app's own client."""
    endpoint = world.cloud.clusters["aks-1"].member.endpoint
    async with Api(endpoint, EntraToken(world.cloud.entra.token(world.cloud.app, AKS))) as opened:
        yield opened


def _secret(namespace: str) -> str:
    return f"/api/v1/namespaces/{namespace}/secrets/found"


async def _create_namespace(admin: Caller, name: str, labels: Mapping[str, str]) -> None:
    assert (await admin.post("/api/v1/namespaces", {"metadata": {"name": name, "labels": labels}})).status == 201


async def _is_in_force(stage: Stage) -> None:
    """A new policy takes a second."""
    app, path = stage.cluster.caller(stage.identity), _secret(f"o-{stage.namespace}")
    await until(lambda: app.send("PATCH", path, {}, content_type=MERGE), lambda answer: answer.status == 422)


@pytest.mark.parametrize("kind", _REFUSED)
async def test_the_policy_refuses(stage: Stage, kind: str) -> None:
    answers = await stage.send(_REFUSED[kind], "app")
    found = [(answer.status, "denied request: Pullkeeper" in answer.text, answer.text) for answer in answers]
    assert found == [(422, True, answer.text) for answer in answers]
    for quoted in (_THEIRS, auths(_THEIRS)):
        assert not any(quoted in answer.text for answer in answers)


async def test_the_rights_are_those_of_the_cluster_role(stage: Stage, people: Cluster, world: World) -> None:
    """Beyond what everybody has who can say who they are."""

    async def rules(who: Caller) -> list[Json]:
        found = await who.post(_RULES, {"spec": {"namespace": "kube-system"}})
        return list(found.body["status"]["resourceRules"])

    everybodys = await rules(people.caller(world.cloud.entra.add_identity("anybody")))
    ours = [rule for rule in await rules(people.caller(stage.identity)) if rule not in everybodys]
    assert sorted(ours, key=str) == [
        {"verbs": ["delete"], "apiGroups": [""], "resources": ["secrets"], "resourceNames": ["found"]},
        {"verbs": ["get", "patch"], "apiGroups": [""], "resources": ["serviceaccounts"], "resourceNames": ["app"]},
        {"verbs": ["list"], "apiGroups": [""], "resources": ["namespaces"]},
        {"verbs": ["patch", "create"], "apiGroups": [""], "resources": ["secrets"], "resourceNames": ["found"]},
    ]


async def test_where_the_labels_match_a_secret_is_written_healed_and_named(
    stage: Stage, api: Api, world: World
) -> None:
    """As a refresh does it."""
    space, admin = f"p-{stage.namespace}", stage.cluster.admin
    target, hub = Target(namespace=space, secret="found"), world.services.settings.hubs["main"]
    account = {"metadata": {"name": "app"}, "imagePullSecrets": [{"name": "theirs"}]}
    await admin.post(f"/api/v1/namespaces/{space}/serviceaccounts", account)
    assert await pull_secret.look(api, target) is None

    async def write(known: str | None = None) -> pull_secret.WriteResult:
        token = await world.services.federation.token(hub)
        return await pull_secret.write(api, target, hub, token, known_uid=known, adopt=False)

    first = await write()
    assert (await write(first.uid)).uid == first.uid
    edit = {"data": {".dockerconfigjson": base64.b64encode(b"{}").decode()}}
    await admin.send("PATCH", _secret(space), edit, content_type=MERGE, fieldManager="kubectl-edit")
    assert (await write(first.uid)).drift == "edited by kubectl-edit"
    await admin.delete(_secret(space))
    assert (await write(first.uid)).created

    await pull_secret.add_reference(api, target, "app")
    named = (await admin.get(f"/api/v1/namespaces/{space}/serviceaccounts/app")).body["imagePullSecrets"]
    assert named == [{"name": "theirs"}, {"name": "found"}]


async def test_a_secret_of_another_owner_is_a_conflict(stage: Stage, api: Api, world: World) -> None:
    """Where the labels match. The policy does not even show its metadata."""
    target, hub = Target(namespace=f"l-{stage.namespace}", secret="found"), world.services.settings.hubs["main"]
    token = await world.services.federation.token(hub)
    with pytest.raises(SecretConflict):
        await pull_secret.write(api, target, hub, token, known_uid=None, adopt=False)


async def test_with_prune_a_secret_goes_once_its_namespace_has_lost_the_label(stage: Stage, api: Api) -> None:
    space, admin = f"m-{stage.namespace}", stage.cluster.admin
    target = Target(namespace=space, secret="found")
    await pull_secret.add_reference(api, target, "app")
    seen = await pull_secret.look(api, target)
    assert seen is not None
    await admin.send(
        "PATCH", f"/api/v1/namespaces/{space}", {"metadata": {"labels": {"team": None}}}, content_type=MERGE
    )
    await _until_written_no_more(stage, space)

    with pytest.raises(AdmissionDenied):
        await api.delete(_secret(space), seen.uid)  # `theirs` was added by another field manager
    alone = {
        "metadata": {"managedFields": [one for one in seen.metadata["managedFields"] if one["manager"] == "pullkeeper"]}
    }
    assert (await admin.send("PATCH", _secret(space), alone, content_type=MERGE)).status == 200
    again = await pull_secret.look(api, target)
    assert again is not None
    assert again.uid == seen.uid
    await pull_secret.remove_reference(api, target, "app")
    await api.delete(_secret(space), seen.uid)
    assert (await admin.get(_secret(space))).status == 404
    named = (await admin.get(f"/api/v1/namespaces/{space}/serviceaccounts/app")).body["imagePullSecrets"]
    assert named == [{"name": "theirs"}]


async def _until_written_no_more(stage: Stage, space: str) -> None:
    """Admission sees a changed label after a moment."""
    app = stage.cluster.caller(stage.identity)
    empty: Json = {}
    await until(
        lambda: app.send("PATCH", _secret(space), empty, content_type=MERGE), lambda answer: answer.status == 422
    )


_LABELS: Final[tuple[Mapping[str, str], ...]] = (
    {},
    {"a": "1"},
    {"a": "2"},
    {"a": ""},
    {"b": "1"},
    {"a": "1", "b": "1"},
)
_CONDITIONS: Final[tuple[tuple[str, list[str]], ...]] = (
    ("In", ["1", "2"]),
    ("In", ["1"]),
    ("NotIn", ["1"]),
    ("NotIn", ["1", ""]),
    ("Exists", []),
    ("DoesNotExist", []),
)


async def test_the_policy_matches_the_namespaces_that_the_selector_matches(
    world: World, join: Join, people: Cluster, target: Target
) -> None:
    """Each operator by itself, and two conditions together: one secret for each selector."""
    expressions = [[{"key": "a", "operator": operator, "values": values}] for operator, values in _CONDITIONS]
    both = [{"key": "a", "operator": "In", "values": ["1"]}, {"key": "b", "operator": "Exists"}]
    selectors = [
        SelectorTarget.parse({"namespaceSelector": {"matchExpressions": listed}, "secret": f"s{number}"})
        for number, listed in enumerate([*expressions, both])
    ]
    await join(further=selectors)
    stage = Stage(people, world.cloud.app, target.namespace)
    spaces = {f"{target.namespace}-{number}": labels for number, labels in enumerate(_LABELS)}
    for space, labels in spaces.items():
        await _create_namespace(people.admin, space, labels)
    theirs = dockerconfig("s0", token=_THEIRS)
    await people.admin.post("/api/v1/namespaces/kube-system/secrets", theirs)
    app = people.caller(stage.identity)
    kube_system = "/api/v1/namespaces/kube-system/secrets/s0"
    await until(lambda: app.send("PATCH", kube_system, {}, content_type=MERGE), lambda answer: answer.status == 422)

    for space, labels in spaces.items():
        for selector in selectors:
            path = f"/api/v1/namespaces/{space}/secrets/{selector.secret}"
            answer = await app.apply(path, dockerconfig(selector.secret))
            assert answer.status == (201 if selector.matches(space, labels) else 422), (space, selector)
    await people.admin.delete(kube_system)


async def test_the_longest_policy_is_one_that_the_server_takes(people: Cluster) -> None:
    """500 targets with the longest names, which are too long for one expression."""
    longest = ".".join(["s" * 60, *["x" * 63] * 3])
    targets = [
        Target(namespace=f"{n:03}{'n' * 60}", secret=f"{n:03}{longest[3:]}", service_accounts=(f"a{n:03}",))
        for n in range(500)
    ]
    policy, _ = rights.admission_policy(targets, f"longest-{uuid.uuid4()}")
    answer = await people.admin.apply(path_of(policy), policy, fieldValidation="Strict")
    assert answer.status == 201, answer.text[:500]
    assert (await people.admin.delete(path_of(policy))).status == 200


async def test_two_apps_do_not_hold_each_other(stage: Stage, people: Cluster, world: World) -> None:
    """Each has a policy, a cluster role and their bindings under names of its own."""
    other, team = world.cloud.entra.add_identity("another-pullkeeper"), f"x-{uuid.uuid4().hex[:8]}"
    targets = [selector(team)]
    for manifest in (
        *rights.admission_policy(targets, other.principal_id),
        *rights.access(targets, other.principal_id),
    ):
        await world.cloud.clusters["aks-1"].admin.apply(manifest)
    await _create_namespace(people.admin, team, {"team": team})
    await _is_in_force(Stage(people, other, stage.namespace))
    for identity, space, status in (
        (other, team, 201),
        (other, f"m-{stage.namespace}", 422),
        (stage.identity, team, 422),
        (stage.identity, f"p-{stage.namespace}", 201),
    ):
        assert (await people.caller(identity).apply(_secret(space), dockerconfig("found"))).status == status


async def test_other_callers_and_one_who_may_delete_the_policy_are_not_held(stage: Stage, people: Cluster) -> None:
    """An identity that onboards and refreshes writes service accounts, and would be stopped by its own policy."""
    path, body = _secret(f"n-{stage.namespace}"), dockerconfig("found")
    assert (await people.admin.apply(path, body, manager="kubectl")).status == 201
    role = {"metadata": {"name": f"all-{stage.namespace}"}}
    group = "rbac.authorization.k8s.io"
    subject = {"apiGroup": group, "kind": "User", "name": stage.identity.principal_id}
    reference = {"apiGroup": group, "kind": "ClusterRole", "name": "cluster-admin"}
    bound = {**role, "roleRef": reference, "subjects": [subject]}
    assert (await people.admin.post(f"/apis/{group}/v1/clusterrolebindings", bound)).status == 201
    app = people.caller(stage.identity)

    def is_ok(answer: Answer) -> bool:
        return answer.status == 200

    await until(lambda: app.apply(path, body, force="true"), is_ok)


async def test_what_remains_a_patch_that_fails_quotes_the_secret_of_that_name(stage: Stage) -> None:
    """The server applies and validates a patch before it asks the policy. docs/security.md says so."""
    app, path = stage.cluster.caller(stage.identity), _secret(f"o-{stage.namespace}")
    copy = {"op": "copy", "from": "/data/.dockerconfigjson", "path": "/metadata/labels"}
    answer = await app.send("PATCH", path, [copy], content_type=JSON_PATCH)
    assert answer.status == 422
    assert auths(_THEIRS) in answer.text
