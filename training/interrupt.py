"""Ctrl-C and SIGTERM while a run trains: the step under way is given up, the finished steps are saved, the run ends.

Leaves out: who saves what (train.py). Signals before the first step and after the last one keep their usual meaning.
"""

import os
import signal
import threading
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)
FIRST = "interrupted: the finished steps are being saved; a second signal stops at once, without that\n"


class Interrupted(KeyboardInterrupt):
    """A run that was asked to stop and has stopped; the message says what of it is kept. `code` is the exit status."""

    def __init__(self, message: str, code: int = 128 + signal.SIGINT) -> None:
        super().__init__(message)
        self.code = code


class Interrupt:
    """`with interrupt:` notes the first signal in `asked` instead of ending the process; a second one ends it at once.

    Python runs a handler between two operations of torch, so a signal counts once the operation under way is done. A
    signal that is ignored stays ignored, and outside the main thread of a program nothing is changed.
    """

    def __init__(self) -> None:
        self.asked = 0                                      # the signal's number; 0: none yet
        self._before: dict[int, object] = {}

    def __enter__(self) -> "Interrupt":
        if threading.current_thread() is threading.main_thread():
            wanted = [number for number in SIGNALS if signal.getsignal(number) not in (signal.SIG_IGN, None)]
            self._before = {number: signal.signal(number, self._note) for number in wanted}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            self.__exit__()
            signal.raise_signal(number)                     # as if nobody had listened
            return
        self.asked = number
        if os.environ.get("RANK", "0") == "0":
            os.write(2, FIRST.encode())                     # print could be the very call that the signal came into

    @property
    def code(self) -> int:
        """Exit status of a process that stopped for the signal; for SIGINT where another process was asked."""
        return 128 + (self.asked or signal.SIGINT)
