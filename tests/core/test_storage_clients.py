"""The clients of tables and queues."""

import pytest

from local.serving import Authority
from pullkeeper.fleet.storage import connect_storage
from pullkeeper.settings import Settings
from tests.core.canned import ANY_PATH, http, serve_canned
from tests.core.credential import UncheckedCredential


@pytest.mark.usefixtures("netrc")
async def test_a_password_in_netrc_does_not_stop_calls_to_storage(authority: Authority) -> None:
    """The client would refuse to combine it with the signature."""
    async with serve_canned(authority, {ANY_PATH: http(200, {})}) as server:
        endpoints = ";".join(f"{name}Endpoint=https://{server.host}/a" for name in ("Table", "Queue"))
        settings = Settings.read({"AzureWebJobsStorage": f"AccountName=a;AccountKey=YWNjb3VudA==;{endpoints}"})
        tables, queues = connect_storage(settings, UncheckedCredential())
        async with tables, queues:
            await tables.get_table_client("fleet").get_entity("a", "b")
            await queues.get_queue_client("refresh").get_queue_properties()
    signed = [request.headers["authorization"].partition(":")[0] for request in server.requests]
    assert signed == ["SharedKey a"] * 2
