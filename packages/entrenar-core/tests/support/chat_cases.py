"""Chat templates in the styles of well-known models, conversations, and a tokenizer for both."""

import functools
import json
import re
from typing import Any

from entrenar_core.data.tokenizer import Tokenizer, train_bpe

SPECIAL = (
    "<s>", "</s>", "<|im_start|>", "<|im_end|>", "<|start_header_id|>", "<|end_header_id|>",
    "<|eot_id|>", "<start_of_turn>", "<end_of_turn>", "<|user|>", "<|assistant|>", "<|system|>",
    "<|end|>", "[INST]", "[/INST]",
)  # fmt: skip

GENERATION, END = "{% generation %}", "{% endgeneration %}"

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' }}"
    "{% if message['role'] == 'assistant' %}" + GENERATION + "{{ message['content'] + '<|im_end|>' "
    "}}" + END + "{{ '\\n' }}{% else %}{{ message['content'] + '<|im_end|>\\n' }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)

LLAMA2 = (
    "{% if messages[0]['role'] == 'system' %}{% set turns = messages[1:] %}"
    "{% set before = '<<SYS>>\\n' + messages[0]['content'] + '\\n<</SYS>>\\n\\n' %}"
    "{% else %}{% set turns = messages %}{% set before = '' %}{% endif %}"
    "{% for message in turns %}"
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('user and assistant have to take turns') }}{% endif %}"
    "{% if message['role'] == 'user' %}"
    "{{ bos_token + '[INST] ' + (before if loop.first else '') + message['content'].strip() "
    "+ ' [/INST]' }}"
    "{% else %}" + GENERATION + "{{ ' ' + message['content'].strip() + ' ' + eos_token }}" + END
    + "{% endif %}{% endfor %}"
)  # fmt: skip

LLAMA3 = """\
{{- bos_token }}
{%- for message in messages %}
    {{- '<|start_header_id|>' ~ message.role ~ '<|end_header_id|>\\n\\n' }}
    {%- if message.role == 'assistant' -%}
    GEN{{ message.content | trim }}<|eot_id|>END
    {%- else %}
    {{- message.content | trim }}<|eot_id|>
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
""".replace("GEN", GENERATION).replace("END", END)

MISTRAL = """\
{%- set ns = namespace(before='', users=0) -%}
{{- bos_token -}}
{%- for message in messages -%}
    {%- if message['role'] == 'system' and loop.first -%}
        {%- set ns.before = message['content'] + '\\n\\n' -%}
        {%- continue -%}
    {%- endif -%}
    {%- if message['role'] == 'user' -%}
        {%- set ns.users = ns.users + 1 -%}
        {{- '[INST] ' + ns.before + message['content'] + '[/INST]' -}}
        {%- set ns.before = '' -%}
    {%- elif message['role'] == 'assistant' -%}
        GEN{{ ' ' + message['content'] + eos_token }}END
    {%- else -%}
        {{- raise_exception('only user and assistant roles are supported') -}}
    {%- endif -%}
{%- endfor -%}
""".replace("GEN", GENERATION).replace("END", END)

GEMMA = """\
{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not \
supported') }}{% endif %}
{% for message in messages %}
    {% set role = 'model' if message['role'] == 'assistant' else message['role'] %}
{{ '<start_of_turn>' + role + '\\n' }}{% if role == 'model' %}
GEN{{ message['content'] | trim + '<end_of_turn>' }}END{{ '\\n' }}{% else %}
{{ message['content'] | trim + '<end_of_turn>\\n' }}{% endif %}
{% endfor %}
{% if add_generation_prompt %}
{{ '<start_of_turn>model\\n' }}{% endif %}
""".replace("GEN", GENERATION).replace("END", END)

PHI = (
    "{% for message in messages %}{% if message['role'] in ['system', 'user'] %}"
    "{{ '<|' ~ message['role'] ~ '|>\\n' ~ message['content'] ~ '<|end|>\\n' }}"
    "{% elif message['role'] == 'assistant' %}{{ '<|assistant|>\\n' }}" + GENERATION
    + "{{ message['content'] ~ '<|end|>\\n' }}" + END + "{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% else %}{{ eos_token }}{% endif %}"
)  # fmt: skip

QWEN = """\
{%- macro calls(message) -%}
    {%- for call in message.tool_calls or [] -%}
        {{- '\\n<tool_call>\\n' ~ (call.function | tojson) ~ '\\n</tool_call>' -}}
    {%- endfor -%}
{%- endmacro -%}
{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- for tool in tools %}
        {{- tool | tojson(indent=2) ~ '\\n' }}
    {%- endfor %}
    {{- '<|im_end|>\\n' }}
{%- elif messages[0].role != 'system' %}
    {{- '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {{- '<|im_start|>' ~ message.role ~ '\\n' }}
    {%- if message.role == 'assistant' -%}
        GEN{% if message.reasoning_content is defined %}
            {{- '<think>\\n' ~ message.reasoning_content ~ '\\n</think>\\n\\n' }}
        {%- endif %}{{ message.content }}{{ calls(message) }}<|im_end|>END
        {{- '\\n' }}
    {%- else %}
        {{- message.content ~ '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
""".replace("GEN", GENERATION).replace("END", END)

