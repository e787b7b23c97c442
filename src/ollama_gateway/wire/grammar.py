r"""JSON's grammar as expressions over bytes that never backtrack, so no input makes them slow.

Each expression matches as much of its kind as it can and stops where a chunk of the document ends.
Runs take only numbers that are in range whatever their digits; `LITERAL` takes all others too, and
`is_in_range` checks those one by one.
"""

from __future__ import annotations

import math
import re
from typing import Final

MAX_INTEGER_DIGITS: Final = 4300
"""Digits of an integer that Python converts."""
MAX_PLAIN_DIGITS: Final = 200
"""Digits of an integer that needs no check of its range."""

_WHITESPACE = rb"[ \t\r\n]*+"
_UNESCAPED = rb'[^"\\\x00-\x1f]*+'
_STRING_CONTENT = rb'%b(?:\\(?:["\\/bfnrt]|u[0-9A-Fa-f]{4})%b)*+' % (_UNESCAPED, _UNESCAPED)
_STRING = rb'"%b"' % _STRING_CONTENT
_NUMBER = (
    rb"-?(?:0|[1-9][0-9]{0,199}+)(?:\.[0-9]++)?+(?:[eE](?:-[0-9]++|\+?[0-9]{1,2}+(?![0-9])))?+"
)
_SCALAR = rb"(?:%b|%b|true|false|null)" % (_STRING, _NUMBER)
_SCALAR_MEMBER = rb"%b%b:%b%b" % (_STRING, _WHITESPACE, _WHITESPACE, _SCALAR)

WHITESPACE: Final = re.compile(_WHITESPACE)
STRING: Final = re.compile(_STRING)
STRING_REST: Final = re.compile(_STRING_CONTENT)
"""The rest of a string that has begun."""
ELEMENTS: Final = re.compile(
    rb"(?:%b%b%b,)*+(?P<run>%b)(?:(?P<open>[\[{])|%b%b(?P<close>\]))?+"
    % (_WHITESPACE, _SCALAR, _WHITESPACE, _WHITESPACE, _SCALAR, _WHITESPACE)
)
"""Scalars of an array, each with its comma, and the end of the run: a container or the last one."""
MEMBERS: Final = re.compile(
    rb"(?:%b%b%b,)*+(?P<run>%b)(?:(?P<key>%b)%b:%b(?P<open>[\[{])|%b%b(?P<close>\}))?+"
    % (
        _WHITESPACE,
        _SCALAR_MEMBER,
        _WHITESPACE,
        _WHITESPACE,
        _STRING,
        _WHITESPACE,
        _WHITESPACE,
        _SCALAR_MEMBER,
        _WHITESPACE,
    )
)
"""The same for the members of an object."""
MEMBER: Final = re.compile(
    rb"(?P<key>%b)%b:%b(?:(?P<open>[\[{])|(?P<scalar>%b)(?=%b[,}]))"
    % (_STRING, _WHITESPACE, _WHITESPACE, _SCALAR, _WHITESPACE)
)
"""One member of an object, up to the opening of a container or the end of a scalar."""
LITERAL: Final = re.compile(
    rb"(?:(?P<digits>-?(?:0|[1-9][0-9]*+))(?P<rest>(?:\.[0-9]++)?+(?:[eE][+-]?[0-9]++)?+)"
    rb"|true|false|null)(?=[ \t\r\n,\]}])"
)
"""A number, true, false or null, followed by a byte that ends it."""
_STRINGS = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)


def commas(run: bytes) -> int:
    """Count the commas outside strings; a string takes about 100 ns."""
    return (_STRINGS.sub(b"", run) if b'"' in run else run).count(b",")


def needs_range_check(literal: re.Match[bytes]) -> bool:
    """Return whether only its value shows if a number is in range."""
    return (
        len(literal["digits"] or b"") > MAX_PLAIN_DIGITS or b"e" in (literal["rest"] or b"").lower()
    )


def is_in_range(number: re.Match[bytes]) -> bool:
    """Return whether Python can hold a number: finite, and no integer with too many digits."""
    if number["rest"]:
        return not math.isinf(float(number[0]))
    return len(number["digits"].lstrip(b"-")) <= MAX_INTEGER_DIGITS
