"""Who makes room: of the client that has most connections waiting, the one that waits longest."""

import math
from ipaddress import ip_address

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingress.clients import client_key
from ingress.server.gate import Gate, Waiting
from shared.settings import IngressSettings


class Connection:
    """A connection that does nothing but make room."""

    def __init__(self, gate: Gate | None, client: str) -> None:
        self.client = client
        self.held_bytes = 0
        self.waits_among: Waiting | None = None
        self.deadline = math.inf
        self.closed = False
        self._gate = gate

    def make_room(self) -> None:
        self.closed = True
        if self._gate:
            self._gate.leave(self)

    def time_is_up(self) -> None:
        raise AssertionError

    def end(self) -> None:
        raise AssertionError


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5)), max_size=60))
def test_the_longest_waiting_of_the_client_with_most_is_found_whatever_came_and_went(
    steps: list[tuple[bool, int]],
) -> None:
    waiting, there = Waiting(), list[Connection]()
    for comes, number in steps:
        if comes or not there:
            connection = Connection(None, str(number % 3))
            there.append(connection)
            waiting.add(connection)
        else:
            waiting.remove(there.pop(number % len(there)))
        of = {client: [each for each in there if each.client == client] for client in "012"}
        assert waiting.count == len(there)
        assert waiting.most == max(map(len, of.values()))
        if there:
            longest = waiting.longest()
            assert len(of[longest.client]) == waiting.most
            assert of[longest.client][0] is longest


def gate_of(**limits: int) -> tuple[Gate, list[str]]:
    gate = Gate(msgspec.structs.replace(IngressSettings(), **limits))
    told: list[str] = []
    gate.tell = told.append  # type: ignore[method-assign,assignment]
    return gate, told


def test_requests_that_have_shown_their_credentials_give_way_last() -> None:
    gate, told = gate_of(max_incomplete_requests=3)
    proven = [Connection(gate, "provider") for _ in range(3)]
    strangers = [Connection(gate, str(number)) for number in range(4)]
    for connection in (proven[0], strangers[0], proven[1], strangers[1], proven[2], *strangers[2:]):
        gate.wait(connection, incomplete=True, proven=connection in proven)
    assert [connection.closed for connection in strangers] == [True] * 4
    assert [connection.closed for connection in proven] == [False] * 3
    another = Connection(gate, "provider")
    gate.wait(another, incomplete=True, proven=True)
    assert proven[0].closed
    assert gate.incomplete == 3
    assert told == ["incomplete_closed"] * 5


def test_the_client_that_holds_most_bytes_gives_them_back() -> None:
    gate, _ = gate_of(max_incomplete_bytes=100)
    gate.max_incomplete_bytes = 100  # less than it takes up by itself
    small = [Connection(gate, "many") for _ in range(5)]
    large = [Connection(gate, "large") for _ in range(2)]
    for connection in (*small, *large):
        gate.wait(connection, incomplete=True)
    for connection in small:
        gate.hold(connection, 8)
    gate.hold(large[0], 40)
    gate.hold(large[1], 15)
    assert not any(connection.closed for connection in (*small, *large))
    gate.hold(small[0], 20)
    assert [connection.closed for connection in large] == [True, False]
    assert not any(connection.closed for connection in small)
    assert gate.held_bytes == 20 + 4 * 8 + 15
    for connection in (*small, large[1]):
        gate.go_on(connection)
    assert (gate.held_bytes, gate.incomplete) == (0, 0)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.2", False),
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
    ],
)
def test_a_client_is_an_address_or_a_network_of_ipv6(one: str, other: str, same: bool) -> None:
    assert (client_key(ip_address(one)) == client_key(ip_address(other))) == same
