"""Create, plan and remove Kubernetes objects on behalf of the phases."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, Final, Literal

from pullkeeper.cluster.api import path_of
from pullkeeper.cluster.manifests import as_text
from pullkeeper.cluster.ownership import LABELS, MANAGED_BY, MANAGER, is_applied, managers, release_patch
from pullkeeper.cluster.refusals import NotFound
from pullkeeper.errors import (
    ClusterError,
    InternalError,
    InvalidRequest,
    NamespaceMissing,
    ObjectConflict,
    ObjectImmutable,
    SecretConflict,
    SecretImmutable,
)
from pullkeeper.onboarding.many import run_all, summarize
from pullkeeper.onboarding.work import Work

_LONGEST_RESULT: Final = 150_000
"""Characters of manifests. An operation's row takes 500,000, and the longest request half of them."""
_ADOPTED: Final = "pullkeeper.dev/adopted"
"""Annotation of an object in which `adopt` took over fields of another field manager."""


async def plan_all(work: Work, manifests: Iterable[Mapping[str, Any]]) -> str:
    """Say what `apply_all` would change. The API server validates each object in a dry run."""
    if not work.reachable:
        return "would hand out manifests"
    plans = [plan for stage in _stages(manifests) for plan in await run_all(stage, partial(_plan, work))]
    return summarize(filter(None, plans)) or "all objects exist; would be kept up to date"


async def apply_all(work: Work, manifests: Iterable[Mapping[str, Any]]) -> str:
    """Apply the objects, kind by kind, or hand them out where the cluster cannot be reached."""
    if not work.reachable:
        return _hand_out(work, manifests)
    changes = []
    for stage in _stages(manifests):
        results = await run_all(stage, partial(apply, work))
        changes += [f"{change} {name_of(manifest)}" for change, manifest in zip(results, stage, strict=True) if change]
    return summarize(changes) or "all objects exist"


async def apply(work: Work, manifest: Mapping[str, Any]) -> Literal["created", "adopted"] | None:
    """Apply one object, with our label if it is new or ours. None: it existed. Raises ClusterError that names it."""
    work.stop_if_late()
    api = await work.api()
    path = path_of(manifest)
    with _name_object_in_errors(manifest):
        found = await api.find(path)
        if found is None or is_ours(found):
            if found and is_applied(found, _with_our_label(manifest)):
                return None
            # An edit of an object of ours is drift: force puts it right.
            seen = await api.apply(path, _with_our_label(manifest), force=found is not None, strict=True)
            if seen.created:
                work.note_change()
            return "created" if seen.created else None
        if manifest["kind"] == "Namespace":
            return None
        body = _without_our_label(manifest)
        adopted = _ADOPTED in (found["metadata"].get("annotations") or {})
        try:
            await api.apply(path, _with_adopted_mark(body) if adopted else body, force=adopted, strict=True)
        except SecretConflict:
            if not work.request.adopt:
                raise
            await api.apply(path, _with_adopted_mark(body), force=True, strict=True)
            work.note_change()
            return "adopted"
        return None


async def remove_all(work: Work, manifests: Iterable[Mapping[str, Any]]) -> str:
    """Remove the objects in reverse order of their creation."""
    results = [
        result
        for stage in reversed(_stages(manifests))
        for result in await run_all(reversed(stage), partial(remove, work))
    ]
    return summarize(results) or "nothing to remove"


async def remove(work: Work, manifest: Mapping[str, Any]) -> str:
    """Delete an object if it is ours, else release our fields in it. Namespaces and what the cluster refuses to change
    are kept and reported in `work.left`.
    """
    name = name_of(manifest)
    try:
        with _name_object_in_errors(manifest):
            return await _remove(work, manifest, name)
    except NotFound:
        return f"{name} does not exist"
    except (ClusterError, InternalError) as e:
        if e.retryable:
            raise
        work.report_refusal(name, e)
        return f"{name} kept"


def _stages(manifests: Iterable[Mapping[str, Any]]) -> list[list[Mapping[str, Any]]]:
    """Group the objects by kind, in the order of the first of each: an account needs its namespace, and so on."""
    stages: dict[str, list[Mapping[str, Any]]] = {}
    for manifest in manifests:
        stages.setdefault(manifest["kind"], []).append(manifest)
    return list(stages.values())


