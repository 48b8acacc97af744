"""Takes members out of an event on its way to a target. What is stored stays whole."""

import re
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from shared.errors import Unreadable
from shared.event import jsonbody
from shared.event.record import EventRecord
from shared.values import MemberPath

_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[{}\[\],]', re.DOTALL)
# What a string may begin with if it holds JSON that has members: an escape, too, for white space or a quote.
_JSON_BEGINS = b"{[ \\"
_text = msgspec.json.Decoder(str).decode


class Redaction:
    """What is taken out of the events of one source on their way to one target."""

    def __init__(self, paths: Iterable[str], read_from: Mapping[str, Sequence[str]]) -> None:
        """`paths` lead into the provider's JSON; one that is a single name may also be a party's role.

        `read_from` says from where in that JSON a field of the canonical data is read (`parties.buyer`). Such
        a field goes with what it is read from, and what a party is read from goes with its role.
        """
        self._paths = tuple(MemberPath(path) for path in dict.fromkeys(paths))
        # Each of these is a field of the data, if there is such a party, and the path that names it.
        self._roles = {f"parties.{path}": path for path in self._paths if path.names == (path,)}
        self._original = _Cutter()
        for path in self._paths:
            self._original.take(path, path)
        for field, places in read_from.items():
            for place in places:
                self._original.note(MemberPath(place), field)
                if field in self._roles:
                    self._original.take(MemberPath(place), self._roles[field])

    def __call__(self, record: EventRecord) -> EventRecord:
        """Return an event without what is at the paths.

        Its `data.redacted` lists those of the paths that took something away. If none did, the event itself
        is returned. All that stays is the same, byte for byte; a string that held JSON is written anew.
        """
        taken = _Taken()
        body = self._original.cut(record.body, taken)
        fields = _Cutter()
        for field in self._roles.keys() | taken.fields:
            fields.take(MemberPath(field), field)
        gone = _Taken()
        data = fields.cut(record.data, gone)
        found = taken.by | {self._roles[field] for field in gone.by & self._roles.keys()}
        if not found:
            return record
        redacted = msgspec.json.encode([str(path) for path in self._paths if path in found])
        data = data[:-1] + b',"redacted":' + redacted + b"}"
        return msgspec.structs.replace(record, body=body, data=data)


class _Taken:
    """What a cut took: by which paths, and the fields that are read from it."""

    def __init__(self) -> None:
        self.by: set[str] = set()
        self.fields: set[str] = set()


class _Step:
    """What follows a name of a path: the steps by name, the paths that end here, and the fields that are read
    here.
    """

    def __init__(self) -> None:
        self.next: dict[str, _Step] = {}
        self.ends: set[str] = set()
        self.fields: set[str] = set()


class _Container:
    """An object or a list that the scan is in. `steps` are those of its members, or of each item.

    `separator` is where its last comma stands, or the byte after its bracket. `empty`: no member of it has
    been kept so far.
    """

    __slots__ = ("empty", "is_object", "separator", "steps")

    def __init__(self, steps: list[_Step], *, is_object: bool, separator: int) -> None:
        self.steps = steps
        self.is_object = is_object
        self.separator = separator
        self.empty = True


class _Cutter:
    """Takes the members at some paths out of valid JSON.

    It goes through the text. To decode it, and encode what is left, would be shorter. But a decoder shows
    only the last of members with one name: nobody would see that another of them holds what is to go.
    """

    def __init__(self) -> None:
        self._top, self._anywhere = _Step(), _Step()

    def take(self, path: MemberPath, reported: str) -> None:
        """Take out what is at a path, and report it as `reported`."""
        self._step(path).ends.add(reported)

    def note(self, path: MemberPath, field: str) -> None:
        """Report `field` if what is at a path is taken out, by itself or inside of something else."""
        self._step(path).fields.add(field)

    def cut(self, body: bytes, taken: _Taken) -> bytes:
        """Return what is left of a body, and add to `taken` what was not."""
        steps = [step for step in (self._top, self._anywhere) if step.next]
        return self._cut(body, steps, taken, lost=False) if steps else body

    def _step(self, path: MemberPath) -> _Step:
        step = self._anywhere if path.anywhere else self._top
        for name in path.names:
            step = step.next.setdefault(name, _Step())
        return step

    def _cut(self, body: bytes, steps: list[_Step], taken: _Taken, *, lost: bool) -> bytes:
        """Return what is left of JSON from which `steps` lead on.

        `lost`: it stands in something that is taken out, so that nothing is left anyway.
        """
        kept: list[bytes] = []
        done = 0  # up to here, the body is in `kept`, or taken out
        inside: list[_Container] = []
        name_next = False
        losing: _Container | None = None  # the object of which a member is being taken out
        for token in _TOKEN.finditer(body):
            at = token.start()
            mark = body[at]
            if mark in b"{[":
                name_next = mark in b"{"
                inside.append(_Container(steps, is_object=name_next, separator=at + 1))
            elif mark in b'"' and name_next:
                name_next = False
                container = inside[-1]
                steps = self._below(container.steps, token[0])
                if not lost and losing is None:
                    ends = [step.ends for step in steps if step.ends]
                    if ends:
                        taken.by.update(*ends)
                        losing = container
                        kept.append(body[done : container.separator])
                    elif container.empty:
                        container.empty = False
                        if body[container.separator] in b",":
                            # All members before this one are taken out, so that it comes first now.
                            done = container.separator + 1
                if lost or losing is not None:
                    taken.fields.update(*(step.fields for step in steps))
            elif mark in b'"':
                if steps and body[at + 1] in _JSON_BEGINS:
                    inner = self._cut_text(token[0], steps, taken, lost=lost or losing is not None)
                    if inner is not None:
                        kept += [body[done:at], inner]
                        done = token.end()
            else:  # a comma or a closing bracket
                container = inside[-1]
                if container is losing:
                    losing = None
                    done = at
                if mark in b",":
                    container.separator = at
                    steps, name_next = container.steps, container.is_object
                else:
                    inside.pop()
        return b"".join([*kept, body[done:]])

    def _below(self, steps: list[_Step], name: bytes) -> list[_Step]:
        """Return the steps of the value of a member, which has this name as JSON."""
        if not steps:
            return steps
        text = _text(name)
        below = [step.next[text] for step in steps if text in step.next]
        return [*below, self._anywhere] if self._anywhere.next else below

    def _cut_text(self, string: bytes, steps: list[_Step], taken: _Taken, *, lost: bool) -> bytes | None:
        """Return a JSON string anew if it holds JSON of which something was taken out, else None."""
        inner = _text(string).encode()
        try:
            jsonbody.read(inner)
        except Unreadable:
            return None
        left = self._cut(inner, steps, taken, lost=lost)
        return None if left == inner else msgspec.json.encode(left.decode())
