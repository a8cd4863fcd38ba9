#!/usr/bin/env python3
"""Writes expected.json: templates over conversations, and snippets, as Transformers renders them.

Reads templates/*.jinja, conversations.json and snippets.json beside this file. The templates are
written out in the published styles; null stands for "raises". Needs transformers 4.57 and
Jinja 3.1:

    python tests/golden/chat/make_golden.py
"""

import datetime
import json
import pathlib

import transformers.utils.chat_template_utils as utils

HERE = pathlib.Path(__file__).resolve().parent
TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}


class FixedClock(datetime.datetime):
    """What strftime_now sees; tests/tokenizer/chat_test.cpp has the same moment."""

    @classmethod
    def now(cls, tz=None):
        return cls(2026, 3, 5, 14, 7, 9)


def render(source: str, conversation: dict) -> str | None:
    """The prompt, or None where Transformers raises."""
    variables = dict(conversation.get("variables", {}))
    try:
        prompts, _ = utils.render_jinja_template(
            conversations=[conversation["messages"]],
            tools=variables.pop("tools", None),
            documents=variables.pop("documents", None),
            chat_template=source,
            add_generation_prompt=conversation.get("add_generation_prompt", True),
            **TOKENS,
            **variables,
        )
        return prompts[0]
    except Exception:  # any of Jinja's or Python's
        return None


def main() -> None:
    utils.datetime = FixedClock
    conversations = json.loads((HERE / "conversations.json").read_text(encoding="utf-8"))
    snippets = json.loads((HERE / "snippets.json").read_text(encoding="utf-8"))
    expected = {"templates": {}, "snippets": []}
    for path in sorted((HERE / "templates").glob("*.jinja")):
        source = path.read_text(encoding="utf-8")
        expected["templates"][path.stem] = {
            each["name"]: render(source, each) for each in conversations
        }
    for source in snippets:
        prompt = render(source, conversations[3])
        expected["snippets"].append({"source": source, "expected": prompt})
    text = json.dumps(expected, ensure_ascii=False, indent=1)
    (HERE / "expected.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