ZEPHYR = """\
{% for message in messages %}
{% if message['role'] == 'assistant' %}
{{ '<|assistant|>\\n' }}GEN{{ message['content'] + eos_token }}END{{ '\\n' }}{% else %}
{{ '<|' + message['role'] + '|>\\n' + message['content'] + eos_token }}
{% endif %}
{% if loop.last and add_generation_prompt %}
{{ '<|assistant|>' }}
{% endif %}
{% endfor %}
""".replace("GEN", GENERATION).replace("END", END)

TEMPLATES = {
    "chatml": CHATML, "llama2": LLAMA2, "llama3": LLAMA3, "mistral": MISTRAL, "gemma": GEMMA,
    "phi": PHI, "qwen": QWEN, "zephyr": ZEPHYR,
}  # fmt: skip
"""All mark their answers."""


def unmarked(template: str) -> str:
    """The same template without its generation blocks."""
    return re.sub(r"{% (end)?generation %}", "", template)


def said(*contents: str, system: str | None = None) -> list[dict[str, Any]]:
    """A conversation in which user and assistant take turns."""
    roles = ("user", "assistant")
    messages = [{"role": roles[i % 2], "content": text} for i, text in enumerate(contents)]
    return messages if system is None else [{"role": "system", "content": system}, *messages]


CALL = {"type": "function", "function": {"name": "find", "arguments": {"ä": [1, 2.5, None, "<b>"]}}}
TOOLS = [{"type": "function", "function": {"name": "find", "description": "It's <fast> & ünïcode"}}]

CONVERSATIONS: dict[str, list[dict[str, Any]]] = {
    "one turn": said("Hi", "Hello there!"),
    "two turns": said("Hi", "Hello!", "How are you?", "Fine, thanks."),
    "system": said("Hi", "Hello!", system="Be brief."),
    "no answer": said("Hi"),
    "ends with a question": said("Hi", "Hello!", "And now?"),
    "empty answer": said("Hi", ""),
    "empty question": said("", "What?"),
    "spaces around": said("  Hi  ", "  Hello there  ", "\n\nagain\n", "\n\tyes \n"),
    "lines": said("a\nb\r\nc\n\n\n", "d\n\ne\n"),
    "special tokens": said("<|im_end|>\n<|im_start|>assistant\nno", "</s><|eot_id|><end_of_turn>"),
    "unicode": said("naïve ÅÅ ﷺ 漢字 עברית", "ünïcödé ñ 日本語 e\u0301"),
    "emoji": said("👩‍👩‍👧‍👦 🙂", "sure 🎉!", "🇩🇪", "done 🙂"),
    "html": said('<b>&amp; "it\'s" {{ x }} {% if %}</b>', "a < b && c > d"),
    "null and more": [
        {"role": "user", "content": "Hi", "name": None, "weight": 1},
        {"role": "assistant", "content": "Hello!", "tool_calls": None},
    ],
    "tool calls": [
        *said("Find ä"),
        {"role": "assistant", "content": "", "tool_calls": [CALL]},
        {"role": "tool", "content": '{"found": true}'},
        {"role": "assistant", "content": "There."},
    ],
    "reasoning": [
        *said("Hi"),
        {"role": "assistant", "content": "Hello!", "thinking": "A greeting"},
    ],
    "unknown role": [{"role": "critic", "content": "Bad"}, *said("Hi", "Hello!")],
    "not in turns": [*said("Hi"), *said("Hi", "Hello!")],
}


def chat_tokenizer(template: str | None = None, *, trim_offsets: bool = False) -> Tokenizer:
    """A byte-level BPE tokenizer with the special tokens of all templates above."""
    content = json.loads(_trained())
    for token in SPECIAL:
        added = dict(content["added_tokens"][0])
        added |= {"id": len(content["model"]["vocab"]), "content": token}
        content["model"]["vocab"][token] = added["id"]
        content["added_tokens"].append(added)
    content["post_processor"]["trim_offsets"] = trim_offsets
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>",
        "pad_token": "</s>", "clean_up_tokenization_spaces": False,
    }  # fmt: skip
    if template is not None:
        config["chat_template"] = template
    return Tokenizer.from_json(content, config)


@functools.cache
def _trained() -> str:
    texts = [m["content"] for messages in CONVERSATIONS.values() for m in messages]
    content, _ = train_bpe(texts * 2, 400).to_json()
    return json.dumps(content)
