"""Has each process log a request's path (FAULTS_PATH), as a library may that quotes what it was given."""

import logging
import os
from typing import Any

from patching import after  # type: ignore[import-not-found]

_PATH = os.environ["FAULTS_PATH"]


def _said(module: Any) -> None:
    configure = module.configure

    def configured(*args: Any) -> None:
        configure(*args)
        logging.getLogger("library").warning("a library says %s", _PATH)
        module.log.info("a field holds it", tried=[{"url": f"https://hooks.example.com{_PATH}"}])
        module.log.bind(path=_PATH).info("it is bound")

    module.configure = configured


after("shared.process.logs", _said)
