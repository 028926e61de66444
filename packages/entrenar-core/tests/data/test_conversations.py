"""Where the answers of a conversation are, and which rows are none."""

import pytest

from chat_cases import CONVERSATIONS, TEMPLATES, chat_tokenizer, said, unmarked
from entrenar_common.errors import RefusedError
from entrenar_core.data.chat_template import ChatTemplate
from entrenar_core.data.conversations import conversation
from entrenar_core.data.readers import BadDocument, Row

pytestmark = pytest.mark.tier2

TOKENIZER = chat_tokenizer()


@pytest.fixture(scope="module")
def templates():
    """The templates, each compiled once, by name; those without marks too."""
    opened = {name: ChatTemplate.of(TOKENIZER, source) for name, source in TEMPLATES.items()}
    opened |= {
        f"{name}, unmarked": ChatTemplate.of(TOKENIZER, unmarked(source))
        for name, source in TEMPLATES.items()
    }
    yield opened
    for template in opened.values():
        template.close()


def read(messages, template, *, answers_only=True):
    return conversation(
        Row("rows.jsonl:3", {"messages": messages}, 9),
        messages,
        template,
        special=TOKENIZER.special_tokens,
        answers_only=answers_only,
    )


def answers(document):
    return [document.text[start:end] for start, end in document.answers]


@pytest.mark.parametrize("name", ["chatml", "llama2", "llama3", "mistral", "gemma", "qwen"])
def test_answers_are_found_where_marks_would_be(templates, name):
    compared = 0
    for title, messages in CONVERSATIONS.items():
        marked, found = (read(messages, templates[n]) for n in (name, f"{name}, unmarked"))
        if isinstance(marked, BadDocument):
            assert isinstance(found, BadDocument), title
        elif not isinstance(found, BadDocument):
            assert (found.text, answers(found)) == (marked.text, answers(marked)), title
            compared += 1
    assert compared >= 10


def test_the_end_of_a_line_after_the_token_that_ends_an_answer_is_not_the_answers(templates):
    found = read(said("Hi", "Hello!\n", "And?", "Yes"), templates["chatml, unmarked"])
    assert answers(found) == ["Hello!\n<|im_end|>", "Yes<|im_end|>"]


def test_spaces_that_no_special_token_follows_are_the_answers():
    source = "{% for m in messages %}{{ m.content }}\n{% endfor %}"
    with ChatTemplate.of(TOKENIZER, source) as template:
        assert answers(read(said("Hi", "Hello! "), template)) == ["Hello! \n"]


def test_a_template_that_writes_earlier_turns_differently_needs_marks():
    source = (
        "{% for m in messages %}{{ m.role }}:{{ m.content if loop.last or m.role == 'user' "
        "else 'cut' }}\n{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}"
    )
    with ChatTemplate.of(TOKENIZER, source) as template:
        assert answers(read(said("Hi", "Hello!"), template)) == ["Hello!\n"]
        found = read(said("Hi", "Hello!", "And?", "Yes"), template)
    assert isinstance(found, BadDocument)
    assert str(found.error).startswith("rows.jsonl:3: answer 1 (message 2) cannot be found")
    assert "{% generation %}" in str(found.error)


def test_a_prompt_for_an_answer_that_is_not_its_beginning_is_an_error():
    source = (
        "{% for m in messages %}{{ m.role }}:{{ m.content }}\n{% endfor %}"
        "{% if add_generation_prompt %}assistant:<think>{% endif %}"
    )
    with ChatTemplate.of(TOKENIZER, source) as template:
        found = read(said("Hi", "Hello!"), template)
    assert "what is before it differently" in str(found.error)


def test_a_template_that_cannot_render_a_beginning_is_an_error(templates):
    messages = [{"role": "assistant", "content": "Hello!"}, *said("Hi")]
    source = "{{ messages[0].content + '' }}"
    with ChatTemplate.of(TOKENIZER, source) as template:
        found = read(messages, template)
    assert "does not render a part of the conversation" in str(found.error)


def test_conversations_of_sharegpt_are_read_as_such(templates):
    turns = [("system", "Be brief."), ("human", "Hi"), ("gpt", "Hello!")]
    messages = [{"from": speaker, "value": text} for speaker, text in turns]
    found = read(messages, templates["chatml"])
    assert found == read(said("Hi", "Hello!", system="Be brief."), templates["chatml"])


BAD = {
    "the messages are null": None,
    "the messages are text, wanted a list": "Hi",
    "the messages are an object": {"role": "user"},
    "the list of messages is empty": [],
    "message 2 is text, wanted an object": [*said("Hi"), "Hello!"],
    "message 1 has no role": [{"content": "Hi"}],
    "message 1 has no role ": [{"role": 1, "content": "Hi"}],
    "message 1 is from 'critic'": [{"from": "critic", "value": "Hi"}],
    "message 1 has no value": [{"from": "human"}],
    "no answer": said("Hi"),
    "only user and assistant roles": [{"role": "critic", "content": "Hi"}, *said("Hi", "Hello!")],
}


@pytest.mark.parametrize("problem", BAD)
@pytest.mark.parametrize("name", ["mistral", "mistral, unmarked"])
def test_a_row_that_is_no_conversation_with_answers_is_bad(templates, name, problem):
    found = read(BAD[problem], templates[name])
    assert isinstance(found, BadDocument)
    assert str(found.error).startswith("rows.jsonl:3: ")
    assert problem.strip() in str(found.error)
    assert found.error.exit_code == 11


def test_half_of_a_surrogate_pair_is_a_bad_row(templates):
    found = read(said("Hi", "\ud83d"), templates["chatml"])
    assert "half of a surrogate pair" in str(found.error)


def test_without_answers_to_find_every_conversation_is_a_document(templates):
    found = read(said("Hi"), templates["chatml"], answers_only=False)
    assert found.text == "<|im_start|>user\nHi<|im_end|>\n"
    assert found.answers is None
    assert found.utf8_bytes == len(found.text)


def test_bytes_are_counted_of_answers_only(templates):
    found = read(said("Hi", "ä", "And?", "🙂"), templates["chatml"])
    assert found.utf8_bytes == len("ä<|im_end|>🙂<|im_end|>".encode())


def test_an_unsafe_template_is_refused_for_good():
    with (
        ChatTemplate.of(TOKENIZER, "{{ messages.__class__ }}") as template,
        pytest.raises(RefusedError),
    ):
        read(said("Hi", "Hello!"), template)
