from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from jobs.simulator.wire import receive, send

NUMBERS = arrays.arrays(
    st.sampled_from([np.uint8, np.float32, np.float64, np.int64, np.bool_]),
    arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3),
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text() | NUMBERS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=4,
)


def same(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.text(max_size=4), VALUES, max_size=3))
def test_messages_come_back_as_they_were(message: dict[str, Any]) -> None:
    file = io.BytesIO()
    send(file, message)
    send(file, {"next": 1})
    file.seek(0)
    assert same(receive(file), message)
    assert receive(file) == {"next": 1}


def test_a_message_cut_anywhere_is_an_end() -> None:
    file = io.BytesIO()
    send(file, {"a": np.arange(3), "b": "text"})
    whole = file.getvalue()
    for cut in range(len(whole)):
        with pytest.raises(EOFError):
            receive(io.BytesIO(whole[:cut]))


@pytest.mark.parametrize("value", [object(), np.array(["text"]), np.array([None], object)])
def test_only_numbers_and_json_are_sent(value: Any) -> None:
    with pytest.raises(TypeError, match=r"cannot be sent"):
        send(io.BytesIO(), {"a": value})
