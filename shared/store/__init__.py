"""All that talks to Redis. README.md says how Redis is used."""
