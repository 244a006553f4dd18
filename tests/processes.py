"""Processes for tests that have torch imported already: to import it anew takes seconds of a slow core.

They are forks of a server, one a worker of the suite, that has imported the project and computed nothing. Each is a
process of its own, with its own environment, folder, output and exit code; it can be killed like any other.
"""

import multiprocessing
import os
import signal
import sys
import threading
from multiprocessing.connection import Connection
from pathlib import Path
from subprocess import CompletedProcess
from types import ModuleType

ROOT = Path(__file__).resolve().parents[1]
SERVER = multiprocessing.get_context("forkserver")
# torch._dynamo: PyTorch imports its compiler at the first optimizer, which takes as long as torch itself.
SERVER.set_forkserver_preload(["torch", "torch._dynamo", "train", "evolve", "sampler", "pipeline.demo",
                               "pipeline.evaluate"])


SCRIPT = "import runpy, sys; runpy.run_path(sys.argv.pop(1), run_name='__main__')"     # as `python FILE ...` would


class Job:
    """Python code as a process, as subprocess.Popen([sys.executable, "-c", code, ...]) would run it."""

    def __init__(self, code: str, *arguments: str, cwd: Path = ROOT, fresh: bool = False, **env: str) -> None:
        """`env` comes on top of the environment; `fresh`: the project's own modules are not imported yet."""
        pipes = [SERVER.Pipe(duplex=False) for _ in range(2)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", **env}
        self.process = SERVER.Process(target=_run, args=(code, ["-c", *arguments], str(cwd), environment, fresh,
                                                         *(write for _, write in pipes)))
        self.process.start()
        self.stdout, self.stderr = (os.fdopen(os.dup(read.fileno())) for read, _ in pipes)
        for end in (end for pipe in pipes for end in pipe):
            end.close()

    @property
    def returncode(self) -> int | None:
        """The exit code; -N where signal N ended it, None while it runs."""
        return self.process.exitcode

    def poll(self) -> int | None:
        return self.returncode

    def send_signal(self, number: int) -> None:
        os.kill(self.process.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def wait(self, timeout: float = 900.0) -> int:
        self.process.join(timeout)
        if self.returncode is None:
            self.kill()
            raise TimeoutError(f"still running after {timeout} s")
        return self.returncode

    def communicate(self, timeout: float = 900.0) -> tuple[str, str]:
        """(all that it still writes to stdout, to stderr), and waits for its end."""
        said = ["", ""]

        def read(index: int) -> None:
            said[index] = (self.stdout, self.stderr)[index].read()

        readers = [threading.Thread(target=read, args=(index,)) for index in range(2)]
        for reader in readers:
            reader.start()
        self.wait(timeout)
        for reader in readers:
            reader.join()
        return said[0], said[1]

    def completed(self) -> CompletedProcess:
        """Waits for its end: the exit code and what it said."""
        stdout, stderr = self.communicate()
        return CompletedProcess([], self.returncode, stdout, stderr)


def _ours(module: ModuleType) -> bool:
    """Whether it is the project's own: under its folder, and not in a virtual environment that lies in it."""
    file = str(getattr(module, "__file__", None))
    return file.startswith(f"{ROOT}{os.sep}") and "site-packages" not in Path(file).parts


def _run(code: str, argv: list[str], cwd: str, env: dict[str, str], fresh: bool, stdout: Connection,
         stderr: Connection) -> None:
    """In the fork: become what `python -c code` is."""
    for number, pipe in ((1, stdout), (2, stderr)):
        os.dup2(pipe.fileno(), number)
        pipe.close()
    sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", buffering=1, closefd=False)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    sys.argv = argv
    sys.path[:0] = [str(ROOT), *env.get("PYTHONPATH", "").split(os.pathsep)]
    for name in [name for name, module in sys.modules.items() if fresh and name != "__mp_main__" and _ours(module)]:
        del sys.modules[name]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    exec(compile(code, "-c", "exec"), {"__name__": "__main__"})
    sys.stdout.flush()
