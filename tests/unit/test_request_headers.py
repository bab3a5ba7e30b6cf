"""Request headers: what a client may give."""

from __future__ import annotations

import pytest

from agnt5.contracts.errors import InvalidInputError
from agnt5.contracts.headers import check_headers


def test_names_count_in_any_case_and_values_stay_as_they_are():
    given = {"X-Tenant": " Acme \t", "traceparent": "00-1-2-01", "größe".encode().hex(): "größe", "empty": ""}
    assert check_headers(given) == {name.lower(): value for name, value in given.items()}
    assert check_headers(None) == check_headers({}) == {}
    assert check_headers({"a": "x" * 8192}) == {"a": "x" * 8192}


@pytest.mark.parametrize(
    ("headers", "says"),
    [
        ({"tenant": 7}, "header 'tenant': its value is text, found 7"),
        ({"tenant": None}, "its value is text"),
        ({"tenant": "a\r\nx-admin: 1"}, "control character"),
        ({"tenant": "a\x00"}, "control character"),
        ({"tenant": "\ud800"}, "lone surrogate"),
        ({"ten ant": "a"}, "a name of 1 to 100"),
        ({"": "a"}, "a name of 1 to 100"),
        ({7: "a"}, "a name of 1 to 100"),
        ({"tenant": "a", "Tenant": "b"}, "given twice"),
        ({"tenant": "x" * 8193}, "8,193 bytes, at most 8,192"),
        ({f"h{n}": "x" * 8000 for n in range(3)}, "bytes together"),
        ([("tenant", "a")], "a mapping of names"),
    ],
)
def test_headers_that_are_none_are_refused_by_name(headers, says):
    with pytest.raises(InvalidInputError, match=says):
        check_headers(headers)
