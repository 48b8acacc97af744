"""The layout of Redis: every key that Headrace owns, documented here and nowhere else.

Times are milliseconds since 1970 by Redis's own clock. All keys but Celery's start with the gateway's prefix
(`redis.prefix`), here `hr:`, which is the default. Under any other prefix, all of Celery's start with it too.

What came in
    hr:inbox:<source>       stream: `body`, and `headers` (JSON) if any were kept; group `workers`.
                            Admission removes an entry, so what is here is not admitted yet.
    hr:alone:<source>       hash: inbox entry id → how often it was taken alone, after a crash
    hr:dedupe:<source>      string: `<until> <n>:<bits>:<ends> …`: the tables of its dedupe keys, newest
                            first: number, how many hashes it has (2^bits), when it ends (0: it takes new
                            keys). At <until> no key of an earlier version (below) is left
    hr:dedupe:<source>:<n>:<place>
                            hash: dedupe key → the event that holds it; expires a window after the last came,
                            or up to a third later. A key is `k` and half the SHA-256 of its parts (and its
                            counter's count), `b` and half that of the body if there are no parts, or `r`
                            and that half, of an event whose key counts; its place is from the first bytes of
                            that. An event is the milliseconds of its id (6 bytes), the id's last part, and
                            `+` and by how many milliseconds (hexadecimal) it was admitted late, if it was
    hr:dedupe:<source>:<d>  string, by earlier versions: the id of the event that holds this dedupe key
    hr:count:<source>:<d>   string: a counter of DedupeKey; expires by the window
    hr:event:<id>           hash: attributes, data, body (shared.event.record), digest (of the body),
                            type (content type, if it is not JSON's), targets (names, with commas),
                            open (how many of its deliveries are neither done nor out of here),
                            transaction (the end of its index's key, if it has one), copies (suppressed
                            ones), differing (how many of these had another body), copy_of (of a copy that was
                            admitted by hand);
                            and for each target that has been tried or settled:
                            failed:<target> (failed attempts), lapsed:<target> (leases that ran out),
                            ordered (`,names,` of the ordered targets among its targets),
                            age:<target> (ms: its attempts and the waits between them, up to the next one),
                            end:<target> (`done`, `dead`, `disk`: a dead letter that was moved to the disk
                            (shared.archive), `expired`: a dead letter past retention, `discarded`, or
                            `ended`: a replay brought the record back, and nobody knew how it had ended),
                            why:<target> (of what was given up: a word and a sentence,
                            shared.delivery.verdicts.Reason)
    hr:attempts:<id>        hash: `<target> <lease>` → JSON of one attempt (shared.store.due.Attempt)
                            An event that has finished is packed when it is a minute old: attributes, data,
                            body, type and its attempts are one compressed value then (shared.event.packing),
                            which hr:event:<id> holds in pieces `0`, `1`, …; `packed` says when (ms; not
                            before the leases of these attempts ended). The other fields stay, and may change.
                            If it is sent again, the attempts from then on stand in hr:attempts:<id>
    hr:open                 zset: event id by receipt, while a delivery of it is not done
    hr:finished             zset: event id by receipt, once none is and while it is not packed
    hr:packed               zset: event id by receipt, of those that are finished and packed
    hr:unknown              hash: source → how many events of a type that no mapping knows came from it
    hr:transaction:<provider>:<d>, hr:transaction:<provider>:<source>:<d>
                            zset: event id by receipt: the events of one transaction. <d> is a short digest
                            of its id: who reads compares the id. An event leaves it with retention. The
                            source is there if ids mean something only within it (standard-webhooks); events
                            that were admitted before it was stand under the provider's key
    hr:duplicates           zset: receipt id by receipt;  hr:duplicate:<id>  hash: of, source, digest,
                            headers (JSON) if any were kept, body if the first's is another or gone,
                            differs (if it is another)
    hr:quarantine           zset: receipt id by receipt;  hr:quarantined:<id>  hash: source, code,
                            detail, body, digest, headers, copies and differing as of an event

What goes out
    hr:due:<target>         zset: event id by when it is due
    hr:leased:<target>      zset: event id by when its lease runs out; that time is the claim's token
    hr:dead:<target>        zset: event id by when it became a dead letter
    hr:lane:<target>:<t>    list: event ids of one transaction in an ordered target, in inbox order; only the
                            first of them is due, leased or (if it holds the others) dead
    hr:held:<target>        set: the <t> of those lanes whose first is a dead letter that holds the others
    hr:turn:<source>        string: who admits from a source that feeds an ordered target; expires
    hr:target:<target>      hash: state (`paused`, `disabled`; absent: active), reason, state_since;
                            failures (in a row), failing_since, trips, open_until (the breaker);
                            hour, done, failed, done_before, failed_before (this hour and the last);
                            last_error, last_failed
    hr:rate:<target>        string: microseconds at which the next delivery may go, for a target with a
                            rate; expires when it says no more than none
    hr:targets              zset: target names by when a live process last had them in its configuration
    hr:sources              zset: source names by the same

How work is announced and kept
    hr:layout               string: the version of all that stands here (shared.store.layout)
    hr:rung:<doorbell>      string: a doorbell is outstanding; expires after a second
    headrace                list: Celery's queue, of doorbells
    hr:sweeper:<d>          string: which worker sweeps now, of those that know the same names (<d> is a short
                            digest of them); expires after a second
    hr:duty:<duty>:<d>      string: which worker has a duty, of those that know the same names: `shares`
                            (measures them, moves dead letters to disk) or `retention`; expires after seconds
    hr:shares               hash: those names' digest → JSON (shared.store.shares.Verdict): which targets and
                            sources are past their share of memory, and which unknown source has left what
    hr:ready                string: what the last readiness check wrote; expires after ten seconds
    hr:audit                stream: what operators did, the newest 10,000 or a few more: `action`
                            (`replay`, `admit`), `user`, `selected` (JSON), and how many (JSON):
                            `deliveries` (of a replay: by target), `requests` (admitted: by source)
"""

