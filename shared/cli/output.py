"""placeholder until the commands land."""
from pathlib import Path
from shared.configfile import find_running_config
from shared.errors import ConfigError
def config_path(option: str | None) -> Path:
    path = find_running_config(option)
    if path is None:
        raise ConfigError("", "no configuration: give --config FILE, or set HEADRACE_CONFIG")
    return path
