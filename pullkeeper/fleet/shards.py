"""Shards: the fleet cut into at most 16 parts by a hash of the cluster's id. No part is assigned or rebalanced."""

import hashlib
from typing import Annotated, Final

from pydantic import StringConstraints

from pullkeeper.model import ClusterId

COUNT: Final = 16
"""A run over a shard makes three storage calls, whatever it holds, at 1.5 ms of CPU each: with 64 shards they were a
seventh of what a fleet of 1,000 costs. 16 let four instances share a tick.
"""
Shard = Annotated[str, StringConstraints(pattern=r"^0[0-9a-f]$")]
"""A number below 16 as two hexadecimal digits."""


def shard_of(cluster: ClusterId) -> Shard:
    """Return the shard of a cluster. It never changes: the hash is of the id in lower case."""
    return f"{hashlib.sha256(str(cluster).lower().encode()).digest()[0] % COUNT:02x}"


def phase(shard: Shard) -> float:
    """Return where in a period the shard is due: a fraction, below 1."""
    return int(shard, 16) / COUNT
