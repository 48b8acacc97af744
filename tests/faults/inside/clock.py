"""Moves this process's own clock by FAULTS_CLOCK_S seconds."""

import os
import time

_SHIFT_S = float(os.environ["FAULTS_CLOCK_S"])
_time, _time_ns = time.time, time.time_ns

time.time = lambda: _time() + _SHIFT_S
time.time_ns = lambda: _time_ns() + int(_SHIFT_S * 1e9)
