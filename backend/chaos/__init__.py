"""Chaos: a server, its workers, two clients and a training, disturbed on a seeded schedule and watched meanwhile.

`run.py` is the course, `scene.py` what is disturbed, `faults.py` the table of faults, `watch.py` what must hold all the
time, `traffic.py` a client (a process of its own) that knows what each of its pictures must look like.
"""
