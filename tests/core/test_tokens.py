"""A credential is shown by `reveal` alone, and all times follow from a token's life."""

import copy
import dataclasses
import json
import logging
import pickle
import traceback
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pullkeeper.tokens import ClientCertificate, EntraToken, Token

_NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
_HOUR = timedelta(hours=1)
_CANARY = "ya29.c.canary-0123456789"


def _token(life: timedelta = _HOUR, at: datetime = _NOW) -> Token:
    return Token(_CANARY, at, at + life)


_CREDENTIALS = [
    pytest.param(_token(), id="token"),
    pytest.param(EntraToken(_CANARY), id="entra"),
    pytest.param(ClientCertificate("public", _CANARY), id="certificate"),
]


@dataclasses.dataclass(frozen=True, slots=True)
class _Holder:
    """An object with a credential, as the use cases have."""

    credential: Token | EntraToken | ClientCertificate


def _formatted(credential: object) -> str:
    return f"{credential} {credential!r} {credential!s} {credential:>80} {[credential]} { ({'k': credential}) }"


def _in_slots(credential: object) -> list[object]:
    return [getattr(credential, name) for kind in type(credential).__mro__ for name in getattr(kind, "__slots__", ())]


def _traceback_with_locals(credential: object) -> str:
    def fail(held: object) -> None:
        raise ValueError(held)

    try:
        fail(credential)
    except ValueError as e:
        return "".join(traceback.TracebackException.from_exception(e, capture_locals=True).format())
    raise AssertionError


@pytest.mark.parametrize("credential", _CREDENTIALS)
@pytest.mark.parametrize(
    "shown",
    [
        pytest.param(repr, id="repr"),
        pytest.param(str, id="str"),
        pytest.param(ascii, id="ascii"),
        pytest.param(format, id="format"),
        pytest.param(_formatted, id="f-string"),
        pytest.param(lambda credential: "%s %r" % (credential, credential), id="percent"),  # noqa: UP031 - as logging does
        pytest.param("{0} {0!r} {0:s}".format, id="str.format"),
        pytest.param(lambda credential: repr(ValueError(credential)), id="an exception's argument"),
        pytest.param(_traceback_with_locals, id="a traceback with locals"),
        pytest.param(lambda credential: repr(dataclasses.asdict(_Holder(credential))), id="asdict of a holder"),
        pytest.param(lambda credential: repr(dataclasses.astuple(_Holder(credential))), id="astuple of a holder"),
        pytest.param(lambda credential: repr(dataclasses.asdict(credential)), id="asdict"),
        pytest.param(lambda credential: repr(dataclasses.astuple(credential)), id="astuple"),
        pytest.param(lambda credential: json.dumps([credential], default=str), id="JSON by str"),
        pytest.param(lambda credential: json.dumps([credential], default=repr), id="JSON by repr"),
        pytest.param(lambda credential: repr(copy.copy(credential)), id="copy"),
        pytest.param(lambda credential: repr(copy.deepcopy([credential])), id="deepcopy"),
        pytest.param(lambda credential: repr(credential.__getstate__()), id="its state"),
        pytest.param(lambda credential: repr(_in_slots(credential)), id="slots"),
    ],
)
def test_no_form_of_output_shows_a_credential(credential: object, shown: Callable[[object], str]) -> None:
    assert "canary" not in shown(credential)


@pytest.mark.parametrize("credential", _CREDENTIALS)
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_credential_cannot_be_pickled(credential: object, protocol: int) -> None:
    with pytest.raises(TypeError, match="must not be pickled") as refused:
        pickle.dumps(_Holder(credential), protocol)  # type: ignore[arg-type]
    assert "canary" not in str(refused.value)


@pytest.mark.parametrize("credential", _CREDENTIALS)
def test_a_credential_cannot_be_written_as_json(credential: object) -> None:
    with pytest.raises(TypeError, match="not JSON serializable") as refused:
        json.dumps(credential)
    assert "canary" not in str(refused.value)


@pytest.mark.parametrize("credential", _CREDENTIALS)
def test_a_log_line_does_not_show_a_credential(credential: object, caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("pullkeeper").warning("minted %s %r", credential, credential, extra={"token": credential})

    assert "minted" in caplog.text
    assert "canary" not in caplog.text
    assert "canary" not in repr(vars(caplog.records[0]))


@pytest.mark.parametrize("credential", _CREDENTIALS)
def test_a_copy_of_a_credential_is_the_credential(credential: object) -> None:
    assert copy.copy(credential) is credential
    assert copy.deepcopy([credential])[0] is credential


def test_credentials_with_the_same_text_and_times_are_equal() -> None:
    assert _token() == _token()
    assert hash(_token()) == hash(_token())
    assert _token() != Token("ya29.another", _NOW, _NOW + _HOUR)
    assert _token() != _token(_HOUR / 2)
    assert ClientCertificate("public", "private") == ClientCertificate("public", "private")
    assert ClientCertificate("public", "private") != ClientCertificate("public", "another")
    assert _token() != _CANARY


def test_reveal_returns_the_text() -> None:
    assert _token().reveal() == _CANARY
    assert ClientCertificate("public", "private").key == "private"


@pytest.mark.parametrize("field", ["issued_at", "expires_at"])
def test_a_token_does_not_change(field: str) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(_token(), field, _NOW)


# Its life


@given(life=st.timedeltas(timedelta(seconds=1), timedelta(hours=12)))
def test_a_token_is_written_while_five_sixths_of_its_life_are_left(life: timedelta) -> None:
    token, moment = _token(life), timedelta(microseconds=1)

    assert not token.may_be_written(_NOW - moment)
    assert token.may_be_written(_NOW)
    assert token.may_be_written(_NOW + life / 6)
    assert not token.may_be_written(_NOW + life / 6 + moment)


def test_of_an_hour_at_least_fifty_minutes_are_left() -> None:
    assert _token().may_be_written(_NOW + timedelta(minutes=10))
    assert not _token().may_be_written(_NOW + timedelta(minutes=10, seconds=1))


@pytest.mark.parametrize("life", [timedelta(), timedelta(seconds=-1), -_HOUR])
def test_a_token_without_life_is_never_written(life: timedelta) -> None:
    assert not any(_token(life).may_be_written(_NOW + timedelta(seconds=late)) for late in (-3600, -1, 0, 1, 3600))


@given(life=st.timedeltas(timedelta(seconds=1), timedelta(hours=12)))
def test_a_token_is_new_for_a_twelfth_of_its_life(life: timedelta) -> None:
    token, moment = _token(life), timedelta(microseconds=2)

    assert not token.is_new(_NOW - moment)
    assert token.is_new(_NOW)
    assert token.is_new(_NOW + life / 12)
    assert not token.is_new(_NOW + life / 12 + moment)
