"""Models of few bits: trained on the numbers they are stored as, or calibrated after training."""

from entrenar_core.qat.calibrate import InputStatistics as InputStatistics
from entrenar_core.qat.calibrate import calibrate as calibrate
from entrenar_core.qat.calibrate import ranges_of as ranges_of
from entrenar_core.qat.calibrate import squared_gradients as squared_gradients
from entrenar_core.qat.config import QatConfig as QatConfig
from entrenar_core.qat.mixed import Choice as Choice
from entrenar_core.qat.mixed import Option as Option
from entrenar_core.qat.mixed import choose as choose
from entrenar_core.qat.mixed import options_of as options_of
from entrenar_core.qat.model import QuantizedModel as QuantizedModel
from entrenar_core.qat.model import prepare as prepare
from entrenar_core.qat.places import Matrix as Matrix
from entrenar_core.qat.places import matrices as matrices
from entrenar_core.qat.schedule import LowerBits as LowerBits
from entrenar_core.qat.schedule import MoreMatrices as MoreMatrices
from entrenar_core.qat.schedule import Schedule as Schedule
from entrenar_core.qat.sensitivity import Sensitivity as Sensitivity
from entrenar_core.qat.sensitivity import sensitivities as sensitivities
