"""What a fork must not cut in two.

A forked child has one thread. What the other threads of its parent held at that moment, such as the
lock of a module that they were importing, is held in the child for ever.
"""

import os
import threading

# A process forks while nobody else has it.
uncut = threading.RLock()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=uncut.acquire, after_in_parent=uncut.release, after_in_child=uncut.release
    )
