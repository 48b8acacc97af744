"""What can be asked and done, over all that is kept: Redis and the disk read as one."""
