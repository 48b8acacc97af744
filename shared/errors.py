"""The errors of Headrace: one small tree. No message ever holds a secret or a payload's values."""


class HeadraceError(Exception):
    """Every error that Headrace raises on purpose."""


class ConfigError(HeadraceError):
    """The configuration cannot be used. `path` is the key's path, `problem` what is wrong with it."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path}: {problem}" if path else problem)
        self.path = path
        self.problem = problem


class NotVerified(HeadraceError):
    """A request's credentials are missing or wrong: 401."""


class RepeatedCredentials(NotVerified):
    """A request carries its credentials more than once, so that two readers may see two senders: 400."""


class NoSuchSource(HeadraceError):
    """A request names no configured source, or carries a wrong path token: 404."""


class Unreadable(HeadraceError):
    """An adapter cannot read what an authenticated provider sent: the event goes to quarantine.

    `code` is a short stable word (`not-json`, `unknown-currency`, `binding-conflict` …); `detail`
    names the field and the rule, never the value found there.
    """

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail


class StoreUnavailable(HeadraceError):
    """Redis cannot be reached, or refuses, now. Try again later."""


class StoreDenied(StoreUnavailable):
    """Redis refuses this user, the password or a command, until an operator changes that."""


class StoreUnreadable(StoreUnavailable):
    """A record in Redis is damaged, or a later version of Headrace wrote it: until that version runs."""


class StoreUnfit(HeadraceError):
    """Redis could lose records (version, policy, persistence), or has records of a later version."""


class ArchiveUnavailable(HeadraceError):
    """The archive, or the file of dead letters, cannot be read or written now."""


class ArchiveRefused(ArchiveUnavailable):
    """The archive's database does not take one of the rows that it was given, and never will."""


class ArchiveSealed(ArchiveUnavailable):
    """What is asked for is encrypted, and cannot be read or searched with the keys of the configuration."""


class ArchiveBusy(ArchiveUnavailable):
    """Others use what is to be changed, for longer than the change may wait."""


class ArchiveUnfit(ArchiveUnavailable):
    """A later version of Headrace made the archive, or its user has not the rights that it needs."""


class ExportFailed(HeadraceError):
    """A file of an export cannot be written, or is not as it was written; the message names the file."""


class EgressError(HeadraceError):
    """A delivery attempt got no answer.

    `kind` is a short stable word: `address-refused`, `dns`, `connect`, `proxy`, `tls`, `timeout`,
    `protocol`.
    """

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(f"{kind}: {detail}")
        self.kind = kind
        self.detail = detail


class CommandFailed(HeadraceError):
    """A command cannot do what it was asked; the message says what, where and what to do."""
