"""Finding and reading the configuration file: TOML, with `${NAME}` and `${file:PATH}` filled in.

`redis.url = "embedded"` becomes the address of the embedded Redis that belongs to the file.
"""

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from shared.config.check import parse_config
from shared.config.errors import with_name
from shared.errors import ConfigError
from shared.process.folder import FOLDER, data_folder, socket_path
from shared.settings import EMBEDDED, Config

ENV = "HEADRACE_CONFIG"
DEFAULT = Path("headrace.toml")
DEMO = Path(FOLDER) / "headrace.toml"

TOO_DEEP = "nests deeper than any configuration does"

_VARIABLE = re.compile(r"\$\{([^}]*)\}")


def find_config(option: str | None, environ: Mapping[str, str] = os.environ) -> Path | None:
    """Return the file to read: `--config`, else `$HEADRACE_CONFIG`, else `./headrace.toml` if it is there.

    None if there is none: `headrace up` then runs the demo.
    """
    if option or environ.get(ENV):
        return Path(option or environ[ENV])
    return DEFAULT if DEFAULT.exists() else None


def find_running_config(option: str | None, environ: Mapping[str, str] = os.environ) -> Path | None:
    """Like `find_config`, for commands that ask what runs; without any, that of the demo in this folder."""
    return find_config(option, environ) or (DEMO if DEMO.exists() else None)


def given(path: Path | None) -> Path:
    """Return the file that was found. Raises: ConfigError if none was."""
    if path is None:
        raise ConfigError("", f"no configuration: give --config FILE, or set {ENV}")
    return path


def read_config(path: Path, environ: Mapping[str, str] = os.environ) -> Config:
    """Read and check a configuration file.

    Raises: ConfigError, which names the file and the key.
    """
    try:
        text = path.read_bytes().decode()
        tree = tomllib.loads(text)
    except OSError as error:
        raise ConfigError(str(path), f"cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(str(path), "is not UTF-8") from None
    except ValueError as error:  # TOMLDecodeError is one, and `int` raises one for too many digits
        raise ConfigError(str(path), f"is not TOML: {error}") from None
    except RecursionError:
        raise ConfigError(str(path), TOO_DEEP) from None
    try:
        config = parse_config(_fill(tree, "", environ, path.parent), path.parent)
    except RecursionError:
        raise ConfigError(str(path), TOO_DEEP) from None
    except ConfigError as error:
        named = with_name(error, tree)
        raise ConfigError(f"{path}: {named.path}" if named.path else str(path), named.problem) from None
    if config.redis.url == EMBEDDED:
        redis = msgspec.structs.replace(config.redis, url=f"unix://{socket_path(data_folder(path))}")
        config = msgspec.structs.replace(config, redis=redis)
    return config


def is_embedded(path: Path) -> bool:
    """Tell whether a configuration file asks for the embedded Redis."""
    redis = tomllib.loads(path.read_text()).get("redis", {})
    return bool(redis.get("url") == EMBEDDED)


def _fill(value: Any, path: str, environ: Mapping[str, str], folder: Path) -> Any:
    """Return `value` with the variables of every string in it filled in."""
    if isinstance(value, dict):
        return {key: _fill(item, f"{path}.{key}".lstrip("."), environ, folder) for key, item in value.items()}
    if isinstance(value, list):
        return [_fill(item, f"{path}[{i}]", environ, folder) for i, item in enumerate(value)]
    if isinstance(value, str):
        return _VARIABLE.sub(lambda match: _variable(match[1], path, environ, folder), value)
    return value


def _variable(name: str, path: str, environ: Mapping[str, str], folder: Path) -> str:
    if name.startswith("file:"):
        file = folder / name.removeprefix("file:")
        try:
            return file.read_text().rstrip("\r\n")
        except (OSError, ValueError):  # the content is not UTF-8, or the name cannot be a file's
            raise ConfigError(path, f"the file {str(file)!r} cannot be read") from None
    if not name:
        raise ConfigError(path, "names no variable: write ${NAME} or ${file:PATH}")
    if name not in environ:
        raise ConfigError(path, f"the environment variable {name} is not set")
    return environ[name]
