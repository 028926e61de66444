"""Rendered conversations, their ids and the masks of their answers, beside transformers."""

import numpy as np
import pytest

from chat_cases import CONVERSATIONS, TEMPLATES, TOOLS, chat_tokenizer, said
from entrenar_common.errors import FormatError
from entrenar_core.data.chat_template import ChatTemplate
from entrenar_core.data.row_kinds import answer_mask

pytestmark = pytest.mark.parity

SNIPPETS = {
    "trimmed blocks": "{% if true %}\n  a\n{% endif %}\nb\n  {% if true %}c{% endif %}\n",
    "kept blocks": "  {%+ if true %}\n  a\n{%- endif +%}\nb",
    "comments": "a {# none #}\n{#- trimmed -#} b\n",
    "the last line's end": "a\n\n",
    "loop controls": "{% for i in range(9) %}{% if i == 2 %}{% continue %}{% endif %}"
    "{% if i == 5 %}{% break %}{% endif %}{{ i }}{% endfor %}",
    "a loop's variables": "{% for m in messages %}{{ loop.index }}/{{ loop.length }} "
    "{{ loop.previtem.role if not loop.first }}{{ loop.cycle('x', 'y') }}{% endfor %}",
    "an undefined variable": "[{{ nothing }}{{ nothing is defined }}{{ messages[0].nothing }}]",
    "a recursive loop": "{% for x in [[1, [2]], [3]] recursive %}"
    "{{ loop(x) if x is iterable else x }}{% endfor %}",
    "json": "{{ messages | tojson }}{{ {'b': '<é>', 'a': 1} | tojson(sort_keys=true) }}"
    "{{ [1, 'ü'] | tojson(indent=1, ensure_ascii=true, separators=(',', ':')) }}",
    "a namespace": "{% set n = namespace(x=1) %}{% for i in range(3) %}{% set n.x = n.x + i %}"
    "{% endfor %}{{ n.x }}",
    "dictionaries": "{{ dict(a=1, **{'b': 2}) }}{{ dict.fromkeys(['x', 'y'], 0) }}"
    "{% for k, v in {'a': 1}.items() %}{{ k }}={{ v }}{% endfor %}",
    "methods of text": "{{ ' a b '.strip().split() }}{{ 'a'.startswith('a') }}"
    "{{ '{} {x:>4}'.format(1, x=2) }}{{ '%s-%03d' % ('a', 7) }}{{ 'A'.lower() ~ 1 }}",
    "filters": "{{ ['b', 'a'] | sort | join('+') }}{{ ' x ' | trim }}{{ messages | length }}"
    "{{ messages | map(attribute='role') | list }}{{ 'abc' | replace('b', '') | upper }}"
    "{{ messages | selectattr('role', 'equalto', 'user') | list | count }}",
    "the filter that writes a block": "{% filter upper %}abc{% endfilter %}",
    "special tokens": "{{ bos_token }}{{ eos_token }}{{ pad_token }}{{ unk_token }}",
    "slices and negative indices": "{{ messages[-1].content }}{{ messages[1:] | length }}",
    "macros": "{% macro m(a, b=2) %}{{ a }}{{ b }}{{ caller() if caller }}{% endmacro %}"
    "{{ m(1) }}{% call m(3, b=4) %}x{% endcall %}",
    "tests": "{{ 1 is number }}{{ 'a' is string }}{{ messages is sequence }}{{ {} is mapping }}"
    "{{ none is none }}{{ 'a' in 'abc' }}",
    "what is not there": "{{ tools is none }}{{ documents is none }}{{ add_generation_prompt }}",
    "arithmetic": "{{ 7 // 2 }}{{ 7 % 4 }}{{ 2 ** 10 }}{{ 1.5 * 2 }}{{ 'ab' * 3 }}{{ [1] + [2] }}",
    "names that are no one's": "{{ _limit }}{{ environment }}{{ self is defined }}{{ size }}",
    "the year": "{{ strftime_now('%Y') }}",
    "escapes": "{{ 'a\\n\\u00e9\\t\"' }}{{ '<b>' | e }}",
    "raw": "{% raw %}{{ x }}{% endraw %}",
    "an error": "{{ raise_exception('no') }}",
    "an error of a type": "{{ 'a' + 1 }}",
    "an attribute of nothing": "{{ nothing.more }}",
}


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    """transformers' tokenizer of the files that ours writes."""
    transformers = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("tokenizer")
    chat_tokenizer().save(folder)
    return transformers.AutoTokenizer.from_pretrained(folder)