from collections.abc import Iterable
from hashlib import sha256

import msgspec

from shared.settings import PREFIX

QUEUE = "headrace"
GROUP = "workers"


class Keys(msgspec.Struct, frozen=True):
    """The names of one gateway's keys. No gateway touches a key under another's prefix.

    A prefix ends with its only colon, so none is the beginning of another.
    """

    prefix: str = PREFIX

    @property
    def celery(self) -> str:
        """What all of Celery's keys start with: nothing under the default prefix, as it always was."""
        return "" if self.prefix == PREFIX else self.prefix

    @property
    def queue(self) -> str:
        """Celery's queue of doorbells."""
        return self.celery + QUEUE

    @property
    def open(self) -> str:
        """The events with a delivery that is not done."""
        return f"{self.prefix}open"

    @property
    def finished(self) -> str:
        """The events with none, as far as they are not packed."""
        return f"{self.prefix}finished"

    @property
    def packed(self) -> str:
        """The events with none that are packed."""
        return f"{self.prefix}packed"

    @property
    def duplicates(self) -> str:
        """The suppressed copies."""
        return f"{self.prefix}duplicates"

    @property
    def quarantine(self) -> str:
        """The requests that were quarantined."""
        return f"{self.prefix}quarantine"

    @property
    def audit(self) -> str:
        """What operators did."""
        return f"{self.prefix}audit"

    @property
    def layout(self) -> str:
        """The version of the layout."""
        return f"{self.prefix}layout"

    @property
    def ready(self) -> str:
        """What the last readiness check wrote."""
        return f"{self.prefix}ready"

    @property
    def unknown(self) -> str:
        """How many events of unknown types came."""
        return f"{self.prefix}unknown"

    @property
    def targets(self) -> str:
        """When each target's name was last in use."""
        return f"{self.prefix}targets"

    @property
    def sources(self) -> str:
        """When each source's name was."""
        return f"{self.prefix}sources"

    @property
    def shares(self) -> str:
        """Who is past their share of memory."""
        return f"{self.prefix}shares"

    def inbox(self, source: str) -> str:
        """The stream of what was received for a source."""
        return f"{self.prefix}inbox:{source}"

    def alone(self, source: str) -> str:
        """The hash of how often entries of an inbox were taken alone."""
        return f"{self.prefix}alone:{source}"

    def dedupe(self, source: str) -> str:
        """The tables of a source's dedupe keys."""
        return f"{self.prefix}dedupe:{source}"

    def event(self, event_id: str) -> str:
        """The hash of an event."""
        return f"{self.prefix}event:{event_id}"

    def attempts(self, event_id: str) -> str:
        """The hash of an event's delivery attempts."""
        return f"{self.prefix}attempts:{event_id}"

    def transaction_index(self, transaction: str) -> str:
        """The set of a transaction's events."""
        return f"{self.prefix}transaction:{transaction}"

    def duplicate(self, event_id: str) -> str:
        """The hash of a recorded duplicate."""
        return f"{self.prefix}duplicate:{event_id}"

    def quarantined(self, event_id: str) -> str:
        """The hash of a quarantined request."""
        return f"{self.prefix}quarantined:{event_id}"

    def due(self, target: str) -> str:
        """The set of what waits for a target."""
        return f"{self.prefix}due:{target}"

    def leased(self, target: str) -> str:
        """The set of what is on its way to a target."""
        return f"{self.prefix}leased:{target}"

    def dead(self, target: str) -> str:
        """The set of a target's dead letters."""
        return f"{self.prefix}dead:{target}"

    def lane(self, target: str, transaction: str) -> str:
        """The list of one transaction's events in an ordered target."""
        return f"{self.prefix}lane:{target}:{transaction}"

    def held(self, target: str) -> str:
        """The set of a target's transactions that a dead letter holds."""
        return f"{self.prefix}held:{target}"

    def target(self, name: str) -> str:
        """The hash of what is known of a target."""
        return f"{self.prefix}target:{name}"

    def turn(self, source: str) -> str:
        """Who admits from a source whose events must stay in order."""
        return f"{self.prefix}turn:{source}"

    def rate(self, target: str) -> str:
        """When the next delivery to a target with a rate may go."""
        return f"{self.prefix}rate:{target}"

    def sweeper(self, sources: Iterable[str], targets: Iterable[str]) -> str:
        """Who sweeps now, among the workers that have these names in their configuration."""
        return f"{self.prefix}sweeper:{names_digest(sources, targets)}"

    def duty(self, name: str, digest: str) -> str:
        """Which worker has a duty, of those that know the same names."""
        return f"{self.prefix}duty:{name}:{digest}"

    def rung(self, doorbell: str) -> str:
        """The flag that a doorbell is outstanding."""
        return f"{self.prefix}rung:{doorbell}"


def transaction(provider: str, transaction_id: str, source: str | None = None) -> str:
    """Return where a transaction's events are indexed, as the end of that key.

    `source` is given if ids of this provider mean something only within their source.
    """
    # A quarter of SHA-256: two that met would share an index, and a reader tells them apart by their ids.
    digest = sha256(transaction_id.encode()).hexdigest()[:16]
    return f"{provider}:{digest}" if source is None else f"{provider}:{source}:{digest}"


def names_digest(sources: Iterable[str], targets: Iterable[str]) -> str:
    """A short digest of the names in a configuration."""
    names = f"{','.join(sorted(sources))};{','.join(sorted(targets))}"
    return sha256(names.encode()).hexdigest()[:16]
