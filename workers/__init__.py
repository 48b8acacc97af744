"""The workers: they admit events from the inboxes and deliver them to targets."""
