"""The fleet: admits events from the inbox and delivers them to targets."""
