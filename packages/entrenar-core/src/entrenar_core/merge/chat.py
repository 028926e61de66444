"""The chat template of the result."""

from collections import Counter
from collections.abc import Iterable

from entrenar_common.errors import ConfigError
from entrenar_common.text import escape_controls, nearest
from entrenar_core.data.tokenizer import Tokenizer

SHORTEST = 20
"""Characters of a template. What is shorter is a mistake: it cannot say who speaks."""

CHATML = """\
{%- for message in messages -%}
    <|im_start|>{{ message.role }}{{ "\\n" }}{{ message.content }}<|im_end|>{{ "\\n" }}
{%- endfor -%}
{%- if add_generation_prompt -%}
    <|im_start|>assistant{{ "\\n" }}
{%- endif -%}
"""
"""OpenAI, "Chat Markup Language" (2023)."""

LLAMA3 = """\
{{- bos_token -}}
{%- for message in messages -%}
    <|start_header_id|>{{ message.role }}<|end_header_id|>{{ "\\n\\n" }}
    {{- message.content | trim }}<|eot_id|>
{%- endfor -%}
{%- if add_generation_prompt -%}
    <|start_header_id|>assistant<|end_header_id|>{{ "\\n\\n" }}
{%- endif -%}
"""
"""Meta, "Model Cards and Prompt formats: Meta Llama 3" (2024)."""

MISTRAL = """\
{{- bos_token -}}
{%- set turns = namespace(before="") -%}
{%- for message in messages -%}
    {%- if message.role == "system" and loop.first -%}
        {%- set turns.before = message.content ~ "\\n\\n" -%}
    {%- elif message.role == "user" -%}
        {{ " [INST] " ~ turns.before ~ message.content ~ " [/INST]" }}
        {%- set turns.before = "" -%}
    {%- elif message.role == "assistant" -%}
        {{ " " ~ message.content ~ eos_token }}
    {%- else -%}
        {{ raise_exception("no place for a message of " ~ message.role) }}
    {%- endif -%}
{%- endfor -%}
"""
"""Mistral AI, the first version of the format of its instruct models (2023): a system message is
the beginning of the first instruction."""

ALPACA = """\
{%- set titles = {"user": "### Instruction:\\n", "assistant": "### Response:\\n",
                  "system": "", "input": "### Input:\\n"} -%}
{%- for message in messages -%}
    {{ titles[message.role] ~ (message.content | trim) }}
    {%- if not loop.last or add_generation_prompt %}{{ "\\n\\n" }}{% endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{ titles.assistant }}
{%- endif -%}
"""
"""Taori et al., "Stanford Alpaca: An Instruction-following LLaMA model" (2023)."""

TEMPLATES = {"alpaca": ALPACA, "chatml": CHATML, "llama3": LLAMA3, "mistral": MISTRAL}
"""Templates by name, written from the definitions of the formats."""


def with_chat_template(
    tokenizer: Tokenizer, choice: str | None, *, models: Iterable[Tokenizer]
) -> Tokenizer:
    """`tokenizer` with the chat template that was chosen; itself where None is.

    A choice is "auto" (the template that most of `models` have, the first of several; nothing
    changes where none has one), a name in TEMPLATES, or the Jinja text. The text is not run.

    Raises ConfigError for what is none of them.
    """
    if not choice:
        return tokenizer
    template = _most_common(models) if choice == "auto" else _chosen(choice)
    return tokenizer if template is None else tokenizer.with_chat_template(template)


def _most_common(models: Iterable[Tokenizer]) -> str | None:
    found = Counter(text.strip() for model in models if (text := model.chat_template))
    return found.most_common(1)[0][0] if found else None


def _chosen(choice: str) -> str:
    if choice in TEMPLATES:
        return TEMPLATES[choice]
    if "{" in choice and len(choice) >= SHORTEST:
        return choice
    shown = escape_controls(choice if len(choice) <= 80 else choice[:80] + "...")
    close = nearest(choice, TEMPLATES)
    raise ConfigError(
        f"chat_template {shown!r} is no template and no name of one",
        hint=f"{f'did you mean {close}? ' if close else ''}There are auto, "
        f"{', '.join(sorted(TEMPLATES))}, and any Jinja text of {SHORTEST} characters or more",
    )
