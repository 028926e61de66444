"""Models from one file format to another, one tensor at a time."""

from entrenar_core.convert.export import export as export
from entrenar_core.convert.exported import Exported as Exported
