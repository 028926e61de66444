"""Models that become one: the methods, mergekit's configs, and what writes the result."""

from entrenar_core.merge.models import MergeResult as MergeResult
from entrenar_core.merge.models import merge_models as merge_models
