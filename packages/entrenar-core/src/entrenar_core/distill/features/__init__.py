"""Learning from what is inside a teacher: hidden states, attention, and relations between tokens.

The losses are functions of the features of a student and of a teacher (`models.features`), of the
mask (B, T) of the positions that count, and of a `normalizer`: what a loss is divided by, counted
over the whole optimizer step, so that cutting it into micro-batches changes nothing. What the mask
leaves out is never computed with. The teacher's features are constants.
"""

from entrenar_core.distill.features.attention import relation_divergence as relation_divergence
from entrenar_core.distill.features.attention import score_mse as score_mse
from entrenar_core.distill.features.counts import Counts as Counts
from entrenar_core.distill.features.hidden import attention_transfer as attention_transfer
from entrenar_core.distill.features.hidden import (
    attention_transfer_squared as attention_transfer_squared,
)
from entrenar_core.distill.features.hidden import hidden_cosine as hidden_cosine
from entrenar_core.distill.features.hidden import hidden_mse as hidden_mse
from entrenar_core.distill.features.hidden import patient_mse as patient_mse
from entrenar_core.distill.features.layers import EMBEDDINGS as EMBEDDINGS
from entrenar_core.distill.features.layers import RULES as RULES
from entrenar_core.distill.features.layers import LayerPair as LayerPair
from entrenar_core.distill.features.layers import check_pairs as check_pairs
from entrenar_core.distill.features.layers import layer_pairs as layer_pairs
from entrenar_core.distill.features.schedule import Schedule as Schedule
from entrenar_core.distill.features.structure import angle_relation as angle_relation
from entrenar_core.distill.features.structure import distance_relation as distance_relation
from entrenar_core.distill.features.structure import similarity_preserving as similarity_preserving
from entrenar_core.distill.features.term import FeatureTerm as FeatureTerm
from entrenar_core.distill.features.terms import attention_term as attention_term
from entrenar_core.distill.features.terms import embeddings_pair as embeddings_pair
from entrenar_core.distill.features.terms import hidden_term as hidden_term
