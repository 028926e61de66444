"""Weights in few bits: formats, the arrays stored in them, and how well they do."""

from entrenar_core.quant.base import FORMATS as FORMATS
from entrenar_core.quant.base import Format as Format
from entrenar_core.quant.base import Stored as Stored
from entrenar_core.quant.base import dequantize as dequantize
from entrenar_core.quant.base import format_named as format_named
from entrenar_core.quant.base import quantize as quantize
from entrenar_core.quant.blocks import BY_NUMBER as BY_NUMBER
from entrenar_core.quant.blocks import BlockArray as BlockArray
from entrenar_core.quant.blocks import BlockFormat as BlockFormat
from entrenar_core.quant.error import QuantError as QuantError
from entrenar_core.quant.error import error_of as error_of
from entrenar_core.quant.error import quant_error as quant_error
from entrenar_core.quant.grain import Grain as Grain
from entrenar_core.quant.integers import Integer as Integer
from entrenar_core.quant.integers import IntegerArray as IntegerArray
from entrenar_core.quant.nf4 import NF4 as NF4
from entrenar_core.quant.nf4 import NF4Array as NF4Array
from entrenar_core.quant.observer import OBSERVERS as OBSERVERS
from entrenar_core.quant.observer import LeastError as LeastError
from entrenar_core.quant.observer import MinMax as MinMax
from entrenar_core.quant.observer import Observer as Observer
from entrenar_core.quant.observer import Percentile as Percentile
from entrenar_core.quant.observer import RunningRange as RunningRange
from entrenar_core.quant.panels import PanelArray as PanelArray
from entrenar_core.quant.panels import Panels as Panels
