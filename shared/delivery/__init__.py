"""What a delivery is made of: the request, its signature and headers, the waits, the verdict."""
