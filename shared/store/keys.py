"""The layout of Redis: every key that Headrace owns, documented here and nowhere else.

Times are milliseconds since 1970 by Redis's own clock. All keys but Celery's start with the gateway's prefix
(`redis.prefix`): here with the default, `hr:`. Under any other prefix, Celery's keys start with it, too.

What came in
    hr:inbox:<source>       stream: `body`, and `headers` (JSON) if any were kept; group `workers`.
                            Admission removes an entry: what is here is not admitted yet
    hr:alone:<source>       hash: inbox entry id → how often it was taken alone, after a crash
    hr:dedupe:<source>      string: `<until> <n>:<bits>:<ends> …`: the tables of its dedupe keys, newest
                            first. <n>: a table's number; it has 2^<bits> hashes; <ends>: when it ends (0: it
                            takes new keys). After <until> there is no key of an earlier version (below)
    hr:dedupe:<source>:<n>:<place>
                            hash: dedupe key → the event that holds it; expires between a window and four
                            thirds of one after its last key came. A key is a letter and half a SHA-256: `k`
                            and that of its parts (then the count of its counter, if it has one); `b` and that
                            of the body, if there are no parts; `r` and that of the body, if the event has a
                            key with a counter, too. <place> is from the first bytes of the SHA-256. An event
                            is written as the milliseconds of its id (6 bytes), the id's last part, and, if it
                            was admitted late, `+` and by how many milliseconds (hexadecimal)
    hr:dedupe:<source>:<d>  string, of earlier versions: the id of the event that holds this dedupe key
    hr:count:<source>:<d>   string: a counter of DedupeKey; expires after the window
    hr:event:<id>           hash: attributes, data, body (shared.event.record), digest (of the body),
                            type (content type, if it is not JSON's), targets (names, with commas),
                            ordered (`,names,` of the ordered ones among them),
                            open (how many of its deliveries wait, are leased or are dead letters in Redis),
                            transaction (the end of the key of its transaction's index, if it has one),
                            copies (how many were suppressed), differing (how many of these had another body),
                            copy_of (if it is a copy that was admitted by hand: its first),
                            erased (ms: when personal data in it was erased);
                            and for each target that has been tried or settled:
                            failed:<target> (failed attempts), lapsed:<target> (leases that ran out),
                            age:<target> (ms: its attempts and the waits between them, up to the next one),
                            end:<target> (`done`; `dead`: a dead letter; `disk`: one that was moved to disk
                            (shared.archive); `expired`: one past retention; `discarded`; `ended`: a replay
                            restored the record without knowing how this delivery ended),
                            why:<target> (why it was given up: a word and a sentence,
                            shared.delivery.verdicts.Reason)
    hr:attempts:<id>        hash: `<target> <lease>` → JSON of one attempt (shared.store.due.Attempt).
                            A finished event is packed when it is a minute old. Then attributes, data, body,
                            type and its attempts are one compressed value (shared.event.packing), in the
                            fields `0`, `1`, … of hr:event:<id>; its field `packed` says when (ms; not before
                            the leases of these attempts ended). The other fields stay, and may change.
                            If the event is sent again, hr:attempts:<id> has the attempts from then on
    hr:open                 zset: event id by receipt: the events whose `open` is not 0
    hr:finished             zset: event id by receipt: those whose `open` is 0, until they are packed
    hr:packed               zset: event id by receipt: those whose `open` is 0 and that are packed
    hr:unknown              hash: source → how many of its events have a type that no mapping knows
    hr:transaction:<provider>:<d>, hr:transaction:<provider>:<source>:<d>
                            zset: event id by receipt: the events of one transaction. <d> is a short digest of
                            the transaction's id: two may share it, so a reader compares the ids. Retention
                            removes an event from it. <source> is there if ids are unique only within a source
                            (standard-webhooks); events of versions without it stand under the provider's key
    hr:duplicates           zset: receipt id by receipt;  hr:duplicate:<id>  hash: of, source, digest,
                            headers (JSON) if any were kept, body if the first's is another or gone,
                            differs (if it is another)
    hr:quarantine           zset: receipt id by receipt;  hr:quarantined:<id>  hash: source, code,
                            detail, body, digest, headers; copies and differing as in hr:event:<id>

What goes out
    hr:due:<target>         zset: event id by when it is due
    hr:leased:<target>      zset: event id by when its lease runs out; that time is the claim's token
    hr:dead:<target>        zset: event id by when it became a dead letter
    hr:lane:<target>:<t>    list: event ids of one transaction in an ordered target, in inbox order; only the
                            first of them is due, leased or (if it holds the others) dead
    hr:held:<target>        set: the <t> of those lanes whose first is a dead letter that holds the others
    hr:turn:<source>        string: which worker admits from a source that feeds an ordered target; expires
    hr:target:<target>      hash: state (`paused`, `disabled`; absent: active), reason, state_since;
                            failures (in a row), failing_since, trips, open_until (the breaker);
                            hour, done, failed, done_before, failed_before (attempts of this hour and of the
                            last); last_error, last_failed
    hr:rate:<target>        string: when the next delivery may go (microseconds), for a target with a rate;
                            expires when it limits nothing any more
    hr:targets              zset: target names by when a live process last had them in its configuration
    hr:sources              zset: source names, in the same way

How work is announced and kept
    hr:layout               string: the version of this layout (shared.store.layout)
    hr:rung:<doorbell>      string: this doorbell is outstanding; expires after a second
    headrace                list: Celery's queue, of doorbells
    hr:sweeper:<d>          string: which worker sweeps now, of those whose configuration has the same names
                            of sources and targets (<d> is a short digest of them); expires after a second
    hr:duty:<duty>:<d>      string: which worker has a duty, of those whose configuration has the same names:
                            `shares` (measures them, moves dead letters to disk), `retention`, `packing`,
                            `archive` or `keep`; expires after seconds
    hr:shares               hash: <d> → JSON (shared.store.shares.Verdict): which targets and sources are past
                            their share of memory, and what sources that left the configuration have in their
                            inboxes
    hr:archive              string: JSON (shared.store.archive_state.ArchiveState): how the archive takes up
                            what is finished; expires after a minute
    hr:ready                string: what the last readiness check wrote; expires after ten seconds
    hr:audit                stream: what operators did, the newest 10,000 or a few more, until the archive
                            has them (if there is one): `action`
                            (`replay`, `admit`), `user`, `selected` (JSON), and how many (JSON):
                            `deliveries` (of a replay: by target) or `requests` (admitted: by source)
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
        """The prefix of Celery's keys: empty under the default prefix, as in earlier versions."""
        return "" if self.prefix == PREFIX else self.prefix

    @property
    def queue(self) -> str:
        """Celery's queue of doorbells."""
        return self.celery + QUEUE

    @property
    def open(self) -> str:
        """The events that are open."""
        return f"{self.prefix}open"

    @property
    def finished(self) -> str:
        """The events that are finished and not packed."""
        return f"{self.prefix}finished"

    @property
    def packed(self) -> str:
        """The events that are finished and packed."""
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
        """How many events of unknown types each source has sent."""
        return f"{self.prefix}unknown"

    @property
    def targets(self) -> str:
        """When each target's name was last in a live process's configuration."""
        return f"{self.prefix}targets"

    @property
    def sources(self) -> str:
        """When each source's name was last in a live process's configuration."""
        return f"{self.prefix}sources"

    @property
    def shares(self) -> str:
        """Which targets and sources are past their share of memory."""
        return f"{self.prefix}shares"

    @property
    def archive(self) -> str:
        """How moving to the archive goes."""
        return f"{self.prefix}archive"

    def inbox(self, source: str) -> str:
        """The stream of requests that a source has received."""
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
        """The set of events that wait for a target."""
        return f"{self.prefix}due:{target}"

    def leased(self, target: str) -> str:
        """The set of events that are on their way to a target."""
        return f"{self.prefix}leased:{target}"

    def dead(self, target: str) -> str:
        """The set of a target's dead letters."""
        return f"{self.prefix}dead:{target}"

    def lane(self, target: str, transaction: str) -> str:
        """The list of one transaction's events in an ordered target."""
        return f"{self.prefix}lane:{target}:{transaction}"

    def held(self, target: str) -> str:
        """The set of a target's transactions that dead letters hold."""
        return f"{self.prefix}held:{target}"

    def target(self, name: str) -> str:
        """The hash of a target: its state, its breaker, its counts."""
        return f"{self.prefix}target:{name}"

    def turn(self, source: str) -> str:
        """The worker that admits from a source whose events must stay in order."""
        return f"{self.prefix}turn:{source}"

    def rate(self, target: str) -> str:
        """When the next delivery to a target with a rate may go."""
        return f"{self.prefix}rate:{target}"

    def sweeper(self, sources: Iterable[str], targets: Iterable[str]) -> str:
        """The worker that sweeps now, of those with these names in their configuration."""
        return f"{self.prefix}sweeper:{names_digest(sources, targets)}"

    def duty(self, name: str, digest: str) -> str:
        """The worker that has a duty, of those with the same names in their configuration."""
        return f"{self.prefix}duty:{name}:{digest}"

    def rung(self, doorbell: str) -> str:
        """The flag of a doorbell that is outstanding."""
        return f"{self.prefix}rung:{doorbell}"


def transaction(provider: str, transaction_id: str, source: str | None = None) -> str:
    """Return the end of the key of a transaction's index: what `Keys.transaction_index` takes.

    `source` is given if ids of this provider are unique only within their source.
    """
    # A quarter of SHA-256: two transactions may share an index, so readers compare the ids.
    digest = sha256(transaction_id.encode()).hexdigest()[:16]
    return f"{provider}:{digest}" if source is None else f"{provider}:{source}:{digest}"


def names_digest(sources: Iterable[str], targets: Iterable[str]) -> str:
    """Return a short digest of the names in a configuration."""
    names = f"{','.join(sorted(sources))};{','.join(sorted(targets))}"
    return sha256(names.encode()).hexdigest()[:16]
