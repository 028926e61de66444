"""Learning from a teacher model."""

from entrenar_core.distill.distiller import Distillation as Distillation
from entrenar_core.distill.feature_distiller import FeatureDistillation as FeatureDistillation
from entrenar_core.distill.several_teachers import MixedTeacher as MixedTeacher
from entrenar_core.distill.several_teachers import RoutedTeacher as RoutedTeacher
from entrenar_core.distill.teacher import LiveTeacher as LiveTeacher
from entrenar_core.distill.teacher import Teacher as Teacher
from entrenar_core.distill.vocabulary import Vocabulary as Vocabulary
from entrenar_core.distill.vocabulary import decide as decide
from entrenar_core.distill.vocabulary import shared_vocabulary as shared_vocabulary
from entrenar_core.kernels.divergences import DIVERGENCES as DIVERGENCES
from entrenar_core.kernels.divergences import Divergence as Divergence
