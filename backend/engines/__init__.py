"""Where a server's workers compute: on this host (`local`), or on the machines of a Ray cluster (`ray_engine`)."""
