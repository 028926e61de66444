"""What a chat template may do, and what becomes of one that does more."""

import json
import os
import signal
import threading

import pytest

from chat_cases import chat_tokenizer, said
from entrenar_common.errors import FormatError, RefusedError
from entrenar_core.data import chat_template
from entrenar_core.data.chat_template import MAX_SOURCE_BYTES, MAX_TEXT_BYTES, ChatTemplate
from entrenar_core.data.tokenizer import Tokenizer
from entrenar_core.data.tokenizer_from_gguf import tokenizer_json_from_gguf
from entrenar_core.data.tokenizer_gguf import gguf_tokenizer

pytestmark = pytest.mark.tier2

MESSAGES = said("Hi", "Hello!")

UNSAFE = {
    "a class": '{{ "".__class__ }}',
    "a class, and nothing done with it": '{% if "".__class__ is defined %}{% endif %}',
    "a class as an item": '{{ ""["__class__"] }}',
    "a class of a message": "{{ messages[0].__class__.__mro__ }}",
    "the globals of a function": "{{ lipsum.__globals__ }}",
    "the globals of a class": "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
    "the globals of ours": "{{ raise_exception.__globals__ }}",
    "the class of dict": "{{ dict.__class__ }}",
    "the class of namespace": "{{ namespace.__init__ }}",
    "the filter attr": '{{ ""|attr("__class__") }}',
    "the filter map": '{{ [""]|map(attribute="__class__")|list }}',
    "text that is formatted": '{{ "{0.__class__}".format(1) }}',
    "a format method that is passed on": '{{ ("{0.__class__}"|attr("format"))(1) }}',
    "text that is formatted of a map": '{{ "{a.__class__}".format_map({"a": 1}) }}',
    "a generator's frame": "{{ ([1]|map('string')).gi_frame }}",
    "a macro's code": "{% macro m() %}{% endmacro %}{{ m._func }}",
    "the template itself": "{{ self._TemplateReference__context }}",
    "a list that is changed": "{{ messages.append(1) }}",
    "a dictionary that is changed": "{{ messages[0].update({}) }}",
    "a name that begins with an underscore": "{% set n = namespace(_x=1) %}",
    "such a name in a dictionary": '{% set n = namespace({"__class__": 1}) %}',
}

LARGE = {
    "multiplied text": '{{ "a" * 200000000 }}',
    "a multiplied list": "{{ [1] * 200000000 }}",
    "text that multiplies": '{{ 200000000 * "a" }}',
    "added text": '{% set n = namespace(x="a" * 8000000) %}{{ n.x + n.x }}',
    "a power": "{{ 10 ** (10 ** 8) }}",
    "formatted text": '{{ "%900000000d" % 1 }}',
    "text formatted with a width that is given": '{{ "%*d" % (900000000, 1) }}',
    "a range": "{{ range(1000000000) }}",
    "output of a loop": '{% for i in range(9) %}{{ "a" * 1000000 }}{% endfor %}',
    "output of two bytes a character": '{{ "é" * 4500000 }}',
    "a block that is set": '{% set x = "a" * 4000000 %}{% set y %}{{ x }}{{ x }}{{ x }}{% endset %}'
    "{{ y }}",
}

ENDLESS = {
    "nested loops": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}"
    "{% endfor %}",
    "macros that call twice": "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}"
    "{% endmacro %}{{ m(60) }}",
    "one call": "{{ ([range(99999)|list] * 5000)|sum(start=[])|length }}",
    "a constant": '{{ "x"|wordwrap(1)|indent(1)|replace("x", "y")|center(900000000)|length }}',
    "words": "{{ lipsum(n=9999999) }}",
}


def render(source, **options):
    with ChatTemplate.of(chat_tokenizer(), source) as template:
        return template.render(MESSAGES, **options)


@pytest.mark.parametrize("name", UNSAFE)
def test_an_unsafe_access_is_refused(name):
    with pytest.raises(RefusedError, match=r"refused: it (accesses|sets) "):
        render(UNSAFE[name])


@pytest.mark.parametrize("name", LARGE)
def test_what_is_too_large_is_refused(name):
    with pytest.raises(RefusedError, match=r"makes|writes|[Rr]ange"):
        render(LARGE[name])


def test_digits_beside_what_is_formatted_are_not_its_width():
    source = '{{ "%3d of 900000000, %s" % (7, "é") }}'
    with ChatTemplate.of(chat_tokenizer(), source) as template:
        assert template.render(MESSAGES).text == "  7 of 900000000, é"


@pytest.mark.parametrize("name", ENDLESS)
def test_what_takes_too_long_is_ended(name, monkeypatch):
    monkeypatch.setattr(chat_template, "MAX_SECONDS", 0.3)
    with pytest.raises(RefusedError, match=r"more than 0\.3 s|too much memory"):
        render(ENDLESS[name])


def test_the_time_limit_is_two_seconds_of_the_processor():
    assert chat_template.MAX_SECONDS == 2
    with pytest.raises(RefusedError, match="it takes more than 2 s"):
        render(ENDLESS["nested loops"])


