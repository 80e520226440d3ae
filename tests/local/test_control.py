"""What `python -m local.break` and `python -m local.fix` do with a running cloud."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from local.breaks import CannotBreak
from local.control import Control
from local.control_client import SOCKET
from local.demo import CLUSTERS
from local.hops import HOPS
from tests.docs.pages import ROOT
from tests.world import World

pytestmark = pytest.mark.servers


class Restarts:
    """Counts them."""

    def __init__(self) -> None:
        self.count = 0

    async def __call__(self) -> None:
        self.count += 1


@pytest.fixture
def restarts() -> Restarts:
    return Restarts()


@pytest.fixture
def control(world: World, restarts: Restarts) -> Control:
    return Control(world.cloud, restarts)


async def test_what_is_broken_is_reported_with_commands_that_have_no_gaps(world: World, control: Control) -> None:
    cluster = await world.join("aks-1")
    for ways in HOPS.values():
        for way in ways.values():
            for text in (way.event, way.repair):
                assert not {"{", "}"} & set(control.fill_in(text, cluster))
    lines = await control.break_hop("registry-permission", "aks-1")
    assert "of all clusters of the hub main" in lines[0]
    assert f"--member=serviceAccount:{world.cloud.hubs['main'].service_account}" in lines[0]
    assert "registry_denied" in lines[1]
    assert "python -m local.fix registry-permission aks-1" in lines[1]


async def test_a_hop_of_a_hub_is_repaired_by_the_name_of_any_of_its_clusters(world: World, control: Control) -> None:
    clusters = [await world.join(f"aks-{n}") for n in range(2)]
    await control.break_hop("impersonation", "aks-0")
    with pytest.raises(CannotBreak, match="broken already"):
        await control.break_hop("impersonation", "aks-1")
    assert await world.refresh_category(clusters[0]) == "impersonation_denied"
    await control.fix("impersonation", "aks-1")
    await control.break_hop("impersonation", "aks-1")


async def test_an_unreachable_cluster_is_repaired_first(world: World, control: Control) -> None:
    await world.join("aks-1")
    await control.break_hop("permission", "aks-1")
    await control.break_hop("api-server", "aks-1")
    for change in (control.fix("permission", "aks-1"), control.break_hop("secret", "aks-1")):
        with pytest.raises(CannotBreak, match="first fix api-server"):
            await change
    await control.fix("api-server", "aks-1")
    await control.fix("permission", "aks-1")
    assert control.list_broken() == []


async def test_what_a_refresh_repairs_needs_no_fix(world: World, control: Control) -> None:
    cluster = await world.join("aks-1")
    await world.refresh(cluster)
    await control.break_hop("secret", "aks-1", "edited")
    assert control.list_broken() == []
    with pytest.raises(CannotBreak, match="Broken now: nothing"):
        await control.fix("secret", "aks-1")


async def test_the_app_is_restarted_where_it_would_go_on_with_its_tokens(
    world: World, control: Control, restarts: Restarts
) -> None:
    await world.join("aks-1")
    await control.break_hop("token-exchange", "aks-1")
    assert restarts.count == 0
    await control.break_hop("entra-token", "aks-1")
    assert restarts.count == 1


def test_the_readme_breaks_and_fixes_what_the_demo_has() -> None:
    commands = re.findall(r"python -m local\.(?:break|fix) ([a-z-]+) ([a-z-]+)", (ROOT / "README.md").read_text())
    assert commands
    assert {hop for hop, _ in commands} <= {*HOPS}
    assert {cluster for _, cluster in commands} <= {planned.name for planned in CLUSTERS}


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["secret", "shop-west"], 1, "make up"),
        (["secret"], 2, "CLUSTER"),
        (["--list"], 1, "make up"),
    ],
)
def test_the_command_line_says_what_is_missing(tmp_path: Path, arguments: list[str], code: int, text: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "local.break", *arguments],
        env={SOCKET: str(tmp_path / "none")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, text in ended.stdout + ended.stderr) == (code, True), ended
