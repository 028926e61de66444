"""Learning from a teacher model."""

from entrenar_core.distill.aligned_batch import AlignedRows as AlignedRows
from entrenar_core.distill.alignment import Alignment as Alignment
from entrenar_core.distill.alignment import align as align
from entrenar_core.distill.classification import (
    ClassificationDistillation as ClassificationDistillation,
)
from entrenar_core.distill.classification import LabelClassification as LabelClassification
from entrenar_core.distill.cross_tokenizer import (
    CrossTokenizerDistillation as CrossTokenizerDistillation,
)
from entrenar_core.distill.cross_tokenizer import check_divergence as check_divergence
from entrenar_core.distill.cross_tokenizer import describe as describe
from entrenar_core.distill.distiller import Distillation as Distillation
from entrenar_core.distill.embedding import EmbeddingDistillation as EmbeddingDistillation
from entrenar_core.distill.embedding import new_projection as new_projection
from entrenar_core.distill.feature_distiller import FeatureDistillation as FeatureDistillation
from entrenar_core.distill.matching import match as match
from entrenar_core.distill.several_teachers import MixedTeacher as MixedTeacher
from entrenar_core.distill.several_teachers import RoutedTeacher as RoutedTeacher
from entrenar_core.distill.teacher import LiveTeacher as LiveTeacher
from entrenar_core.distill.teacher import Teacher as Teacher
from entrenar_core.distill.text_features import TextReading as TextReading
from entrenar_core.distill.text_teacher import KeptTextTeacher as KeptTextTeacher
from entrenar_core.distill.text_teacher import LiveTextTeacher as LiveTextTeacher
from entrenar_core.distill.text_teacher import TextTeacher as TextTeacher
from entrenar_core.distill.vocabulary import Vocabulary as Vocabulary
from entrenar_core.distill.vocabulary import decide as decide
from entrenar_core.distill.vocabulary import shared_vocabulary as shared_vocabulary
from entrenar_core.kernels.aligned import Matching as Matching
from entrenar_core.kernels.divergences import DIVERGENCES as DIVERGENCES
from entrenar_core.kernels.divergences import Divergence as Divergence
