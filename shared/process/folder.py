"""The data folder of a configuration file, and the socket of the embedded Redis in it.

The folder is `.headrace` beside the configuration file, or the file's own folder if that is its name. If its
path is too long for a socket, the socket lies in the temporary folder.
"""

import os
import tempfile
from hashlib import sha256
from pathlib import Path

FOLDER = ".headrace"
SOCKET_PATH_AT_MOST = 100


def data_folder(config: Path) -> Path:
    """Return where the embedded Redis of a configuration file keeps its data."""
    folder = config.absolute().parent
    return folder if folder.name == FOLDER else folder / FOLDER


def socket_path(folder: Path) -> Path:
    """Return the socket of the Redis of a data folder; always the same for the same folder."""
    path = folder.absolute() / "redis.sock"
    if len(os.fsencode(path)) <= SOCKET_PATH_AT_MOST:
        return path
    digest = sha256(os.fsencode(path)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"headrace-{os.getuid()}-{digest}" / "redis.sock"
