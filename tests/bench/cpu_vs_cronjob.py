"""CPU and memory of the older CronJob's script, with the real gcloud and kubectl, against ours, per refresh."""

import itertools
import resource
import statistics
import tempfile
from pathlib import Path
from typing import Final

import pytest

from local.azurite import Azurite
from local.clock import Clock
from local.cloud import Cloud
from local.kubernetes.apiserver import RealApiServer
from pullkeeper.fleet.shards import COUNT
from pullkeeper.model import Target
from tests.apiserver.running import a_tenant, an_api_server
from tests.bench.api_servers import ApiServers
from tests.bench.fleet import BenchFleet, open_fleet
from tests.bench.report import Figure, cpu_seconds
from tests.contract.cluster import connected
from tests.real.cronjob import CronJob, service_account
from tests.real.kubectl import Kubectl
from tests.world import World

_LIMIT: Final = 100.0
_ROUNDS: Final = 5
_CLUSTERS: Final = 250


async def measure() -> list[Figure]:
    theirs, ours = [], []
    with tempfile.TemporaryDirectory() as folder, Azurite() as azurite, ApiServers(_CLUSTERS) as servers:
        async with a_tenant() as (entra, issuer), an_api_server(issuer) as server, Cloud(Clock(), entra=entra) as cloud:
            cloud.add_hub("main")
            job = await _job(cloud, server, Path(folder))
            async with open_fleet(azurite, servers, _CLUSTERS, "ours", shards=_CLUSTERS * COUNT // 1000) as fleet:
                for _ in range(_ROUNDS):
                    theirs.append(await _run(job))
                    ours.append(await _refresh(fleet))
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    ratio = statistics.median(its / mine for its, mine in zip(theirs, ours, strict=True))
    detail = f"median of {_ROUNDS} rounds, gcloud and kubectl against {_CLUSTERS} clusters of a fleet of 1,000"
    return [
        Figure("ratio", ratio, "times", _LIMIT, at_least=True, detail=detail),
        Figure("cronjob", statistics.median(theirs) * 1000, "ms CPU per refresh"),
        Figure("pullkeeper", statistics.median(ours) * 1000, "ms CPU per refresh"),
        Figure("cronjob memory", peak, "MB at most, in each cluster"),
        Figure("pullkeeper memory", own, "MB at most, for the fleet, with the stand-ins of identity and Google"),
    ]


async def _job(cloud: Cloud, server: RealApiServer, folder: Path) -> CronJob:
    target = Target(namespace="bench")
    async with connected(server, cloud.entra) as cluster:
        token = await service_account(cluster.admin, target.namespace, "secret-manager")
    kubectl = Kubectl(server, {"token": token}, target.namespace, folder / "job")
    world = World(cloud, "", cloud.clock, pytest.MonkeyPatch())
    return CronJob(world, kubectl, target, folder / "job", itertools.count())


async def _run(job: CronJob) -> float:
    began = _children()
    ran = await job.run()
    if ran.code:
        raise RuntimeError(f"the script failed: {ran.errors}")
    return _children() - began


def _children() -> float:
    """Return the CPU of all processes that have ended: the servers have not."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


async def _refresh(fleet: BenchFleet) -> float:
    fleet.make_due()
    began = cpu_seconds()
    await fleet.refresh()
    return (cpu_seconds() - began) / len(fleet.clusters)
