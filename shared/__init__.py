"""What ingress, workers and the command line share. README.md says what lies where."""

__version__ = "0.1.0"
