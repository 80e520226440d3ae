"""Route templates that the recordings have no case for."""

import pytest

from local.host import SettingsError
from local.host.routes import Route


@pytest.mark.parametrize(
    ("template", "path", "values"),
    [
        ("/{*rest}", "/a/b", {"rest": "a/b"}),
        ("/{*rest}", "/", {}),
        ("/things/{name?}", "/things", {}),
        ("/things/{name?}", "/things//", None),
        ("/a.b/{n}", "/axb/1", None),
        ("/{n:int}", "/2147483648", None),
    ],
)
def test_a_template_matches_as_in_the_real_host(template: str, path: str, values: dict[str, str] | None) -> None:
    assert Route.parse(template).match(path) == values


@pytest.mark.parametrize("template", ["//a", "/a?", "/{", "/{a}/{a}", "/{*rest}/more", "/{a?}/more", "/a*"])
def test_a_template_with_which_no_host_starts_is_refused(template: str) -> None:
    with pytest.raises(SettingsError, match="route"):
        Route.parse(template)


def test_a_constraint_that_is_not_played_is_named() -> None:
    assert Route.parse("/{id:range(1,5)}").unsupported == ":range(1,5)"
