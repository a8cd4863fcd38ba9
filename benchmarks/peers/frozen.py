"""A process that runs in its turns only, so that it takes nothing from who is measured."""

import os
import signal
import subprocess


class FrozenProcess:
    """Started at once, frozen when it is ready, and running inside of `with`."""

    def __init__(self, command, **popen):
        self.command = [str(part) for part in command]
        self.process = subprocess.Popen(self.command, start_new_session=True, **popen)
        try:
            self.wait_until_ready()
        except BaseException:
            self.stop()
            raise
        self._signal(signal.SIGSTOP)

    def wait_until_ready(self):
        """Raises Failed if it will not be."""
        raise NotImplementedError

    def __enter__(self):
        self._signal(signal.SIGCONT)

    def __exit__(self, *_):
        self._signal(signal.SIGSTOP)

    def stop(self):
        if self.process.poll() is None:
            self._signal(signal.SIGKILL)
        self.process.wait()

    def _signal(self, number):
        os.killpg(self.process.pid, number)
