"""Schedules that the Functions host accepts, and those that would disable the timer."""

import calendar

import pytest

from pullkeeper.ncrontab import is_ncrontab


@pytest.mark.parametrize(
    "text",
    [
        "0 */5 * * * *",
        "* * * * * *",
        "*/5 * * * *",
        "0 0 9-17 * * 1-5",
        "30 0,15,30,45 * * * *",
        "0 5/10 * * * *",
        "0 0 0 1 Jan *",
        "0 30 9 * january,Jul-dec MON-Fri",
        "0 0-30/5 * * * 0",
        " 0  */5 * * * * ",
        "0 0 0 1 1 *",
        "0 9 * * 0",
    ],
)
def test_the_host_accepts(text: str) -> None:
    assert is_ncrontab(text)


def test_the_host_accepts_all_names_of_months_and_days() -> None:
    for month in calendar.month_name[1:]:
        assert is_ncrontab(f"0 0 0 1 {month} *")
    for day in calendar.day_name:
        assert is_ncrontab(f"0 0 0 * * {day}")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "*",
        "* * * *",
        "* * * * * * *",
        "00:05:00",
        "@hourly",
        "%REFRESH_SCHEDULE%",
        "60 * * * * *",
        "0 60 * * * *",
        "0 0 24 * * *",
        "0 0 0 0 * *",
        "0 0 0 32 * *",
        "0 0 0 * 13 *",
        "0 0 0 1 0 *",
        "0 24 * * *",
        "0 0 0 * * 7",
        "0 */0 * * * *",
        "0 */x * * * *",
        "0 -5 * * * *",
        "0 5- * * * *",
        "0 ,5 * * * *",
        "0 ? * * * *",
        "0 0 0 L * *",
        "0 0 0 * Feb-x *",
        "0 99999999999 * * * *",
        "\u0661 * * * * *",
        pytest.param(f"0 {'9' * 5000} * * * *", id="more digits than Python reads"),
        pytest.param(f"0 */{'9' * 5000} * * * *", id="a step of more digits than Python reads"),
    ],
)
def test_the_host_refuses(text: str) -> None:
    assert not is_ncrontab(text)
