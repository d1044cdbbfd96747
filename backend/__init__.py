"""The process that owns the compute device: command line, server, workers, job journal, avatar library."""
