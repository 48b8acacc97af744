"""The rules of what goes out: claimed, settled, handed back, released; and a worker's death."""

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from shared.store.due import Claimed, End
from tests.faults.model.clock import QUANTUM_MS
from tests.faults.model.product import ATTEMPT_MS, LEASE_MS
from tests.faults.model.records import State
from tests.faults.model.run import ROUTES, Held, Run, one_of, picked, picks, seldom, workers
from tests.integration.due import Claims

ends = st.sampled_from(
    [End.DONE, End.DONE, End.DONE, End.RETRY, End.RETRY, End.DEAD, End.DEAD, End.BACK, End.GONE]
)
late_ends = st.just(End.DONE) | ends  # only success still counts then
each = st.lists(ends, min_size=3, max_size=3)
LEASE_QUANTA = LEASE_MS // QUANTUM_MS
delays = st.sampled_from([0, 15_000, 60_000])


class GoingOut(Run):
    """Workers that deliver, and the sweep that puts back what they left."""

    @precondition(lambda self: self.with_due)
    @rule(
        worker=workers,
        name=one_of(lambda run: run.with_due),
        most=st.integers(1, 3),
        lost=seldom,
        twice=seldom,
    )
    def claim(self, worker: str, name: str, most: int, lost: bool, twice: bool) -> None:
        for _ in range(1 + twice):
            claims = self._claim(name, most)
        for claimed, _ in [] if lost else claims.entries:
            self.remember(self.claims, Held(worker, claimed))

    def _claim(self, target: str, most: int) -> Claims:
        concurrency = ROUTES[target].concurrency
        claims = self.product.claim(target, most, concurrency)
        expected = self.model.claim(target, most, concurrency, LEASE_MS)
        got = [(c.event_id, c.token, c.failed, event.body.decode()) for c, event in claims.entries]
        assert got == [(e.id, d.at, d.failed, e.body.decode()) for e, d in expected]
        for event, delivery in expected:
            claimed = next(claimed for claimed, _ in claims.entries if claimed.event_id == event.id)
            assert claimed.age_ms == delivery.age_ms
            self._goes_in_order(event.id, target)
        if self.model.targets[target].state == "active":
            assert claims.more == len(self.model.due(target))
        return claims

    def _goes_in_order(self, id: str, target: str) -> None:
        """In an ordered target nothing goes before what came before it in its transaction, and lives."""
        event = self.model.events[id]
        if target not in event.ordered or not event.straight or event.deliveries[target].by_hand:
            return
        for other in self.model.events.values():
            delivery = other.deliveries.get(target)
            if delivery is None or delivery.by_hand or not other.straight or target not in other.ordered:
                continue
            if (other.transaction, other.source) == (event.transaction, event.source) and other.id < id:
                assert delivery.state not in (State.WAITING, State.LEASED), f"{id} before {other.id}"

    @precondition(lambda self: self.claims)
    @rule(
        of=st.lists(st.tuples(picks, ends), min_size=1, max_size=3),
        delay_ms=delays,
        live=st.booleans(),
        again=st.none() | ends,
        twice=seldom,
    )
    def settle(
        self, of: list[tuple[int, End]], delay_ms: int, live: bool, again: End | None, twice: bool
    ) -> None:
        """End claims: the latest held ones (`live`); or also ended ones again, and ones whose lease ran out long ago."""
        claims = (self.live[-2:] if live else []) or self.claims
        batch = [(picked(claims, pick).claimed, end) for pick, end in of]
        batch += [(batch[0][0], again)] if again else []
        for _ in range(1 + twice):
            self._settle(batch, delay_ms)

    def _settle(self, batch: list[tuple[Claimed, End]], delay_ms: int) -> None:
        changed = self.product.settle(batch, delay_ms, self.hold)
        expected = []
        for claimed, end in batch:
            name, id, token = claimed.target, claimed.event_id, claimed.token
            word = "dead" if end is End.GONE else end.value
            age_ms = claimed.age_ms + ATTEMPT_MS + delay_ms
            did = self.model.settle(name, id, token, word, delay_ms, age_ms, hold=self.hold(name))
            expected.append(did)
            if did and end is End.GONE:
                self.model.gone(name)
        assert changed == expected

    @precondition(lambda self: self.with_due)
    @rule(worker=workers, name=one_of(lambda run: run.with_due), each=each, delay_ms=delays)
    def deliver(self, worker: str, name: str, each: list[End], delay_ms: int) -> None:
        """Claim and settle at once, as on most days."""
        claims = self._claim(name, 3)
        for claimed, _ in claims.entries:
            self.remember(self.claims, Held(worker, claimed))
        if claims.entries:
            batch = [(claimed, end) for (claimed, _), end in zip(claims.entries, each, strict=False)]
            self._settle(batch, delay_ms)

    @precondition(lambda self: self.with_due)
    @rule(worker=workers)
    def deliver_all(self, worker: str) -> None:
        """All that is due arrives, and then what stood behind it: without this, few events finish in a run."""
        for _ in range(3):
            for name in self.with_due:
                self.deliver(worker, name, [End.DONE] * 3, 0)

    @precondition(lambda self: self.with_due)
    @rule(
        name=one_of(lambda run: run.with_due),
        each=each,
        late=late_ends,
        together=st.sampled_from(["", "slow first", "slow first", "quick first"]),
    )
    def overtake(self, name: str, each: list[End], late: End, together: str) -> None:
        """A worker is so slow that its lease runs out; another is done with the delivery when it speaks up.

        `together`: one batch settles both, for it is the same worker.
        """
        self.make_slow(name)
        slow = [(claimed, late) for claimed in self.claims_of(name)]
        claims = self._claim(name, 3)
        for claimed, _ in claims.entries:
            self.remember(self.claims, Held("w2", claimed))
        quick = [(claimed, end) for (claimed, _), end in zip(claims.entries, each, strict=False)]
        batches = {"": [quick, slow], "slow first": [slow + quick], "quick first": [quick + slow]}[together]
        for batch in batches:
            if batch:
                self._settle(batch, 0)

    def make_slow(self, name: str) -> None:
        """Claim what is due for a target, and let the leases run out."""
        self.claim("w1", name, 3, False, False)
        self.pass_time(LEASE_QUANTA)
        self.release("w2", name, False)

    def claims_of(self, target: str) -> list[Claimed]:
        """Return what workers hold of a target, ended or not."""
        return [held.claimed for held in self.claims if held.claimed.target == target]

    @precondition(lambda self: self.having(State.LEASED))
    @rule(worker=workers, name=one_of(lambda run: run.with_lapsed or run.having(State.LEASED)), lost=seldom)
    def release(self, worker: str, name: str, lost: bool) -> None:
        back, spent = self.product.release(name)
        expected = self.model.release(name, LEASE_MS)
        assert (back, [(c.event_id, c.failed, c.age_ms, c.token) for c in spent]) == expected
        for claimed in [] if lost else spent:
            self.remember(self.claims, Held(worker, claimed))

    @precondition(lambda self: self.batches or self.claims or self.turns)
    @rule(worker=workers)
    def crash(self, worker: str) -> None:
        """A worker dies, and with it what it held; its entries, leases and turn stay in Redis."""
        self.batches = [batch for batch in self.batches if batch.worker != worker]
        self.claims = [held for held in self.claims if held.worker != worker]
        self.turns = [turn for turn in self.turns if turn.worker != worker]