def expected(theirs, messages, template, **options):
    """Their text; None where they raise."""
    import jinja2

    try:
        return theirs.apply_chat_template(
            messages, chat_template=template, tokenize=False, **options
        )
    except (jinja2.TemplateError, TypeError):
        return None


def rendered(template, messages, **options):
    try:
        return template.render(messages, **options).text
    except FormatError:
        return None


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("prompt", [True, False])
def test_conversations_are_rendered_alike(theirs, name, prompt):
    source, tokenizer = TEMPLATES[name], chat_tokenizer()
    with ChatTemplate.of(tokenizer, source) as template:
        for tools in (None, TOOLS):
            options = {"add_generation_prompt": prompt, "tools": tools}
            for title, messages in CONVERSATIONS.items():
                found = rendered(template, messages, **options)
                assert found == expected(theirs, messages, source, **options), title


@pytest.mark.parametrize("name", SNIPPETS)
def test_everything_that_templates_do_is_done_alike(theirs, name):
    messages = said("Hi <b>", "Hello ü", "Bye")
    with ChatTemplate.of(chat_tokenizer(), SNIPPETS[name]) as template:
        found = rendered(template, messages)
    assert found == expected(theirs, messages, SNIPPETS[name])


@pytest.mark.parametrize("name", TEMPLATES)
def test_ids_and_masks_of_answers_are_theirs(theirs, name):
    source, tokenizer = TEMPLATES[name], chat_tokenizer()
    compared = 0
    with ChatTemplate.of(tokenizer, source) as template:
        for title, messages in CONVERSATIONS.items():
            if expected(theirs, messages, source) is None:
                continue
            whole = theirs.apply_chat_template(
                messages, chat_template=source, return_dict=True, return_assistant_tokens_mask=True
            )
            found = template.render(messages)
            ((ids, offsets),) = tokenizer.encode_spans([found.text], template=False)
            assert ids.tolist() == whole["input_ids"], title
            mask = answer_mask(offsets, found.answers).astype(int)
            assert mask.tolist() == whole["assistant_masks"], title
            compared += 1
    assert compared >= 12


def both_masks(theirs, tokenizer, source, messages):
    """The ids of a conversation, with our mask and with theirs."""
    whole = theirs.apply_chat_template(
        messages, chat_template=source, return_dict=True, return_assistant_tokens_mask=True
    )
    with ChatTemplate.of(tokenizer, source) as template:
        found = template.render(messages)
    ((ids, offsets),) = tokenizer.encode_spans([found.text], template=False)
    assert ids.tolist() == whole["input_ids"]
    return ids, answer_mask(offsets, found.answers), np.array(whole["assistant_masks"], bool)


def test_an_answer_that_ends_in_a_part_of_a_character_has_all_of_it(theirs):
    """transformers leaves out what is after the first token of the last character."""
    source = (
        "{% for m in messages %}{{ m.role }}:{% generation %}{{ m.content }}{% endgeneration %}"
        "{{ eos_token }}{% endfor %}"
    )
    tokenizer = chat_tokenizer()
    ids, ours, others = both_masks(theirs, tokenizer, source, said("x 🪿"))
    assert tokenizer.decode(ids[ours]) == "x 🪿"
    assert (others < ours).any()
    assert (others <= ours).all()


def test_an_answer_that_begins_with_a_space_of_no_token_is_not_lost(tmp_path):
    """transformers finds no token there, and leaves out this answer and those after it."""
    transformers = pytest.importorskip("transformers")
    tokenizer = chat_tokenizer(trim_offsets=True)
    tokenizer.save(tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    messages = said("Hi", "Hello there", "And?", "Fine")
    ids, ours, others = both_masks(theirs, tokenizer, TEMPLATES["mistral"], messages)
    assert tokenizer.decode(ids[ours]) == " Hello there</s> Fine</s>"
    assert not others.any()
