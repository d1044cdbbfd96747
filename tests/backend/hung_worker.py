"""A worker that hangs: it takes no orders and does not notice that its server wants it gone."""

import signal
import time

signal.signal(signal.SIGTERM, signal.SIG_IGN)
while True:
    time.sleep(60)
