"""The methods of merging; importing this fills `merge.method.METHODS`."""

from entrenar_core.merge.methods import consensus as consensus
from entrenar_core.merge.methods import linear as linear
from entrenar_core.merge.methods import spherical as spherical
from entrenar_core.merge.methods import task_arithmetic as task_arithmetic
