"""Recording and replaying one command.

Listens for all requests of a command, as a forward proxy with a certificate authority of its own, and answers them
from a dispatcher or a capsule. The format of capsules is in `capsule`, messages on the terminal are in `commands`.

Begin with `recorder.py` and `replayer.py`, then `listeners.py`.
"""
