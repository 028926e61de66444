"""Models of few bits: trained on the numbers they are stored as, or calibrated after training."""

from entrenar_core.qat.config import QatConfig as QatConfig
from entrenar_core.qat.model import QuantizedModel as QuantizedModel
from entrenar_core.qat.model import prepare as prepare
from entrenar_core.qat.places import Matrix as Matrix
from entrenar_core.qat.places import matrices as matrices
from entrenar_core.qat.schedule import LowerBits as LowerBits
from entrenar_core.qat.schedule import MoreMatrices as MoreMatrices
from entrenar_core.qat.schedule import Schedule as Schedule
