"""The application that `celery -A workers` finds, for the configuration that `$HEADRACE_CONFIG` names.

Nothing else imports this module: it reads the configuration, and ends the process if that fails.
"""

from celery import Celery

from shared.config.file import ENV, find_config
from shared.config.reload import ConfigFile
from shared.errors import ConfigError
from workers.app import create_app
from workers.refusal import end_refused


def _app() -> Celery:
    path = find_config(None)
    try:
        if path is None:
            raise ConfigError("", f"no configuration: set {ENV}")
        return create_app(ConfigFile(path))
    except ConfigError as error:
        end_refused(error)


app = _app()
