"""The configuration: its types, its file, its checks, and taking up a change."""
