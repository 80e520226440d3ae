"""Signing in with Entra: the real Azure CLI gets the token that the command line sends."""

from collections.abc import AsyncIterator

import jwt
import pytest
from aiohttp import web

from local.azure.entra import IdentityEndpoint, Resource
from local.cloud import SUBSCRIPTION
from local.serving import Server
from tests.cli.conftest import FAILED, SUCCEEDED, Cli
from tests.core.canned import ANY_PATH, http, serve_canned
from tests.docs import azure_cli
from tests.docs.pipelines import run_program
from tests.world import World

_AUDIENCE = "api://pullkeeper"
pytestmark = pytest.mark.servers
_PAGE = http(200, {"clusters": [], "continuation": None})


@pytest.fixture
async def signed_in(lonely: Cli, world: World) -> AsyncIterator[Cli]:
    """az, signed in as a managed identity of a tenant that knows the app."""
    az, cloud = azure_cli.program("az"), world.cloud
    operator = cloud.entra.add_identity("operator")
    cloud.entra.resources[_AUDIENCE] = Resource()
    cloud.arm.assign(operator.principal_id, f"/subscriptions/{SUBSCRIPTION}", frozenset({"Microsoft.Web/sites/read"}))
    settings = cloud.environment(world.storage)
    (lonely.folder / ".azure").mkdir()
    clouds = f"[AzureCloud]\nendpoint_resource_manager = {settings['ARM_ENDPOINT']}\n"
    (lonely.folder / ".azure" / "clouds.config").write_text(clouds, encoding="utf-8")
    endpoint = IdentityEndpoint(cloud.entra, world.clock, [], operator)
    application = web.Application()
    application.add_routes(endpoint.routes())
    server = Server(application, authority=None)
    await server.start()
    trusted = dict.fromkeys(("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"), settings["SSL_CERT_FILE"])
    environment = {**azure_cli.environment(lonely.folder), **trusted, **endpoint.environment(server.url)}
    login = await run_program([str(az), "login", "--identity", "--output", "none"], environment, lonely.folder)
    assert (login.code, login.err) == (0, "")
    lonely.more.update(environment, PULLKEEPER_AUDIENCE=_AUDIENCE, PULLKEEPER_KEY="")
    yield lonely
    await server.stop()


async def test_the_token_of_az_opens_the_app(signed_in: Cli) -> None:
    async with serve_canned(None, {ANY_PATH: _PAGE}) as server:
        run = await signed_in.run("get", "clusters", PULLKEEPER_URL=f"http://{server.host}")
    assert run.code == SUCCEEDED, run
    [request] = server.requests
    kind, _, token = request.headers["authorization"].partition(" ")
    assert (kind, jwt.decode(token, options={"verify_signature": False})["aud"]) == ("Bearer", _AUDIENCE)
    assert "x-functions-key" not in request.headers
    assert token not in run.out + run.err


async def test_an_application_that_the_tenant_does_not_know_is_named(signed_in: Cli) -> None:
    run = await signed_in.run("get", "clusters", "--audience", "api://other", PULLKEEPER_URL="https://app.example")
    assert (run.code, run.out) == (FAILED, "")
    assert (
        run.err == "✗ the Azure CLI gives no token for api://other\n  remedy: az login --scope api://other/.default\n"
    )


async def test_without_az_it_says_what_to_do(lonely: Cli) -> None:
    more = {"PULLKEEPER_KEY": "", "PULLKEEPER_AUDIENCE": _AUDIENCE, "PATH": "/nowhere"}
    run = await lonely.run("get", "clusters", PULLKEEPER_URL="https://app.example", **more)
    assert run.code == FAILED
    assert (
        run.err == f"✗ the Azure CLI gives no token for {_AUDIENCE}\n  remedy: az login --scope {_AUDIENCE}/.default\n"
    )
