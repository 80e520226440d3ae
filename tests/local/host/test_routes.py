"""Route templates, by ASP.NET's rules."""

import pytest

from local.host.registrations import IndexingError
from local.host.routes import parse, segments


@pytest.mark.parametrize(
    ("template", "path", "values"),
    [
        ("things", "things", {}),
        ("things", "THINGS", {}),
        ("things", "thing", None),
        ("things", "things/more", None),
        ("things/{name}", "things/One", {"name": "One"}),
        ("things/{name}", "things", None),
        ("things/{name?}", "things", {}),
        ("things/{name=all}", "things", {"name": "all"}),
        ("{*rest}", "a/b/c", {"rest": "a/b/c"}),
        ("{*rest}", "", {}),
        ("a/{*rest}", "a", {}),
        ("{id:int}", "42", {"id": "42"}),
        ("{id:int}", "x42", None),
        ("{id:int?}", "", {}),
        ("{id:guid}", "6dae42f8-4368-4678-94ff-3960e28e3630", {"id": "6dae42f8-4368-4678-94ff-3960e28e3630"}),
        ("{id:guid}", "6dae42f8", None),
        ("{on:bool}", "True", {"on": "True"}),
        ("{on:bool}", "yes", None),
        ("{w:alpha}", "abc", {"w": "abc"}),
        ("{w:alpha}", "ab1", None),
        ("{w:length(3)}", "abc", {"w": "abc"}),
        ("{w:length(3)}", "abcd", None),
        ("{w:minlength(2):maxlength(3)}", "abc", {"w": "abc"}),
        ("{w:minlength(2):maxlength(3)}", "a", None),
        ("{n:range(1,5)}", "5", {"n": "5"}),
        ("{n:range(1,5)}", "6", None),
        ("{n:min(3)}", "2", None),
        ("{n:max(3)}", "many", None),
        ("{w:regex(^a+$)}", "aaa", {"w": "aaa"}),
        ("{w:regex(^a+$)}", "aba", None),
    ],
)
def test_templates_match_as_in_asp_net(template: str, path: str, values: dict[str, str] | None) -> None:
    assert parse(template).match(segments(path)) == values


@pytest.mark.parametrize("template", ["{", "a{b}", "{a}/{A}", "{*rest}/more", "{id:unheard}", "{id:range}", "{a}{b}"])
def test_a_template_that_cannot_be_is_told_when_indexing(template: str) -> None:
    with pytest.raises(IndexingError):
        parse(template)


def test_the_more_particular_route_comes_first() -> None:
    templates = ["{*rest}", "{a}/{b}", "{a:int}/{b}", "a/{b}", "a/b", "a/{b:int}"]
    ordered = sorted(templates, key=lambda template: parse(template).precedence)
    assert ordered == ["a/b", "a/{b:int}", "a/{b}", "{a:int}/{b}", "{a}/{b}", "{*rest}"]


@pytest.mark.parametrize(
    ("raw", "split"),
    [
        ("/api/a%20b", ["api", "a b"]),
        ("/api/a%2Fb", ["api", "a%2Fb"]),
        ("/api/a%2fb", ["api", "a%2Fb"]),
        ("/api/a%252Fb", ["api", "a%2Fb"]),
        ("/api/../admin", ["admin"]),
        ("/api/%2e%2e/admin", ["admin"]),
        ("/../../api/./x", ["api", "x"]),
        ("//api//x/", ["api", "x"]),
    ],
)
def test_a_path_is_decoded_once_and_never_gains_a_slash(raw: str, split: list[str]) -> None:
    """A client that cannot be trusted must not reach another route, or a deeper one, by encoding."""
    assert segments(raw) == split
