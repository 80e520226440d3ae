"""How the phases put objects into a cluster, say what would come of it, and take them away again."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, Literal

from pullkeeper.cluster.api import path_of
from pullkeeper.cluster.ownership import LABELS, MANAGED_BY, MANAGER, given_back, managers
from pullkeeper.cluster.refusals import NotFound
from pullkeeper.errors import (
    ClusterError,
    InternalError,
    NamespaceMissing,
    ObjectConflict,
    ObjectImmutable,
    SecretConflict,
    SecretImmutable,
)
from pullkeeper.onboarding.work import Work

_ADOPTED: Final = "pullkeeper.dev/adopted"
"""On an object of which we took fields over from somebody."""


async def planned(work: Work, wanted: Iterable[Mapping[str, Any]]) -> str:
    """The cluster itself goes through each of them, and keeps none: in a dry run it is opened so."""
    if not work.reachable:
        return "would hand out manifests"
    told = [await _planned(work, manifest) for manifest in wanted]
    return "; ".join(filter(None, told)) or "all there already; would be kept as they should be"


async def put_all(work: Work, wanted: Iterable[Mapping[str, Any]]) -> str:
    if not work.reachable:
        work.rendered.extend(_with_label(manifest) for manifest in wanted)
        return f"{len(work.rendered)} manifests to apply"
    done = [(await put(work, manifest), name_of(manifest)) for manifest in wanted]
    return "; ".join(f"{how} {name}" for how, name in done if how) or "all there already"


async def put(work: Work, manifest: Mapping[str, Any]) -> Literal["made", "adopted"] | None:
    """Apply it; with our label if it is new or ours. What that came to, if it was not there as wanted. Raises
    ClusterError that speaks of it.
    """
    api = await work.api()
    path = path_of(manifest)
    with _told_of(manifest):
        found = await api.find(path)
        if found is None or is_ours(found):
            # In what is ours, an edit by somebody else is drift.
            seen = await api.apply(path, _with_label(manifest), force=found is not None, strict=True)
            return "made" if seen.created else None
        if manifest["kind"] == "Namespace":
            return None
        body = _without_label(manifest)
        adopted = _ADOPTED in (found["metadata"].get("annotations") or {})
        try:
            await api.apply(path, _marked(body) if adopted else body, force=adopted, strict=True)
        except SecretConflict:
            if not work.request.adopt:
                raise
            await api.apply(path, _marked(body), force=True, strict=True)
            return "adopted"
        return None


async def take_all_away(work: Work, made: Iterable[Mapping[str, Any]]) -> str:
    """Those that were made last go first."""
    return "; ".join([await take_away(work, manifest) for manifest in reversed(list(made))]) or "nothing to take away"


async def take_away(work: Work, manifest: Mapping[str, Any]) -> str:
    """Delete it if it is ours, or take our fields out of it. Namespaces stay, and what the cluster will not change."""
    name = name_of(manifest)
    try:
        with _told_of(manifest):
            return await _taken_away(work, manifest, name)
    except NotFound:
        return f"{name} is gone"
    except (ClusterError, InternalError) as e:
        if e.retryable:
            raise
        work.refused(name, e)
        return f"{name} stays"


def name_of(manifest: Mapping[str, Any]) -> str:
    metadata = manifest["metadata"]
    space = f"{metadata['namespace']}/" if "namespace" in metadata else ""
    return f"{manifest['kind']} {space}{metadata['name']}"


async def _planned(work: Work, manifest: Mapping[str, Any]) -> str | None:
    name = name_of(manifest)
    would = {"made": f"would make {name}", "adopted": f"would take fields over in {name}", None: None}
    try:
        return would[await put(work, manifest)]
    except NamespaceMissing:
        return f"would make {name}"
    except ObjectConflict as e:
        return f"would stop at {name}: {e.detail}"


async def _taken_away(work: Work, manifest: Mapping[str, Any], name: str) -> str:
    api, path = await work.api(), path_of(manifest)
    found = await api.find(path)
    if found is None:
        return f"{name} is gone"
    metadata = found["metadata"]
    if manifest["kind"] == "Namespace":
        work.left.append(f"{name}: it may hold what is not ours")
        return f"{name} stays"
    if is_ours(found):
        await api.delete(path, metadata["uid"])
        return f"{name} deleted"
    if not is_touched(found):
        return f"{name} is not ours"
    if _ADOPTED in (metadata.get("annotations") or {}):
        await api.merge(path, {"metadata": given_back(metadata)})
        work.left.append(f"{name}: Pullkeeper did not make it; what was adopted keeps its values")
    else:
        seen = await api.release(path, manifest, metadata["uid"])
        if MANAGER in seen.managers:
            # A list of names, one of which was ours: it is held as a whole.
            await api.merge(path, {"metadata": given_back(seen.metadata)})
        work.left.append(f"{name}: Pullkeeper did not make it; our fields in it are gone")
    return f"{name} given back"


@contextmanager
def _told_of(manifest: Mapping[str, Any]) -> Iterator[None]:
    """The adapter takes every object for a secret, which most are."""
    kind, metadata = manifest["kind"].lower(), manifest["metadata"]
    at = {"namespace": metadata.get("namespace", metadata["name"]), "object": f"{kind}/{metadata['name']}"}
    try:
        yield
    except (ObjectConflict, NotFound):
        raise
    except SecretConflict as e:
        raise ObjectConflict(e.detail, at) from None
    except SecretImmutable as e:
        raise ObjectImmutable(e.detail, at) from None
    except ClusterError as e:
        raise e.within(**at) from None


def is_ours(found: Mapping[str, Any]) -> bool:
    """The label alone may have been copied along with a manifest: we have to be who has put it on."""
    metadata = found["metadata"]
    labelled = (metadata.get("labels") or {}).items() >= LABELS.items()
    return labelled and MANAGER in managers(metadata, "metadata", "labels", MANAGED_BY)


def is_touched(found: Mapping[str, Any]) -> bool:
    """Whether there is anything of ours in it."""
    return MANAGER in managers(found["metadata"])


def _with_label(manifest: Mapping[str, Any]) -> dict[str, Any]:
    return _with(manifest, labels={**manifest["metadata"].get("labels", {}), **LABELS})


def _without_label(manifest: Mapping[str, Any]) -> dict[str, Any]:
    labels = manifest["metadata"].get("labels", {})
    return _with(manifest, labels={key: value for key, value in labels.items() if key not in LABELS})


def _marked(manifest: Mapping[str, Any]) -> dict[str, Any]:
    return _with(manifest, annotations={**manifest["metadata"].get("annotations", {}), _ADOPTED: "true"})


def _with(manifest: Mapping[str, Any], **metadata: Mapping[str, str]) -> dict[str, Any]:
    return {**manifest, "metadata": {**manifest["metadata"], **metadata}}
