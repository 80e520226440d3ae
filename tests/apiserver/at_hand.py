"""What the tests on real servers need: found, or left out with a word, or (PULLKEEPER_REAL=required) missed loudly."""

import functools
import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest

from local.kubernetes.apiserver import binaries

KUBERNETES = os.environ.get("PULLKEEPER_KUBERNETES", "1.37")


def kubernetes() -> Path:
    """The folder with kube-apiserver and etcd."""
    found = _binaries()
    if found is None:
        missing(f"no kube-apiserver {KUBERNETES} at hand", f"tests/apiserver/build {KUBERNETES}")
    return found


@functools.cache
def _binaries() -> Path | None:
    return binaries(KUBERNETES)


def program(name: str) -> Path:
    """A program of the system, which its package of the same name brings."""
    found = shutil.which(name)
    if found is None:
        missing(f"{name} is not installed", f"apt-get install {name}")
    return Path(found)


def missing(what: str, command: str, *, elsewhere: bool = False) -> NoReturn:
    """Skip or fail. Called from a hook (not from a fixture), it is one line in the summary for all tests together.

    elsewhere: no package registry serves it, and .ci/run says so where it is not beside the checkout.
    """
    reason = f"left out: {what}; this adds it: {command}"
    is_out_of_reach = elsewhere and os.environ.get("PULLKEEPER_SHARED") == "missing"
    if os.environ.get("PULLKEEPER_REAL") == "required" and not is_out_of_reach:
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)
