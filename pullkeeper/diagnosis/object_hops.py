"""The hops of what onboarding makes in a cluster: namespaces, service accounts, the credential configuration."""

import json
from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from pullkeeper.cluster.api import path_of
from pullkeeper.cluster.lists import list_all
from pullkeeper.cluster.manifests import credential_config_map
from pullkeeper.cluster.pull_secret import account_path
from pullkeeper.cluster.refusals import NotFound
from pullkeeper.diagnosis.azure_hops import list_federated
from pullkeeper.diagnosis.comparison import describe_differences
from pullkeeper.diagnosis.course import Blocked, Course, Step, build_hop, skipped
from pullkeeper.diagnosis.patient import EVERYWHERE, Namespaces, Patient, know_namespaces
from pullkeeper.diagnosis.report import Hop, HopName
from pullkeeper.diagnosis.view import examine_all
from pullkeeper.errors import (
    MALFORMED,
    ClusterRbacDenied,
    NamespaceMissing,
    NamespaceTerminating,
    ObjectDrifted,
    PullkeeperError,
)
from pullkeeper.model import Target

_CLIENT_ID: Final = "azure.workload.identity/client-id"
_USE: Final = "azure.workload.identity/use"


async def check_namespaces(course: Course, opened: Step[Patient]) -> Namespaces:
    patient = await course.need("namespace", opened)
    try:
        found = await patient.view.see(partial(list_all, path="/api/v1/namespaces"))
    except ClusterRbacDenied as e:
        hidden = patient.hide(course, "namespace", None, e, "--verb=list --resource=namespaces")
        course.add_all("namespace", [hidden], what="namespaces")
        return Namespaces(None)
    ending = {str(one.get("name")): "deletionTimestamp" in one for one in found}
    hops = [_judge_namespace(course, name, ending.get(name)) for name in patient.namespaces]
    course.add_all("namespace", hops, what="namespaces")
    return Namespaces(ending)


def _judge_namespace(course: Course, namespace: str, ending: bool | None) -> Hop:  # noqa: FBT001 - of a dict
    context = {"namespace": namespace}
    if ending is None:
        failure: PullkeeperError = NamespaceMissing("there is no namespace of that name", context)
        return course.explain("namespace", failure, subject=namespace)
    if ending:
        failure = NamespaceTerminating("the namespace is being deleted", context)
        return course.explain("namespace", failure, subject=namespace)
    return build_hop("namespace", "ok", "the namespace exists", subject=namespace)


async def check_accounts(
    course: Course,
    opened: Step[Patient],
    namespaces: Step[Namespaces],
    denied: Step[frozenset[str]],
    client_ids: Step[frozenset[str] | None],
) -> None:
    name: HopName = "service-account"
    patient, found = await course.need(name, opened), await know_namespaces(course, name, namespaces)
    pairs = [(target, account) for target in patient.targets for account in target.account_names]
    if not pairs:
        course.add(name, "ok", "no target names a service account: pods name the secret themselves")
        return

    async def examine(pair: tuple[Target, str]) -> Hop:
        target, account = pair
        subject = f"{target.namespace}/{account}"
        if found.block(target.namespace):
            return skipped(name, "namespace", subject)
        try:
            seen = await patient.view.see(lambda api: api.get(account_path(target, account)))
        except NotFound:
            hop = _explain_drift(course, name, target.namespace, f"serviceaccount/{account}", "it does not exist")
            # Onboarding creates those of named targets alone.
            return hop if target in patient.cluster.named else hop.model_copy(update={"state": "warning"})
        except ClusterRbacDenied as e:
            if (await course.need(name, denied)).intersection((target.namespace, EVERYWHERE)):
                return skipped(name, "permission", subject)
            return patient.hide(course, name, subject, e, "--verb=get --resource=serviceaccounts")
        federated = (target.namespace, account) in list_federated(patient.cluster)
        # Azure is asked meanwhile.
        expected = await _expect_client_ids(course, client_ids) if federated else None
        return _judge_account(course, pair, seen, expected, federated=federated)

    hops, unseen = await examine_all(pairs, examine)
    course.add_all(name, hops, what="service accounts", unseen=unseen)


