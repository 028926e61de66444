"""What the entrenar tools share: errors, units, safe text, tables, progress and command lines.

Importing this package imports nothing else; take names from its modules, such as
`entrenar_common.errors`.
"""

__version__ = "0.1.0"
