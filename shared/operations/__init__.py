"""What commands ask and do. Redis and the disk are read as one."""
