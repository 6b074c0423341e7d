"""How times are read: dates, zones, counts of s, ms, us and ns, and what nobody can know."""

from datetime import UTC, date, datetime

import numpy as np
import pyarrow as pa
import pytest

from rporec_recbole.errors import ConfigError, DatasetError
from rporec_recbole.tables.times import Times, day, moment, seconds

NOON = 1709640000  # 2024-03-05 12:00 UTC


def read(texts, given=None):
    times = Times(given, "when")
    micros, there = times.read(pa.array(texts))
    return times, [text if ok else None for text, ok in zip(seconds(micros), there.tolist(), strict=True)]


@pytest.mark.parametrize(
    ("texts", "expected", "how"),
    [
        (["2024-03-05T12:00:00Z", "2024-03-05T13:00:00+01:00", "2024-03-05 12:00:00 UTC"], [NOON] * 3, "dates"),
        (["2024-03-05 12:00", "2024-03-05", " 2024-03-05T12:00:00.25 "], [NOON, NOON - 43200, f"{NOON}.25"], "dates"),
        (["2024/03/05 12:00:00"], [NOON], "dates"),
        (["20240305", "20240306"], [NOON - 43200, NOON + 43200], "dates as %Y%m%d"),
        (["20240305120000"], [NOON], "dates as %Y%m%d%H%M%S"),
        ([str(NOON), f"{NOON}.0", f"{NOON}.5"], [NOON, NOON, f"{NOON}.5"], "seconds since 1970"),
        ([f"{NOON}123"], [f"{NOON}.123"], "milliseconds since 1970"),
        ([f"{NOON}000001"], [f"{NOON}.000001"], "microseconds since 1970"),
        ([f"{NOON}000000999"], [NOON], "nanoseconds since 1970"),
        (["1.70964e9"], [NOON], "seconds since 1970"),
        (["3", "1", "2"], [3, 1, 2], "plain numbers, of which the order counts and nothing else"),
        (["25/03/2024", "05/03/2024"], [NOON + 20 * 86400 - 43200, NOON - 43200], "dates as %d/%m/%Y"),
        (["03/25/2024 12:00", "03/05/2024 12:00"], [NOON + 20 * 86400, NOON], "dates as %m/%d/%Y %H:%M"),
        (["05.03.2024 12:00:00"], [NOON], "dates as %d.%m.%Y %H:%M:%S"),
        (["25-03-24"], [NOON + 20 * 86400 - 43200], "dates as %d-%m-%y"),
        (["2024-03-05 12:00 PM", "2024-03-05 12:30 PM"], [NOON, NOON + 1800], "dates as %Y-%m-%d %I:%M %p"),
        (["2024.03.05"], [NOON - 43200], "dates as %Y.%m.%d"),
        (["Mar 5, 2024", "Mar 15, 2024"], [NOON - 43200, NOON + 10 * 86400 - 43200], "dates as %b %d, %Y"),
        (["05-Mar-2024"], [NOON - 43200], "dates as %d-%b-%Y"),
        (["1969-12-31T23:59:59.5Z"], ["-0.5"], "dates"),
    ],
)
def test_times_are_found_out_and_said(texts, expected, how):
    times, found = read(texts)
    assert (found, times.how) == ([str(one) for one in expected], how)


def test_typed_times_keep_zone_and_unit():
    noon = datetime(2024, 3, 5, 12, tzinfo=UTC)
    for kind in (pa.timestamp("s", "UTC"), pa.timestamp("ns", "UTC"), pa.timestamp("us", "Europe/Berlin")):
        times = Times(None, "when")
        micros, there = times.read(pa.array([noon, None], kind))
        assert (micros[0], there.tolist(), times.unzoned) == (NOON * 1_000_000, [True, False], 0)
    times = Times(None, "when")
    assert times.read(pa.array([date(2024, 3, 5)]))[0].tolist() == [(NOON - 43200) * 1_000_000]
    assert times.unzoned == 1
    assert Times(None, "when").read(pa.array([float(NOON), None]))[1].tolist() == [True, False]


def test_dates_without_a_zone_are_counted():
    assert read(["2024-03-05", "2024-03-05T12:00-05:00", "2024-03-05 12:00", "x"])[0].unzoned == 2


def test_what_cannot_be_read_is_marked():
    assert (
        read(["2024-03-05"] * 4 + ["2024-02-30", "", None, "soon", "2024"])[1] == [str(NOON - 43200)] * 4 + [None] * 5
    )
    assert read([str(NOON), str(NOON), f"{NOON}000", "NA"])[1] == [str(NOON), str(NOON), None, None]  # ms among seconds
    assert read([f"{NOON}000", f"{NOON}000", str(NOON)])[1] == [str(NOON), str(NOON), None]


def test_a_later_batch_is_read_as_the_first_one():
    times = Times(None, "when")
    times.read(pa.array([None, ""], pa.string()))
    times.read(pa.array(["25/03/2024"]))
    assert times.read(pa.array(["05/03/2024", "03/25/2024"]))[1].tolist() == [True, False]


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (["03/05/2024", "01/02/2024"], "--time_format='%d/%m/%Y'"),
        (["25/03/2024", "03/25/2024"], "day first in some rows"),
        (["yesterday"], "--time_format"),
    ],
)
def test_what_nobody_can_know_is_refused(texts, said):
    with pytest.raises(DatasetError, match="of `when`") as error:
        read(texts)
    assert said in str(error.value)


def test_a_format_decides():
    assert read(["03/05/2024"], "%d/%m/%Y")[1] == ["1714694400"]
    assert read(["03/05/2024"], "%m/%d/%Y")[1] == [str(NOON - 43200)]
    assert read(["17"], "ms")[1] == ["0.017"]
    assert read(["2024-03-05", "5"], "iso")[1] == [str(NOON - 43200), None]
    with pytest.raises(ConfigError, match=r"none\. Write s, ms"):
        Times("days", "when")


def test_moments_of_options():
    assert moment("2024-03-05T12:00Z", "--since") == NOON * 1_000_000
    assert day(NOON * 1_000_000) == "2024-03-05"
    assert day(np.int64(2**62)) == "4611686018427"
    with pytest.raises(ConfigError, match="--since=gestern"):
        moment("gestern", "--since")
