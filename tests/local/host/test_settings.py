"""host.json: defaults, values, the environment over it, and what is refused."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from local.host.settings import HostSettings, QueueSettings, SettingsError

ROOT = Path(__file__).parents[3]


def read(folder: Path, document: Any, **environment: str) -> HostSettings:
    (folder / "host.json").write_text(document if isinstance(document, str) else json.dumps(document))
    return HostSettings.read(folder, environment)


def test_the_defaults_are_the_platforms(tmp_path: Path) -> None:
    settings = read(tmp_path, {"version": "2.0"})
    assert settings == HostSettings("api", timedelta(minutes=30), QueueSettings())
    queues = settings.queues
    assert (queues.batch_size, queues.new_batch_threshold, queues.max_dequeue_count) == (16, 8, 5)
    assert (queues.visibility_timeout, queues.max_polling_interval) == (timedelta(0), timedelta(minutes=1))


def test_the_environment_stands_over_the_file(tmp_path: Path) -> None:
    """Under the names that Azure reads, whatever their case."""
    document = {"version": "2.0", "extensions": {"queues": {"visibilityTimeout": "00:01:00", "batchSize": 4}}}
    settings = read(
        tmp_path,
        document,
        AzureFunctionsJobHost__extensions__queues__visibilityTimeout="00:00:01",
        AzureFunctionsJobHost__EXTENSIONS__queues__maxdequeuecount="9",
        AzureFunctionsJobHost__functionTimeout="-1",
    )
    assert settings.queues.visibility_timeout == timedelta(seconds=1)
    assert (settings.queues.batch_size, settings.queues.new_batch_threshold) == (4, 2)
    assert settings.queues.max_dequeue_count == 9
    assert settings.function_timeout is None


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ("{", "host.json: Expecting"),
        ({}, "version"),
        ({"version": "2.0", "extensions": {"queues": {"batchSize": 33}}}, "less than or equal to 32"),
        ({"version": "2.0", "extensions": {"queues": {"visibilityTimeout": "30"}}}, "'30' is not a duration"),
        ({"version": "2.0", "extensions": {"queues": {"visibiltyTimeout": "00:00:30"}}}, "Extra inputs"),
        ({"version": "2.0", "extensions": {"queues": {"messageEncoding": "hex"}}}, "'base64'"),
    ],
)
def test_a_value_with_which_no_host_starts_is_refused(tmp_path: Path, document: Any, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        read(tmp_path, document)


def test_our_own_host_json_keeps_what_its_page_promises() -> None:
    """The promises of docs/host-json.md that break an app when they do not hold."""
    settings = HostSettings.read(ROOT, {})
    assert settings.function_timeout is not None
    assert settings.function_timeout < timedelta(minutes=10), "a message could be worked on twice at once"
    assert settings.queues.visibility_timeout >= timedelta(seconds=30), "an outage would poison the fleet"
    assert settings.queues.message_encoding == "base64"


def test_every_setting_of_host_json_is_explained() -> None:
    page = (ROOT / "docs" / "host-json.md").read_text()
    document = json.loads((ROOT / "host.json").read_text())
    queues = document["extensions"]["queues"]
    names = (document.keys() - {"version", "extensions", "logging"}) | queues.keys() | {"routePrefix", "logLevel"}
    assert [name for name in sorted(names) if name not in page] == []
    values = {value for value in queues.values() if isinstance(value, str)} | {document["functionTimeout"]}
    assert [value for value in sorted(values) if value not in page] == []
