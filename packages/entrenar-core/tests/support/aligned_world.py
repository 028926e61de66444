"""Documents in the tokens of two tokenizers, with toy models of both."""

from byte_tokenizers import of_kind
from entrenar_core.data.batches import Batches
from entrenar_core.data.documents import TokenizedDocuments
from entrenar_core.data.spelling import Spelling
from entrenar_core.distill import Divergence
from entrenar_core.distill.aligned_batch import AlignedRows
from entrenar_core.distill.alignment import align
from entrenar_core.distill.cross_tokenizer import CrossTokenizerDistillation
from entrenar_core.distill.matching import match
from entrenar_core.testing import tiny_llama

PAIRS = [
    ("few merges", "many merges"),
    ("many merges", "bytes"),
    ("few merges", "pieces"),
    ("a template", "NFC"),
    ("pieces", "few merges"),
]

TEXTS = [
    "the cat and the dog see the other cats",
    "def encode(self, text): naïve café 漢字 🙂",
    "A red fox runs under the old tree; it sees the house.",
    "the",
    "the other dog sleeps under the other tree",
] * 3


class World:
    """Documents in the tokens of two tokenizers, their batches, and toy models."""

    def __init__(self, student, teacher, *, packing=True, seq_len=12, longest=64, dtype="float64"):
        self.student, self.teacher = of_kind(student), of_kind(teacher)
        sizes = [len(text.encode()) for text in TEXTS]
        names = [f"text {i}" for i in range(len(TEXTS))]
        documents = TokenizedDocuments.from_arrays(names, self.student.encode_many(TEXTS), sizes)
        spellings = Spelling(self.student), Spelling(self.teacher)
        self.alignment = align(TEXTS, documents, *spellings)
        self.rows = AlignedRows(self.alignment, self.teacher.eos_id, longest)
        self.matching = match(*spellings)
        self.batches = Batches(
            documents, seq_len=seq_len, batch_size=8, seed=0, packing=packing,
            eos_id=self.student.eos_id, pad_id=self.student.pad_id,
        )  # fmt: skip
        self.dtype = dtype

    def models(self):
        size = {"dtype": self.dtype, "max_position_embeddings": 64}
        student = tiny_llama(vocab_size=self.student.vocab_size, **size)
        return student, tiny_llama(vocab_size=self.teacher.vocab_size, seed=1, **size)

    def objective(self, models=None, *, alpha=0.7, **divergence):
        chosen = Divergence(**{"temperature": 2.0, **divergence})
        student, teacher = models or self.models()
        return CrossTokenizerDistillation(
            student, teacher, self.rows, self.matching, divergence=chosen, alpha=alpha
        )