async def _expect_client_ids(course: Course, client_ids: Step[frozenset[str] | None]) -> frozenset[str] | None:
    """Return those that the annotation may have; None if Azure has not said."""
    try:
        return await course.need("service-account", client_ids)
    except Blocked:
        return None


def _judge_account(
    course: Course,
    pair: tuple[Target, str],
    seen: Mapping[str, Any],
    expected: frozenset[str] | None,
    *,
    federated: bool,
) -> Hop:
    """seen: the service account. expected: client ids; None if it is not known which."""
    name: HopName = "service-account"
    target, account = pair
    metadata = seen["metadata"]
    secrets = [str(one.get("name")) for one in seen.get("imagePullSecrets") or ()]
    evidence = {"imagePullSecrets": ", ".join(secrets) or "none"}
    faults = [] if target.secret in secrets else [f"its imagePullSecrets do not name {target.secret}"]
    if federated:
        client_id = str((metadata.get("annotations") or {}).get(_CLIENT_ID, ""))
        label = str((metadata.get("labels") or {}).get(_USE, ""))
        right = client_id if expected is None or client_id in expected else min(expected)
        evidence |= describe_differences({_CLIENT_ID: right, _USE: "true"}, {_CLIENT_ID: client_id, _USE: label})
        faults += [] if client_id and client_id == right else [f"its annotation {_CLIENT_ID} is wrong"]
        faults += [] if label == "true" else [f"its label {_USE} is not true"]
    if faults:
        problem = "; ".join(faults)
        return _explain_drift(course, name, target.namespace, f"serviceaccount/{account}", problem, evidence=evidence)
    detail = "it names the secret" + (", and the identity of its pods" if federated else "")
    return build_hop(name, "ok", detail, subject=f"{target.namespace}/{account}", evidence=evidence)


def _explain_drift(
    course: Course,
    name: HopName,
    namespace: str,
    thing: str,
    problem: str,
    *,
    evidence: Mapping[str, str] | None = None,
) -> Hop:
    """thing: kind and name, as kubectl has them."""
    failure = ObjectDrifted(f"{thing}: {problem}", {"object": thing, "namespace": namespace})
    subject = f"{namespace}/{thing.partition('/')[2]}"
    return course.explain(name, failure, subject=subject, evidence=evidence)


async def check_config_maps(course: Course, opened: Step[Patient], namespaces: Step[Namespaces]) -> None:
    """The documents for pods that call Google themselves: of named targets alone."""
    name: HopName = "credential-config"
    patient, found = await course.need(name, opened), await know_namespaces(course, name, namespaces)
    hub = patient.hub
    named = dict.fromkeys(target.namespace for target in patient.cluster.named)
    if hub is None:
        course.add(name, "skipped", "the hub is not in the setting HUBS")
        return

    async def examine(namespace: str) -> Hop:
        wanted = credential_config_map(namespace, hub.credential_config)
        thing = f"configmap/{wanted['metadata']['name']}"
        subject = f"{namespace}/{wanted['metadata']['name']}"
        if found.block(namespace):
            return skipped(name, "namespace", subject)
        try:
            seen = await patient.view.see(lambda api: api.get(path_of(wanted)))
        except NotFound:
            return _explain_drift(course, name, namespace, thing, "it does not exist")
        except ClusterRbacDenied as e:
            rule = f"--verb=get --resource=configmaps --resource-name={wanted['metadata']['name']}"
            return patient.hide(course, name, subject, e, rule)
        expected, held = _read_document(wanted), _read_document(seen)
        evidence = describe_differences(expected, {key: held.get(key, "") for key in expected})
        wrong = [key for key, value in expected.items() if held.get(key) != value]
        if wrong:
            return _explain_drift(
                course, name, namespace, thing, f"differs from the hub's in {', '.join(wrong)}", evidence=evidence
            )
        return build_hop(name, "ok", "it is the hub's", subject=subject, evidence={"audience": expected["audience"]})

    hops, unseen = await examine_all(named, examine)
    course.add_all(name, hops, what="credential configurations", unseen=unseen)


def _read_document(config_map: Mapping[str, Any]) -> dict[str, str]:
    """Return the fields of the credential configuration as texts; none if it is no JSON object."""
    try:
        document = json.loads(config_map["data"]["credential-config.json"])
        return {key: value if isinstance(value, str) else json.dumps(value) for key, value in document.items()}
    except MALFORMED:
        return {}
