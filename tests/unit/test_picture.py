"""Charts of measurements."""

import xml.etree.ElementTree as ET

import pytest
from bench.picture import Chart, Line, picture

SVG = "{http://www.w3.org/2000/svg}"


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in ET.fromstring(svg).iter(f"{SVG}text")]  # noqa: S314


def chart(*points: tuple[float, float], **how: bool) -> Chart:
    return Chart("Rows & locks", [Line("a<b", points)], x="minutes", y="rows", **how)


def test_a_picture_is_well_formed_and_says_what_it_shows() -> None:
    shown = texts(picture([chart((0, 1), (1, 4.5))], title="Soak <30 minutes>", subtitle="why"))
    assert {"Soak <30 minutes>", "why", "Rows & locks", "a<b", "minutes", "rows"} <= set(shown)


def test_ticks_are_round_and_begin_at_zero() -> None:
    shown = texts(picture([chart((0, 11), (30, 47))]))
    assert [text for text in shown if text.isdigit()] == [
        *["0", "10", "20", "30", "40", "50"],  # rows
        *["0", "5", "10", "15", "20", "25", "30"],  # minutes
    ]


def test_a_logarithmic_axis_counts_in_powers_of_ten() -> None:
    shown = texts(picture([chart((0, 1), (3, 20_000_000), log_y=True)]))
    assert shown[1:9] == ["1", "10", "100", "1,000", "10k", "100k", "1M", "10M"]
    with pytest.raises(ValueError, match="zero"):
        picture([chart((1, 0), log_y=True)])


def test_points_stand_where_the_axes_say() -> None:
    svg = picture([chart((0, 0), (10, 10))])
    line = next(ET.fromstring(svg).iter(f"{SVG}polyline"))  # noqa: S314
    assert line.get("points") == "62.0,274.0 504.0,58.0"


def test_a_flat_line_and_a_single_point_can_be_drawn() -> None:
    assert "polyline" in picture([chart((0, 0), (5, 0))])
    assert "polyline" in picture([chart((0, 3))])


def test_what_cannot_be_drawn_is_refused() -> None:
    with pytest.raises(ValueError, match="points"):
        picture([chart()])
    with pytest.raises(ValueError, match="order"):
        picture([chart((2, 1), (1, 1))])
