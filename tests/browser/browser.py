"""Headless Chromium through chromedriver: the few WebDriver commands that the tests need.

Source: W3C WebDriver, and Chromium's own extensions (logs, DevTools commands).
"""
import base64
import contextlib
import json
import os
import pathlib
import shutil
import subprocess
import time
import urllib.error
import urllib.request

PATIENCE_S = 60  # a hang, not a speed, is what a wait of this length finds
KEYS = {"Enter": "\ue007", "Tab": "\ue004", "Escape": "\ue00c", "Left": "\ue012", "Right": "\ue014",
        "End": "\ue010", "Control": "\ue009"}


class Unavailable(Exception):
    """Chromium cannot run here."""


class Browser:
    """One window of one browser. Elements are named by CSS selectors."""

    def __init__(self, driver_url, session, process):
        self._base = f"{driver_url}/session/{session}"
        self._process = process

    def close(self):
        with contextlib.suppress(OSError):
            _call("DELETE", self._base)
        self._process.terminate()
        self._process.wait(PATIENCE_S)

    def _post(self, path, **body):
        return _call("POST", f"{self._base}/{path}", body)

    def open(self, url):
        self._post("url", url=url)

    def run(self, script, *arguments):
        """The value that the JavaScript function body `script` returns."""
        return self._post("execute/sync", script=script, args=list(arguments))

    def devtools(self, command, **parameters):
        return self._post("goog/cdp/execute", cmd=command, params=parameters)

    def log(self, kind):
        """What came into the log since it was read last: "browser" or "performance"."""
        return self._post("se/log", type=kind)

    def foreign_requests(self, origin):
        """The addresses that were asked since the last call, other than of `origin`."""
        events = [json.loads(entry["message"])["message"] for entry in self.log("performance")]
        asked = [event["params"]["request"]["url"] for event in events
                 if event["method"] == "Network.requestWillBeSent"]
        return [url for url in asked if not url.startswith(f"{origin}/")]

    def text(self, selector):
        return self.run("return document.querySelector(arguments[0]).textContent", selector)

    def click(self, selector):
        element = self._post("element", using="css selector", value=selector)
        self._post(f"element/{next(iter(element.values()))}/click")

    def press(self, *keys, hold=()):
        """Presses and releases keys: names of KEYS, or characters."""
        hold = [KEYS[name] for name in hold]
        actions = [{"type": "keyDown", "value": key} for key in hold]
        for key in keys:
            value = KEYS.get(key, key)
            actions += [{"type": kind, "value": value} for kind in ("keyDown", "keyUp")]
        actions += [{"type": "keyUp", "value": key} for key in reversed(hold)]
        self._post("actions", actions=[{"type": "key", "id": "keyboard", "actions": actions}])

    def wait(self, condition, what):
        """Until the JavaScript expression, or the function, is true; its value."""
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            value = condition() if callable(condition) else self.run(f"return {condition}")
            if value:
                return value
            time.sleep(0.03)
        raise AssertionError(f"waited in vain for {what}")

    def screenshot(self, path):
        """A picture of the window, as PNG."""
        picture = self.devtools("Page.captureScreenshot", format="png", optimizeForSpeed=False)
        pathlib.Path(path).write_bytes(base64.b64decode(picture["data"]))

    def set_window(self, width, height, dark=False, is_phone=False):
        self.devtools("Emulation.setDeviceMetricsOverride", width=width, height=height,
                      deviceScaleFactor=1, mobile=is_phone)
        self.devtools("Emulation.setEmulatedMedia", features=[
            {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}])


def _call(method, url, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
            return json.load(answer)["value"]
    except urllib.error.HTTPError as error:
        raise AssertionError(f"{url}: {json.load(error)['value']['message']}") from None


def _start_driver(folder):
    driver = shutil.which("chromedriver")
    if driver is None or shutil.which("chromium") is None:
        raise Unavailable("chromium and chromium-driver are not installed")
    process = subprocess.Popen([driver, "--port=0"], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL, text=True,
                               env=dict(os.environ, HOME=folder, TMPDIR=folder))
    for line in process.stdout:
        if "started successfully on port " in line:
            return process, f"http://127.0.0.1:{line.rsplit(' ', 1)[1].strip().rstrip('.')}"
    process.wait()
    raise Unavailable("chromedriver does not start")


def start(folder):
    """A browser that keeps what it writes in `folder`."""
    process, url = _start_driver(folder)
    arguments = ["--headless=new", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
                 "--disable-background-networking", "--disable-component-update", "--disable-sync",
                 f"--user-data-dir={folder}/profile"]
    if os.geteuid() == 0:
        arguments.append("--no-sandbox")  # it refuses to run as root with one
    options = {"browserName": "chrome",
               "goog:chromeOptions": {"binary": shutil.which("chromium"), "args": arguments},
               "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"}}
    try:
        answer = _call("POST", f"{url}/session", {"capabilities": {"alwaysMatch": options}})
    except (AssertionError, OSError) as error:
        process.terminate()
        process.wait()
        raise Unavailable(f"Chromium does not start: {str(error).splitlines()[0]}") from None
    started = Browser(url, answer["sessionId"], process)
    started.open("about:blank")  # instead of Chromium's own first page
    started.log("performance")
    return started
