"""Models from one file format to another, one tensor at a time."""

from entrenar_core.convert.export import Exported as Exported
from entrenar_core.convert.export import export as export