@pytest.mark.parametrize(
    "source",
    [
        "{% macro m(n) %}{{ m(n + 1) }}{% endmacro %}{{ m(0) }}",
        "{{ " + "(" * 60000 + ")" * 60000 + " }}",
        "{% if 1 %}" * 20000,
    ],
)
def test_deep_recursion_is_refused(source):
    with pytest.raises(RefusedError, match=r"recurses too deeply|ended its process"):
        render(source)


def test_text_that_doubles_itself_is_refused():
    # where memory is handed out slowly, the other limit may be reached first
    with pytest.raises(RefusedError, match=r"too much memory|more than 2 s"):
        render('{% set x = "aaaaaaaaaaaaaaaa" %}' + "{% set x = x ~ x %}" * 40)


def test_a_template_may_be_as_long_as_the_limit():
    fits = "a" * MAX_SOURCE_BYTES
    assert render(fits).text == fits
    with pytest.raises(RefusedError, match=f"{MAX_SOURCE_BYTES + 1} bytes, the limit is"):
        render(fits + "a")


def test_a_text_may_be_as_long_as_the_limit():
    half = MAX_TEXT_BYTES // 2
    source = '{% for i in range(2) %}{{ "a" * ' + str(half) + " }}{% endfor %}"
    assert len(render(source).text) == MAX_TEXT_BYTES


@pytest.mark.parametrize("source", ["{% if %}", "{{ x", "{% endfor %}", "{% generation %}"])
def test_what_is_no_template_is_an_error_of_the_format(source):
    with pytest.raises(FormatError, match="chat template: line 1: "):
        render(source)


def test_the_reason_of_a_template_that_raises_is_told():
    with pytest.raises(FormatError, match="only users may speak") as error:
        render("{{ raise_exception('only users may speak') }}")
    assert error.value.hint


def test_templates_cannot_read_files():
    with pytest.raises(FormatError, match="no loader"):
        render("{% include '/etc/passwd' %}")


def test_a_refusal_leaves_the_template_usable():
    source = '{{ "".__class__ if add_generation_prompt else "fine" }}'
    with ChatTemplate.of(chat_tokenizer(), source) as template:
        with pytest.raises(RefusedError):
            template.render(MESSAGES, add_generation_prompt=True)
        assert template.render(MESSAGES).text == "fine"


def test_what_json_cannot_say_is_an_error():
    with ChatTemplate.of(chat_tokenizer(), "x") as template:
        for value in (b"bytes", float("nan"), {1, 2}):
            with pytest.raises(FormatError, match="cannot be written as JSON"):
                template.render([{"role": "user", "content": value}])


def test_half_of_a_surrogate_pair_reaches_the_text():
    with ChatTemplate.of(chat_tokenizer(), "{{ messages[0].content }}") as template:
        assert template.render(said("\ud83d")).text == "\ud83d"


def test_threads_share_a_template():
    found: dict[int, list[str]] = {}
    with ChatTemplate.of(chat_tokenizer(), "{{ messages[0].content }}") as template:

        def work(number):
            found[number] = [template.render(said(f"{number}.{i}")).text for i in range(20)]

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == {number: [f"{number}.{i}" for i in range(20)] for number in range(4)}


def test_the_process_ends_with_the_template():
    with ChatTemplate.of(chat_tokenizer(), "x") as template:
        process = template._process
        assert process.poll() is None
    assert process.poll() is not None


def test_a_process_that_is_killed_is_a_refusal():
    with ChatTemplate.of(chat_tokenizer(), "x") as template:
        os.kill(template._process.pid, signal.SIGKILL)
        with pytest.raises(RefusedError, match="ended its process"):
            template.render(MESSAGES)


def test_a_tokenizer_without_a_template_is_an_error():
    with pytest.raises(FormatError, match="no chat template"):
        ChatTemplate.of(chat_tokenizer())


def test_of_templates_by_name_the_default_is_taken():
    named = [{"name": "tool_use", "template": "a"}, {"name": "default", "template": "b"}]
    tokenizer = chat_tokenizer()
    tokenizer._config["chat_template"] = named
    with ChatTemplate.of(tokenizer) as template:
        assert template.render(MESSAGES).text == "b"


def test_a_template_of_a_gguf_file_is_rendered_with_its_tokens():
    source = "{{ bos_token }}{{ messages[0].content }}{{ eos_token }}"
    keys = gguf_tokenizer(*chat_tokenizer(source).to_json())
    found = tokenizer_json_from_gguf({key: value.content for key, value in keys.items()})
    with ChatTemplate.of(Tokenizer.from_json(*found)) as template:
        assert template.render(MESSAGES).text == "<s>Hi</s>"


def test_tokens_are_known_by_the_names_that_the_files_give_them(tmp_path):
    chat_tokenizer().save(tmp_path)
    config = {"bos_token": {"content": "<s>"}, "image_token": "<|user|>", "unk_token": None}
    more = {"bos_token": "</s>", "eos_token": "<|end|>"}  # an older file, which says less
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    (tmp_path / "special_tokens_map.json").write_text(json.dumps(more))
    named = {"bos_token": "<s>", "eos_token": "<|end|>", "image_token": "<|user|>"}
    assert Tokenizer.load(tmp_path).named_tokens == named


def test_a_block_that_is_not_written_where_it_is_computed_is_an_error():
    source = "{% set x %}ab{% generation %}cd{% endgeneration %}{% endset %}ef{{ x }}"
    with pytest.raises(FormatError, match="inside a macro"):
        render(source)
