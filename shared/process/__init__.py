"""What every long-lived process needs: logs, background tasks, a supervisor, and the embedded Redis."""
