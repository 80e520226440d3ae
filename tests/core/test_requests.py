"""What routes read: the query as the caller wrote it in the URL, and a body of which nothing was lost."""

import azure.functions as func
import pytest

from functions.requests import boolean_parameter, check_query, parameter, read_body
from pullkeeper.errors import InvalidRequest, TooLarge

_TAKEN = ("keepWorkload", "dryRun")


def _request(query: str, **params: str) -> func.HttpRequest:
    """params: what the host makes of the query, as it was recorded on the real host."""
    return func.HttpRequest("DELETE", f"https://app.example/api/clusters/s/g/n?{query}", params=params, body=b"")


@pytest.mark.parametrize(
    ("query", "params", "fault"),
    [
        ("dryRun=", {}, "dryRun: empty"),
        ("dryRun", {}, "dryRun: empty"),
        ("keepWorkload=true&dryRun=", {"keepWorkload": "true"}, "dryRun: empty"),
        ("dryRun=true&dryRun=false", {"dryRun": "true,false"}, "dryRun: repeated"),
        ("dryRun=true&dryRun=true", {"dryRun": "true,true"}, "dryRun: repeated"),
        ("dryRun=&dryRun=true", {"dryRun": "true"}, "dryRun: repeated"),
        ("DRYRUN=true", {"DRYRUN": "true"}, "DRYRUN: unknown"),
        ("dryRun=true&DryRun=false", {"dryRun": "true,false"}, "DryRun: unknown"),
        ("dryrun", {}, "dryrun: unknown"),
        ("dry-run=true", {"dry-run": "true"}, "dry-run: unknown"),
        ("foo=", {}, "foo: unknown"),
        ("=true", {}, "letters and digits: unknown"),
        ("Code=key", {"Code": "key"}, "Code: unknown"),
        ("dryRun=true%26dryRun%3Dfalse&x", {"dryRun": "true&dryRun=false"}, "x: unknown"),
        ("dryRun%20=true", {"dryRun ": "true"}, "letters and digits: unknown"),
        pytest.param(f"{'a' * 600}=1", {}, "letters and digits: unknown", id="a long name"),
    ],
)
def test_a_parameter_that_is_empty_repeated_or_unknown_is_named(query: str, params: dict[str, str], fault: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        check_query(_request(query, **params), _TAKEN)

    assert fault in refused.value.detail
    assert "keepWorkload, dryRun" in refused.value.detail


def test_every_fault_of_a_query_is_named_at_once() -> None:
    with pytest.raises(InvalidRequest, match=r"x: unknown; keepWorkload: empty; dryRun: repeated"):
        check_query(_request("x=1&keepWorkload=&dryRun=true&dryRun=true"), _TAKEN)


def test_an_unknown_parameter_has_no_other_fault() -> None:
    """Its name is not quoted: it may be anything."""
    with pytest.raises(InvalidRequest, match=r"query: a name with [^;]*: unknown\. This route"):
        check_query(_request("%3Cb%3E=&%3Cb%3E="), _TAKEN)


def test_a_route_without_parameters_says_so() -> None:
    with pytest.raises(InvalidRequest, match=r"state: unknown. This route takes no parameters"):
        check_query(_request("state=fresh"), ())


@pytest.mark.parametrize("query", ["", "&", "code=a&clientId=b", "code=", "code=a&code=b", "dryRun=true&code=a"])
def test_the_parameters_of_the_platform_are_ignored(query: str) -> None:
    check_query(_request(query), _TAKEN)


@pytest.mark.parametrize("value", ["TRUE", "True", "1", "yes", "%20", "+", "true,true", "%ff", "%zz", "true%20"])
def test_a_boolean_is_true_or_false(value: str) -> None:
    with pytest.raises(InvalidRequest, match=r"^invalid_request: dryRun: must be true or false$"):
        boolean_parameter(_request(f"dryRun={value}"), "dryRun")


def test_parameters_are_read_from_the_url_alone() -> None:
    request = _request("keepWorkload=true&hub=a%20b", keepWorkload="false", dryRun="true")

    assert boolean_parameter(request, "keepWorkload")
    assert not boolean_parameter(request, "dryRun")
    assert parameter(request, "hub") == "a b"
    assert parameter(request, "state") is None


def _body(body: bytes, **headers: str) -> func.HttpRequest:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return func.HttpRequest("POST", "https://app.example/api/clusters", headers=named, body=body)


@pytest.mark.parametrize(
    "headers", [{"transfer_encoding": "chunked"}, {"transfer_encoding": "chunked", "x_content_length": "3"}, {}]
)
def test_a_body_that_the_host_dropped_is_reported_as_such(headers: dict[str, str]) -> None:
    """The headers are as the real host passes them on."""
    with pytest.raises(InvalidRequest, match="arrived empty, because the request has no Content-Length"):
        read_body(_body(b"", **headers))


def test_an_empty_body_is_reported() -> None:
    with pytest.raises(InvalidRequest, match=r"the body is empty$"):
        read_body(_body(b"", content_length="0"))


def test_a_body_has_a_limit() -> None:
    assert read_body(_body(b"x" * 262_144)) == b"x" * 262_144
    with pytest.raises(TooLarge):
        read_body(_body(b"x" * 262_145))
