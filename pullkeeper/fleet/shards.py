"""Shards: the fleet cut into at most 64 parts by a hash of the cluster's id. No part is assigned or rebalanced."""

import hashlib
from typing import Annotated, Final

from pydantic import StringConstraints

from pullkeeper.model import ClusterId

COUNT: Final = 64
Shard = Annotated[str, StringConstraints(pattern=r"^[0-3][0-9a-f]$")]
"""A number below 64 as two hexadecimal digits."""


def shard_of(cluster: ClusterId) -> Shard:
    """Return the shard of a cluster. It never changes: the hash is of the id in lower case."""
    return f"{hashlib.sha256(str(cluster).lower().encode()).digest()[0] % COUNT:02x}"


def phase(shard: Shard) -> float:
    """Return where in a period the shard is due: a fraction, below 1."""
    return int(shard, 16) / COUNT