def _hand_out(work: Work, manifests: Iterable[Mapping[str, Any]]) -> str:
    """Raises InvalidRequest if they do not fit into the operation's row."""
    work.manifests.extend(_with_our_label(manifest) for manifest in manifests)
    length = len(as_text(work.manifests))
    if length > _LONGEST_RESULT:
        raise InvalidRequest(
            f"the app cannot reach the cluster, and the manifests to apply have {length} characters: "
            f"{_LONGEST_RESULT} is the limit. Name fewer targets, or let the app reach the cluster"
        )
    return f"{len(work.manifests)} manifests to apply"


def name_of(manifest: Mapping[str, Any]) -> str:
    metadata = manifest["metadata"]
    namespace = f"{metadata['namespace']}/" if "namespace" in metadata else ""
    return f"{manifest['kind']} {namespace}{metadata['name']}"


def is_ours(found: Mapping[str, Any]) -> bool:
    """Whether Pullkeeper created the object: it has our label, and our field manager set it. The label alone may have
    been copied with a manifest.
    """
    metadata = found["metadata"]
    labelled = (metadata.get("labels") or {}).items() >= LABELS.items()
    return labelled and MANAGER in managers(metadata, "metadata", "labels", MANAGED_BY)


def has_our_fields(found: Mapping[str, Any]) -> bool:
    return MANAGER in managers(found["metadata"])


async def _plan(work: Work, manifest: Mapping[str, Any]) -> str | None:
    name = name_of(manifest)
    plans = {"created": f"would create {name}", "adopted": f"would take over fields in {name}", None: None}
    try:
        return plans[await apply(work, manifest)]
    except NamespaceMissing:
        return f"would create {name}"
    except ObjectConflict as e:
        return f"would stop at {name}: {e.detail}"


async def _remove(work: Work, manifest: Mapping[str, Any], name: str) -> str:
    work.stop_if_late()
    api, path = await work.api(), path_of(manifest)
    found = await api.find(path)
    if found is None:
        return f"{name} does not exist"
    metadata = found["metadata"]
    if manifest["kind"] == "Namespace":
        work.left.append(f"{name}: kept, because it may hold other objects")
        return f"{name} kept"
    if is_ours(found):
        await api.delete(path, metadata["uid"])
        work.note_change()
        return f"{name} deleted"
    if not has_our_fields(found):
        return f"{name} is not ours"
    if _ADOPTED in (metadata.get("annotations") or {}):
        # Without the adopted values the object might be useless, and the earlier ones are unknown.
        await api.merge_patch(path, {"metadata": release_patch(metadata)})
        work.left.append(f"{name}: not created by Pullkeeper; adopted fields keep their values")
    else:
        seen = await api.withdraw(path, manifest, metadata["uid"])
        if MANAGER in seen.managers:
            # An atomic list that holds one of our names has one manager for the whole list.
            await api.merge_patch(path, {"metadata": release_patch(seen.metadata)})
        work.left.append(f"{name}: not created by Pullkeeper; our fields were removed")
    work.note_change()
    return f"{name} released"


@contextmanager
def _name_object_in_errors(manifest: Mapping[str, Any]) -> Iterator[None]:
    """Put kind and name into errors: the cluster's adapter reports every object as a secret."""
    kind, metadata = manifest["kind"].lower(), manifest["metadata"]
    at = {"namespace": metadata.get("namespace", metadata["name"]), "object": f"{kind}/{metadata['name']}"}
    try:
        yield
    except SecretConflict as e:
        raise ObjectConflict(e.detail, at) from None
    except SecretImmutable as e:
        raise ObjectImmutable(e.detail, at) from None
    except ClusterError as e:
        raise e.with_context(**at) from None


def _with_our_label(manifest: Mapping[str, Any]) -> dict[str, Any]:
    return _with_metadata(manifest, labels={**manifest["metadata"].get("labels", {}), **LABELS})


def _without_our_label(manifest: Mapping[str, Any]) -> dict[str, Any]:
    labels = manifest["metadata"].get("labels", {})
    return _with_metadata(manifest, labels={key: value for key, value in labels.items() if key not in LABELS})


def _with_adopted_mark(manifest: Mapping[str, Any]) -> dict[str, Any]:
    return _with_metadata(manifest, annotations={**manifest["metadata"].get("annotations", {}), _ADOPTED: "true"})


def _with_metadata(manifest: Mapping[str, Any], **metadata: Mapping[str, str]) -> dict[str, Any]:
    return {**manifest, "metadata": {**manifest["metadata"], **metadata}}
