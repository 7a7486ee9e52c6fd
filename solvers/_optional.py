"""Solvers that somebody else wrote: packages of the extra ``oracle``, imported when used, and stopped by Ctrl-C."""

import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType


@contextmanager
def stopped_by_ctrl_c(stop: Callable[[], object]) -> Iterator[None]:
    """Let Ctrl-C stop a solver that runs meanwhile in the main thread; Python raises it once the solver has returned.

    Python acts on a signal only between two steps of its own, but tells a socket at once, where a thread listens. The
    solver's own handler, which would take the signal from Python, must be off; and the solver stays in its thread,
    because SCIP may crash in another.
    """
    if threading.current_thread() is not threading.main_thread():  # no signal comes here
        yield
        return
    ear, mouth = socket.socketpair()
    with ear, mouth:
        ear.settimeout(0.1)
        mouth.setblocking(False)
        listener = threading.Thread(target=_listen, args=(ear, stop), daemon=True)
        before = signal.set_wakeup_fd(mouth.fileno(), warn_on_full_buffer=False)
        try:
            listener.start()
            yield
        finally:
            signal.set_wakeup_fd(before)
            mouth.close()
            listener.join()


def _listen(ear: socket.socket, stop: Callable[[], object]) -> None:
    interrupted = False
    while True:
        try:
            heard = ear.recv(1)
            if not heard:
                return
            interrupted |= heard[0] == signal.SIGINT
        except TimeoutError:
            pass
        if interrupted:
            stop()  # again and again: the solver may not have begun when it was told first


def optional(name: str) -> ModuleType:
    """Import an optional package, or say which extra brings it."""
    from importlib import import_module

    try:
        return import_module(name)
    except ImportError:
        raise ImportError(
            f"this oracle needs {name.split('.')[0]}: install lola-deft with its extra 'oracle'"
        ) from None
