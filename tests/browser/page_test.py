#!/usr/bin/env python3
"""The page at / in headless Chromium, before the real binary: page_test.py BINARY SOURCE_DIR [CASE...]

Exits 77 where Chromium cannot start.
"""
import hashlib
import math
import os
import pathlib
import re
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True
os.environ["SLUICE_BINARY"] = str(pathlib.Path(sys.argv[1]).resolve())
os.environ["SLUICE_SOURCE_DIR"] = str(pathlib.Path(sys.argv[2]).resolve())
sys.path.insert(1, str(pathlib.Path(__file__).resolve().parent.parent / "cli" / "command_line"))

import browser  # noqa: E402
from load import Load, complete, status, wait_for_status  # noqa: E402
from support import BLOOM, LLAMA, SMALL, running_server  # noqa: E402

PHONE = (360, 740)
DESK = (1280, 900)
IDLE = "!document.getElementById('send').disabled"
TOKENS = "document.querySelectorAll('.answer .token')"
# The lowest contrast of AA: of small text, and of the lines around fields (WCAG 2.2, 1.4.3 and 1.4.11).
TEXT_CONTRAST, LINE_CONTRAST = 4.5, 3
# What is wrong with the contrast of each text, field and series that one can see.
CONTRAST_PROBLEMS = """
const [textContrast, lineContrast] = arguments;
const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
const rgba = (colour) => {
  canvas.clearRect(0, 0, 1, 1);
  canvas.fillStyle = colour;
  canvas.fillRect(0, 0, 1, 1);
  return [...canvas.getImageData(0, 0, 1, 1).data];
};
const luminance = (colour) => rgba(colour).slice(0, 3).map((c) => c / 255)
  .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
  .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
const ground = (element) => {
  for (let at = element; at; at = at.parentElement) {
    const colour = getComputedStyle(at).backgroundColor;
    if (rgba(colour)[3] === 255) return colour;
  }
  return 'white';
};
const contrast = (a, b) => {
  const [low, high] = [luminance(a), luminance(b)].sort((x, y) => x - y);
  return (high + 0.05) / (low + 0.05);
};
const problems = [];
const check = (element, colour, behind, least) => {
  const found = contrast(colour, behind);
  if (found < least) problems.push(`${element.tagName}.${element.className}#${element.id}: ${found.toFixed(2)}`);
};
for (const element of document.querySelectorAll('body *')) {
  if (!element.checkVisibility() || element.disabled || element.closest('.unseen')) continue;
  const style = getComputedStyle(element);
  const hasText = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
  if (hasText || element.matches('input, textarea, select')) {
    check(element, style.color, ground(element), textContrast);
  }
  if (element.matches('input:not([type=radio]), textarea, select, button:not(.plain):not(.main)')) {
    check(element, style.borderTopColor, ground(element.parentElement), lineContrast);
  }
  if (element.matches('.series')) check(element, style.stroke, ground(element), lineContrast);
}
return problems;
"""


class PageTest(unittest.TestCase):
    browser = server = None

    @classmethod
    def setUpClass(cls):
        cls.server = cls.enterClassContext(running_server("--model", LLAMA, "--model", BLOOM, *SMALL))

    def setUp(self):
        self.browser.set_window(*DESK)
        self.load(self.server)

    def tearDown(self):
        # Whatever a test did: nothing went anywhere else, and the console stayed empty.
        self.assertEqual(self.browser.foreign_requests(self.origin), [])
        self.assertEqual([entry for entry in self.browser.log("browser")
                          if " 401 " not in entry["message"] and " 400 " not in entry["message"]], [])
        self.browser.open("about:blank")  # before its server ends
        self.browser.log("performance")

    def load(self, server):
        self.target = server.http_target
        self.origin = f"http://{self.target}"
        self.browser.open(f"{self.origin}/")
        self.browser.wait("document.getElementById('health').textContent", "the status")

    def fill(self, **fields):
        for name, value in fields.items():
            self.browser.run("""
                const field = document.getElementById('form').elements[arguments[0]] ??
                  document.getElementById(arguments[0]);
                field.value = arguments[1];
                field.dispatchEvent(new Event('input', {bubbles: true}));
                field.dispatchEvent(new Event('change', {bubbles: true}));""", name, str(value))

    def wait_for_models(self):
        self.browser.wait("document.getElementById('model').value", "the models")

    def generate(self, **fields):
        self.wait_for_models()
        self.fill(**fields)
        self.browser.click("#send")
        self.browser.wait(f"{TOKENS}.length > 0 && {IDLE}", "the answer")
        return self.browser.text("#answers > :last-child .answer")

    def overflow(self):
        """By how many pixels the page is wider than the window."""
        return self.browser.run("const {scrollWidth, clientWidth} = document.documentElement;"
                                "return scrollWidth - clientWidth")


