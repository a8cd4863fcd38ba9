"""Load for the page's tests: requests that others make meanwhile."""
import contextlib
import http.client
import json
import threading
import time

from browser import PATIENCE_S


def status(target, key=None):
    """The server's /status."""
    connection = http.client.HTTPConnection(target, timeout=PATIENCE_S)
    with contextlib.closing(connection):
        connection.request("GET", "/status", headers={"Authorization": f"Bearer {key}"} if key else {})
        return json.load(connection.getresponse())


def complete(target, **body):
    """A completion or, with `messages`, a chat: its text, its logprobs and how many tokens it has."""
    path = "/v1/chat/completions" if "messages" in body else "/v1/completions"
    connection = http.client.HTTPConnection(target, timeout=PATIENCE_S)
    with contextlib.closing(connection):
        connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        answer = json.load(connection.getresponse())
    choice = answer["choices"][0]
    text = choice["message"]["content"] if "message" in choice else choice["text"]
    return text, choice["logprobs"], answer["usage"]["completion_tokens"]


class Load:
    """Keeps several requests of eight completions going, each to its end."""

    def __init__(self, target, num_requests=4):
        self._is_over = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(target,)) for _ in range(num_requests)]

    def _run(self, target):
        while not self._is_over.is_set():
            complete(target, model="llama-tiny", prompt="The weather", max_tokens=120, n=8, ignore_eos=True)

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._is_over.set()
        for thread in self._threads:
            thread.join(PATIENCE_S)


def wait_for_status(target, condition, what):
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        now = status(target)
        if condition(now):
            return now
        time.sleep(0.03)
    raise AssertionError(f"waited in vain for {what}: {now}")
