"""Applies a changed configuration file while the process runs."""

import os
import stat
from operator import attrgetter
from pathlib import Path

import structlog

from shared.config.file import read_config
from shared.errors import ConfigError
from shared.settings import Config

log = structlog.get_logger()

NEED_RESTART = (
    "redis.url",
    "redis.prefix",
    "redis.require_aof",
    "redis.wait_replicas",
    "ingress.host",
    "ingress.port",
    "retention.max_answer_bytes",
)
"""Keys that a running process cannot change: it logs that it must be restarted."""

EMPTIED = "has neither sources nor targets any more"


class ConfigFile:
    """A configuration and the file that it was read from.

    A change of the file shows in its time, size and inode. It is applied once two checks in a row find the
    same: half a file may be valid TOML that lacks half of the targets. Files that `${file:…}` names are not
    watched: after a change of a secret's file, send SIGHUP. A file that was emptied is a mistake and is never
    applied: every source would be unknown at once. Without `may_be_empty`, a start with such a file is a
    mistake, too. A pipe is not read: the process would wait for ever if nobody wrote to it.
    """

    def __init__(self, path: Path, *, may_be_empty: bool = True) -> None:
        """Read the file. Raises: ConfigError."""
        self.path = path
        self._seen = self._last = self._state()
        self.config = read_config(path)
        if is_empty(self.config) and not may_be_empty:
            raise ConfigError(str(path), EMPTIED)

    def reload(self, *, always: bool = False) -> bool:
        """Read the file again if it has changed (or `always`); return True if `config` is now another.

        A file that cannot be used changes nothing: the process keeps its configuration, and logs that once.
        """
        state, last = self._state(), self._last
        self._last = state
        if not always and (state == self._seen or state != last or state is None):
            return False
        self._seen = state
        try:
            if state is not None and not stat.S_ISREG(state[0]):
                raise ConfigError(str(self.path), "is no file any more")
            fresh = read_config(self.path)
            if is_empty(fresh) and not is_empty(self.config):
                raise ConfigError(str(self.path), EMPTIED)
        except ConfigError as error:
            log.error("configuration not reloaded: going on with the old one", problem=str(error))
            return False
        if fresh == self.config:
            return False
        for key in NEED_RESTART:
            value = attrgetter(key)
            if value(self.config) != value(fresh):
                log.warning("a change that needs a restart", key=key)
        self.config = fresh
        log.info("configuration reloaded", sources=len(fresh.sources), targets=len(fresh.targets))
        return True

    def _state(self) -> tuple[int, ...] | None:
        try:
            found = os.stat(self.path)
        except OSError:
            return None  # perhaps it is being replaced at this moment
        return found.st_mode, found.st_mtime_ns, found.st_size, found.st_ino


def is_empty(config: Config) -> bool:
    """Tell whether a configuration has neither sources nor targets."""
    return not config.sources and not config.targets