class PlaygroundTest(PageTest):
    def test_answers_with_the_text_of_the_api(self):
        asked = {"max_tokens": 60, "temperature": 0.7, "top_p": 0.9, "seed": 2**64 - 5}
        for model, prompt in (("llama-tiny", "The weather"), ("bloom-tiny", "人工智能的发展正在改变世界")):
            text = self.generate(model=model, input=prompt, **asked)
            wanted, _, num_tokens = complete(self.target, model=model, prompt=prompt, **asked)
            self.assertEqual(text, wanted)
            self.assertEqual(self.browser.text("#fact-seed"), str(asked["seed"]))
            self.assertEqual(self.browser.text("#fact-tokens"), str(num_tokens))
            profile = status(self.target)["models"][0]["profile"]
            self.assertEqual(self.browser.text("#fact-profile"), profile)

    def test_sends_every_knob(self):
        asked = {"max_tokens": 80, "min_p": 0.01, "top_k": 40, "presence_penalty": 0.5,
                 "frequency_penalty": 0.5, "repetition_penalty": 1.1, "temperature": 1.2, "top_p": 0.99,
                 "seed": 7}
        whole = complete(self.target, model="llama-tiny", prompt="A dog", **asked)[0]
        stop = whole[len(whole) // 2:][:6]
        text = self.generate(model="llama-tiny", input="A dog", stop=stop.replace("\n", "\\n"), **asked)
        self.assertEqual(text, complete(self.target, model="llama-tiny", prompt="A dog", stop=stop,
                                        **asked)[0])
        self.assertLess(len(text), len(whole))

    def test_streams(self):
        self.wait_for_models()
        with Load(self.target):
            wait_for_status(self.target, lambda now: now["running"] >= 16, "load")
            self.fill(max_tokens=480, input="The weather")
            self.browser.click("#send")
            seen = self.browser.wait(f"{TOKENS}.length", "the first token")
            self.assertLess(seen, 480)
            self.assertFalse(self.browser.run(f"return {IDLE}"))
            self.browser.wait(f"{TOKENS}.length > {seen}", "another token")
            self.browser.click("#stop-button")
            self.browser.wait(IDLE, "the end")

    def test_stop_cancels(self):
        self.wait_for_models()
        cancelled = status(self.target)["finished"].get("cancelled", 0)
        with Load(self.target):  # none of which is ever cancelled
            wait_for_status(self.target, lambda now: now["running"] >= 16, "load")
            self.fill(max_tokens=480, input="The weather", seed=11)
            # Pressed from within: half a second later there is nothing left to stop.
            self.browser.run(f"""
                const timer = setInterval(() => {{
                  if ({TOKENS}.length === 0) return;
                  clearInterval(timer);
                  document.getElementById('stop-button').click();
                }}, 5);""")
            self.browser.click("#send")
            self.browser.wait(f"{TOKENS}.length > 0 && {IDLE}", "the end")
            wait_for_status(self.target, lambda now: now["finished"].get("cancelled", 0) == cancelled + 1,
                            "the cancel")
        wait_for_status(self.target, lambda now: now["running"] == now["waiting"] == 0, "an idle server")
        self.assertEqual(self.browser.text("#fact-end"), "stopped")
        self.assertLess(int(self.browser.text("#fact-tokens")), 480)
        # What came can be had again, and goes on from there.
        part = self.browser.text("#answers .answer")
        self.browser.click("#again")
        self.browser.wait(f"{IDLE} && document.getElementById('compared').textContent", "the repeat")
        self.assertEqual(self.browser.text("#compared"), "The same text as before")
        self.assertTrue(self.browser.text("#answers .answer").startswith(part))

    def test_again_repeats_a_seed_that_was_drawn(self):
        text = self.generate(input="The weather", max_tokens=40, temperature=1.5)
        seed = self.browser.text("#fact-seed")
        self.browser.click("#again")
        self.browser.wait(f"{IDLE} && document.getElementById('compared').textContent", "the repeat")
        self.assertEqual(self.browser.text("#answers .answer"), text)
        self.assertEqual(self.browser.text("#fact-seed"), seed)
        self.assertNotEqual(self.generate(), text)
        self.assertNotEqual(self.browser.text("#fact-seed"), seed)

    def test_colours_say_the_probabilities(self):
        # Which tokens a seed draws differs with the kernels: one whose answer does not end by itself,
        # since an end token has no text to be shown with.
        for seed in range(3, 40):
            asked = {"max_tokens": 100, "temperature": 1.3, "top_p": 1, "seed": seed}
            logprobs = complete(self.target, model="llama-tiny", prompt="The weather", logprobs=5, **asked)[1]
            if len(logprobs["tokens"]) == 100:
                break
        self.generate(model="llama-tiny", input="The weather", **asked)
        shown = self.browser.run(f"return [...{TOKENS}].map((t) => [t.textContent, t.className])")
        self.assertEqual([text for text, _ in shown], logprobs["tokens"])
        bounds = [(0.9, "token p4"), (0.5, "token p3"), (0.2, "token p2"), (0.05, "token p1"), (0, "token p0")]
        wanted = [next(name for bound, name in bounds if math.exp(logprob) >= bound)
                  for logprob in logprobs["token_logprobs"]]
        self.assertEqual([name for _, name in shown], wanted)
        self.assertGreaterEqual(len(set(wanted)), 4)  # else this shows little
        self.assertEqual(self.browser.run("return document.querySelectorAll('.legend .token').length"), 5)

    def test_shows_alternatives_when_pointed_at_tapped_and_focused(self):
        self.generate(model="llama-tiny", input="The weather", max_tokens=20, temperature=0, seed=1)
        best = complete(self.target, model="llama-tiny", prompt="The weather", max_tokens=20, temperature=0,
                        logprobs=5)[1]["top_logprobs"]
        rows = "[...document.querySelectorAll('#token tr')].map((row) => row.cells[0].textContent)"

        def shows(token_idx):
            wanted = sorted(best[token_idx], key=best[token_idx].get, reverse=True)
            return self.browser.run(f"return {rows}") == [
                text.replace(" ", "␣").replace("\n", "⏎") or "(no text)" for text in wanted]

        self.browser.run(f"{TOKENS}[3].dispatchEvent(new PointerEvent('pointerover', {{bubbles: true}}))")
        self.assertTrue(shows(3))
        self.browser.run(f"{TOKENS}[5].click()")
        self.assertTrue(shows(5))
        self.browser.press("Right")
        self.assertTrue(shows(6))
        self.browser.press("End")
        self.assertTrue(shows(19))

    def test_chats(self):
        self.wait_for_models()
        self.fill(model="llama-tiny")
        self.browser.click("[value=chat]")
        asked = {"max_tokens": 30, "temperature": 0.7, "top_p": 0.9, "seed": 5}
        messages = [{"role": "system", "content": "Be brief"}]
        for said in ("The weather", "Why?"):
            messages.append({"role": "user", "content": said})
            text = self.generate(system="Be brief", input=said, **asked)
            self.assertEqual(text, complete(self.target, model="llama-tiny", messages=messages, **asked)[0])
            messages.append({"role": "assistant", "content": text})
        self.assertEqual(self.browser.run("return document.querySelectorAll('.turn').length"), 4)
        self.fill(input="And then?", top_p=7)  # refused: the conversation stays as it was
        self.browser.click("#send")
        self.browser.wait("!document.getElementById('problem').hidden && " + IDLE, "the refusal")
        self.assertEqual(self.browser.run("return document.querySelectorAll('.turn').length"), 4)
        self.assertEqual(self.browser.run("return document.getElementById('input').value"), "And then?")
        self.browser.click("#again")
        self.browser.wait(f"{IDLE} && document.getElementById('compared').textContent", "the repeat")
        self.assertEqual(self.browser.text("#compared"), "The same text as before")
        self.browser.click("#clear")
        self.assertEqual(self.browser.run("return document.querySelectorAll('.turn').length"), 0)

    def test_no_chat_without_a_template(self):
        self.browser.run("""
            const answer = window.fetch;
            window.fetch = async (path, ...rest) => {
              if (path !== '/v1/models') return answer(path, ...rest);
              const models = await (await answer(path, ...rest)).json();
              models.data[0].has_chat_template = false;
              return Response.json(models);
            };""")
        self.browser.run("document.querySelector('[value=chat]').click()")
        self.browser.run("""
            document.getElementById('forget-key').click();  // asks for the models again""")
        self.browser.wait("document.querySelector('[value=chat]').disabled", "no chat")
        self.assertFalse(self.browser.run("return document.getElementById('no-chat').hidden"))
        self.assertEqual(self.browser.text("#send"), "Generate")

    def test_names_the_field_that_is_wrong(self):
        self.wait_for_models()
        for name, value in (("top_p", 7), ("seed", "x"), ("max_tokens", 100000)):
            before = self.browser.run("return document.getElementById('form').elements[arguments[0]].value", name)
            self.fill(**{name: value})
            self.browser.click("#send")
            self.browser.wait("!document.getElementById('problem').hidden && " + IDLE, "the refusal")
            self.assertIn(name, self.browser.text("#problem"))
            self.assertEqual(self.browser.run("return document.activeElement.name"), name)
            self.assertEqual(self.browser.run("return document.activeElement.ariaInvalid"), "true")
            self.fill(**{name: before})
        self.generate()
        self.assertTrue(self.browser.run("return document.getElementById('problem').hidden"))


class AccessTest(PageTest):
    def focus_of(self):
        return self.browser.run("const at = document.activeElement; return at.id || at.name || at.className")

    def tab_to(self, name):
        for _ in range(40):
            self.browser.press("Tab")
            if self.focus_of() == name:
                return
        self.fail(f"Tab does not reach {name}")

    def test_the_keyboard_alone(self):
        self.wait_for_models()
        self.browser.press("Tab")
        self.assertEqual(self.focus_of(), "skip")
        self.tab_to("input")
        self.browser.press(*"!")
        self.tab_to("send")
        self.browser.press("Enter")
        self.browser.wait(f"{TOKENS}.length > 0 && {IDLE}", "the answer")
        self.assertEqual(self.focus_of(), "send")
        self.assertIn("tokens", self.browser.text("#progress"))
        first = "document.activeElement === document.querySelector('.answer .token')"
        for _ in range(40):
            self.browser.press("Tab")
            if self.browser.run(f"return {first}"):
                break
        self.assertTrue(self.browser.run(f"return {first}"))
        self.browser.press("Right")
        self.assertTrue(self.browser.run(f"return document.activeElement === {TOKENS}[1]"))
        self.assertGreaterEqual(self.browser.run("return document.querySelectorAll('#token tr').length"), 5)
        self.browser.press("Tab")  # one stop for all tokens
        self.assertEqual(self.focus_of(), "again")
        self.browser.press("Enter")
        self.browser.wait(f"{IDLE} && document.getElementById('compared').textContent", "the repeat")
        self.tab_to("input")
        self.browser.press("Enter", hold=("Control",))
        self.browser.wait(f"{IDLE} && !document.getElementById('compared').textContent", "another answer")

    def test_escape_stops(self):
        self.wait_for_models()
        with Load(self.target):
            wait_for_status(self.target, lambda now: now["running"] >= 16, "load")
            self.fill(max_tokens=480, input="The weather")
            self.browser.click("#send")
            self.browser.wait(f"{TOKENS}.length > 0", "the first token")
            self.assertEqual(self.focus_of(), "stop-button")
            self.browser.press("Escape")
            self.browser.wait(IDLE, "the end")
        self.assertEqual(self.browser.text("#fact-end"), "stopped")
        self.assertEqual(self.focus_of(), "send")

    def test_every_control_has_a_name(self):
        nodes = self.browser.devtools("Accessibility.getFullAXTree")["nodes"]
        roles = {"button", "textbox", "spinbutton", "combobox", "radio", "link", "image", "img"}
        seen = [node for node in nodes if not node.get("ignored") and node["role"]["value"] in roles]
        self.assertGreater(len(seen), 20)
        self.assertEqual([node for node in seen if not node.get("name", {}).get("value")], [])

    def test_contrast_and_width(self):
        self.generate(model="llama-tiny", input="The weather", temperature=1.3, top_p=1, seed=3)
        self.browser.run(f"{TOKENS}[4].focus()")
        for name, size, is_dark in (("light", DESK, False), ("dark", DESK, True), ("phone", PHONE, False),
                                    ("phone-dark", PHONE, True)):
            self.browser.set_window(*size, dark=is_dark, is_phone=size == PHONE)
            self.assertEqual(self.browser.run(CONTRAST_PROBLEMS, TEXT_CONTRAST, LINE_CONTRAST), [], name)
            self.assertEqual(self.overflow(), 0, name)
            ground = self.browser.run("return getComputedStyle(document.body).backgroundColor")
            self.assertEqual(ground == "rgb(18, 21, 22)", is_dark, name)
        self.browser.click("[value=chat]")
        self.generate(input="x" * 400, max_tokens=10)
        self.assertEqual(self.overflow(), 0)

    def test_reduced_motion(self):
        self.browser.devtools("Emulation.setEmulatedMedia", features=[
            {"name": "prefers-reduced-motion", "value": "reduce"}])
        moving = self.browser.run("""
            document.getElementById('answers').innerText = '';
            const turn = document.createElement('div');
            turn.className = 'turn';
            const answer = document.createElement('div');
            answer.className = 'answer';
            turn.append(answer);
            document.getElementById('answers').append(turn);
            document.getElementById('answers').ariaBusy = 'true';
            return getComputedStyle(answer, '::after').animationName""")
        self.assertEqual(moving, "none")


class StatusTest(PageTest):
    def number(self, tile):
        return float(self.browser.text(f"#tile-{tile}").replace(",", "").split("/")[0].split()[0])

    def test_moves_under_load(self):
        self.assertEqual(self.browser.text("#health"), "ready")
        with Load(self.target):
            self.browser.wait(lambda: self.number("running") >= 16, "running requests")
            self.browser.wait("!document.getElementById('tile-rate').textContent.startsWith('–')", "a rate")
            self.browser.wait(lambda: self.number("rate") > 0 and self.number("kv") > 0, "tokens and KV blocks")
            labels = "[...document.querySelectorAll('#plots svg')].map((plot) => plot.ariaLabel)"
            self.browser.wait(f"!{labels}.some((label) => label.includes('nothing yet'))", "every series")
        self.browser.wait(lambda: self.number("running") == 0, "an idle server")
        drawn = self.browser.run("return [...document.querySelectorAll('.series')].map((s) => s.getAttribute('d'))")
        self.assertEqual(len(drawn), 11)
        self.assertTrue(all("M" in path and "NaN" not in path for path in drawn), drawn)
        labels = self.browser.run(f"return {labels}")
        self.assertIn("running: 0 now, at most ", labels[0])
        batch = next(label for label in labels if label.startswith("Batch"))
        self.assertGreater(float(re.search(r"at most (\d+(?:\.\d+)?)", batch)[1]), 8, batch)

    def test_percentiles_are_of_the_difference(self):
        values = self.browser.run("""
            return import('/page/status.js').then(({quantile}) => {
              const bounds = [1, 2, 4];
              const snapshot = (...cumulative) => ({upper_bounds: bounds, cumulative});
              const none = snapshot(5, 5, 5, 5);
              return [quantile(none, none, 0.5), quantile(none, snapshot(5, 15, 15, 15), 0.5),
                      quantile(none, snapshot(15, 25, 25, 25), 0.5), quantile(none, snapshot(9, 9, 13, 13), 0.75),
                      quantile(none, snapshot(5, 5, 5, 6), 0.5), quantile(null, none, 0.5)];
            });""")
        self.assertEqual(values, [None, 1.5, 1, 3, 4, None])

    def test_text_and_tokens_are_matched(self):
        values = self.browser.run("""
            return import('/page/answer.js').then(({pieces}) => {
              const cut = (text, ...names) =>
                pieces(text, names.map((name) => ({text: name}))).map((piece) =>
                  `${piece.text}:${piece.tokens.map((token) => token.text).join('+')}`);
              return [cut('a b', 'a', ' b'), cut('aéb', 'a', '\\ufffd', '\\ufffd', 'b'), cut('He', 'Hello'),
                      cut('llo you', ' you'), cut('x'), cut('aa', 'a'), cut('ab', 'a', 'b', '')];
            });""")
        self.assertEqual(values, [["a:a", " b: b"], ["a:a", "é:\ufffd+\ufffd", "b:b"], ["He:Hello"],
                                  ["llo:", " you: you"], ["x:"], ["a:a", "a:"], ["a:a", "b:b+"]])


class KeyTest(PageTest):
    def setUp(self):
        self.browser.set_window(*DESK)
        folder = self.enterContext(tempfile.TemporaryDirectory())
        self.keys = pathlib.Path(folder, "keys")
        self.keys.write_text(f"{hashlib.sha256(b'open-sesame').hexdigest()} ali\n", encoding="ascii")

    def test_asks_for_the_key(self):
        server = self.enterContext(running_server("--model", LLAMA, *SMALL, "--api-keys", self.keys))
        self.load(server)
        self.browser.wait("!document.getElementById('key-form').hidden", "the key's field")
        self.assertIn("asks for an API key", self.browser.text("#key-message"))
        self.assertEqual(self.browser.text("#health"), "key needed")
        self.assertEqual(self.browser.run("return document.activeElement.id"), "key")
        self.browser.press(*"wrong", "Enter")
        self.browser.wait("document.getElementById('key-message').textContent.includes('not accept')", "a no")
        self.browser.run("document.getElementById('key').focus()")
        self.browser.press(*"open-sesame", "Enter")
        self.browser.wait("document.getElementById('key-form').hidden", "a yes")
        self.browser.wait("document.getElementById('health').textContent === 'ready'", "the status")
        self.generate(input="The weather", max_tokens=10)
        self.load(server)  # the tab keeps it
        self.generate(input="The weather", max_tokens=10)
        self.browser.click("#forget-key")
        self.browser.wait("!document.getElementById('key-form').hidden", "the key's field")
        self.assertEqual(self.browser.run("return sessionStorage.length + localStorage.length"), 0)


def main():
    loader = unittest.defaultTestLoader
    module = sys.modules[__name__]
    names = [f"{name}" for name in sys.argv[3:]]
    suite = loader.loadTestsFromNames(names, module) if names else loader.loadTestsFromModule(module)
    with tempfile.TemporaryDirectory() as folder:
        try:
            PageTest.browser = browser.start(folder)
        except browser.Unavailable as error:
            print(f"skipped: {error}")
            sys.exit(77)
        try:
            result = unittest.TextTestRunner(verbosity=2).run(suite)
        finally:
            PageTest.browser.close()
    sys.exit(0 if result.wasSuccessful() and result.testsRun > 0 else 1)


if __name__ == "__main__":
    main()
