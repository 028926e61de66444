"""Sessions, drawn by hypothesis: any text that Python can hold, any figures."""

from hypothesis import strategies as st

from entrenar_shell.session import Entry, FileState, LoadedModel, Session

TEXT = st.text(st.characters(exclude_categories=()), max_size=12)
WHOLE = st.integers(0, 2**63 - 1)
SECONDS = st.floats(0, 1e12)

STATES = st.lists(st.builds(FileState, TEXT, WHOLE, WHOLE), max_size=2).map(tuple)
PLAIN = st.lists(st.lists(TEXT, max_size=3).map(tuple), max_size=2).map(tuple)
ENTRIES = st.builds(
    Entry,
    number=WHOLE,
    line=TEXT,
    plain=PLAIN,
    folder=TEXT,
    started=SECONDS,
    seconds=SECONDS,
    code=st.integers(0, 255),
    inputs=STATES,
    outputs=STATES,
    metrics=st.dictionaries(TEXT, st.floats(), max_size=2),
)
MODELS = st.lists(st.builds(LoadedModel, TEXT, TEXT), max_size=3).map(
    lambda models: {model.name: model for model in models}
)
SESSIONS = st.builds(
    Session,
    name=st.just("drawn"),
    models=MODELS,
    settings=st.dictionaries(TEXT, TEXT, max_size=2),
    entries=st.lists(ENTRIES, max_size=2),
)


def sample() -> Session:
    """A session with something of everything."""
    read, written = FileState("/a/t", 10, 1_700_000_000_000_000_000), FileState("/a/out", 20, 7)
    line = ("entrenar-distill", "export", "--input", "/a/t", "--output", "/a/out")
    entry = Entry(
        1, "export gguf out", (line,), "/a", 1.7e9, 0.25, 0, (read,), (written,), {"loss": 0.5}
    )
    return Session("work", {"t": LoadedModel("t", "/a/t")}, {"distillation.alpha": "0.7"}, [entry])
