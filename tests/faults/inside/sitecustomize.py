"""Loaded first by every Python process of a gateway under test: puts in what FAULTS_INSIDE names.

The processes, and what they do when it goes wrong, are the real ones.
"""

import importlib
import os

for _name in os.environ.get("FAULTS_INSIDE", "").split():
    importlib.import_module(_name)
