#!/usr/bin/env python3
"""Makes docs/images/page.png and page-phone.png: screenshots.py BINARY SOURCE_DIR

Takes three minutes: the plots show a load that comes and goes.
"""
import os
import pathlib
import random
import sys
import tempfile
import threading
import time

sys.dont_write_bytecode = True
os.environ["SLUICE_BINARY"] = str(pathlib.Path(sys.argv[1]).resolve())
os.environ["SLUICE_SOURCE_DIR"] = str(pathlib.Path(sys.argv[2]).resolve())
sys.path.insert(1, str(pathlib.Path(__file__).resolve().parent.parent / "cli" / "command_line"))

import browser  # noqa: E402
from load import complete  # noqa: E402
from support import LLAMA, SMALL, running_server  # noqa: E402

SECONDS = 180
PROMPT = "The sea was calm that morning, and"
SERVER = ["--model", LLAMA, *SMALL, "--max-num-seqs", "32"]


def load(target, seconds):
    """Requests at a rate that rises and falls."""
    draw = random.Random(1)
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        rate = 1 if int(left / 30) % 2 else 6
        body = {"prompt": PROMPT + " it" * draw.randrange(100), "n": draw.randrange(1, 9),
                "max_tokens": draw.randrange(20, 200)}
        threading.Thread(target=complete, args=(target,), kwargs=body).start()
        time.sleep(draw.expovariate(rate))


def fill(window, **fields):
    """As a person does: the page hears of it."""
    for name, value in fields.items():
        window.run("""const form = document.getElementById('form');
                      const field = form.elements[arguments[0]] ?? document.getElementById(arguments[0]);
                      field.value = arguments[1];
                      field.dispatchEvent(new Event('input', {bubbles: true}));
                      field.dispatchEvent(new Event('change', {bubbles: true}));
                   """, name, str(value))


def main():
    images = pathlib.Path(sys.argv[2], "docs", "images")
    images.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, running_server(*SERVER) as server:
        window = browser.start(folder)
        try:
            window.set_window(1200, 960)
            window.open(f"http://{server.http_target}/")
            load(server.http_target, SECONDS)
            threading.Thread(target=load, args=(server.http_target, 30)).start()
            fill(window, input=PROMPT, max_tokens=110, temperature=1, seed=7)
            window.click("#send")
            window.wait("document.getElementById('fact-end')", "the answer")
            window.run("document.querySelector('.answer .token.p0').focus({preventScroll: true})")
            window.screenshot(images / "page.png")
            window.set_window(360, 740, dark=True, is_phone=True)
            window.run("document.getElementById('settings').open = false; scrollTo(0, 0)")
            window.screenshot(images / "page-phone.png")
        finally:
            window.close()


if __name__ == "__main__":
    main()
