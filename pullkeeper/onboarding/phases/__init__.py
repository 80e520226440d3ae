"""The phases of onboarding, one module each, and their order.

To add one: write a module here with NAME, plan, do and undo (`pullkeeper/onboarding/work.py` says what they promise),
put it into ONBOARD and OFFBOARD; into IN_AZURE if it calls only Azure, into IN_CLUSTER if it only works in the cluster.
"""

from typing import Final

from pullkeeper.onboarding.phases import (
    cluster_access,
    federated_credential,
    handover,
    identity,
    inspect_cluster,
    manifests,
    pull_secret,
    refresher,
    register,
    retire,
    workload,
)
from pullkeeper.onboarding.work import Phase, Work

ONBOARD: Final[tuple[Phase, ...]] = (
    inspect_cluster,
    identity,
    federated_credential,
    handover,
    cluster_access,
    manifests,
    refresher,
    pull_secret,
    register,
    workload,
    retire,
)
OFFBOARD: Final[tuple[Phase, ...]] = (
    register,
    inspect_cluster,
    handover,
    cluster_access,
    retire,
    workload,
    refresher,
    pull_secret,
    manifests,
    federated_credential,
    identity,
)
"""The fleet entry first, and the rights to write the secret before the secret, so that no refresh creates it again."""
IN_AZURE: Final = frozenset({inspect_cluster, identity, federated_credential, handover})
"""Those that only call Azure."""
IN_CLUSTER: Final = frozenset({retire, workload, refresher, pull_secret, manifests})
"""What offboarding skips in a cluster that is gone or does not answer."""


def is_instant(phase: Phase, work: Work) -> bool:
    """Whether a phase calls neither Azure Resource Manager nor the cluster, so that nothing holds it up."""
    return phase is handover or (phase is workload and not any(request.workload for request in work.requests))
