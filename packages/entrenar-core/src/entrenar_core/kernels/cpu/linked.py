"""Compiling what is only linked into kernels, and never called by itself.

numba optimizes each function together with all that it calls and turns it into machine code, then
does so once more for the function that calls it, and so on: what is five calls deep is compiled
five times over. The parts of kernels are put aside as they are typed instead, and are compiled with
the kernel, once.
"""

from typing import Any

from numba import _dynfunc  # pyright: ignore[reportAttributeAccessIssue]
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompilerBase, DefaultPassBuilder
from numba.core.compiler_machinery import LoweringPass, register_pass
from numba.core.typed_passes import NativeLowering


class _PartLibrary(JITCodeLibrary):
    """Code that other libraries take in."""

    def _optimize_functions(self, ll_module: Any) -> None:
        pass

    def _optimize_final_module(self) -> None:
        pass

    def _finalize_final_module(self) -> None:
        self._finalize_dynamic_globals()
        self._finalized = True


@register_pass(mutates_CFG=False, analysis_only=False)
class _OfferToCallers(LoweringPass):
    """What numba does with a function that is there to be called."""

    _name = "entrenar_offer_to_callers"

    def __init__(self) -> None:
        LoweringPass.__init__(self)

    def run_pass(self, state: Any) -> Any:
        lowered = state["cr"]
        name, text, nowhere = state.func_id.func_name, "a part of kernels", 0
        found = _dynfunc.make_function(
            lowered.fndesc.lookup_module(), name, text, nowhere, lowered.env, (state.library,)
        )
        state.targetctx.insert_user_function(found, lowered.fndesc, [state.library])
        state["cr"] = lowered._replace(cfunc=found)
        return True


class PartCompiler(CompilerBase):
    """A numba pipeline for functions that compiled code calls, and Python does not."""

    def define_pipelines(self) -> list[Any]:
        state = self.state
        state.flags.no_compile = True
        state.library = _PartLibrary(state.targetctx.codegen(), state.func_id.func_qualname)
        passes = DefaultPassBuilder.define_nopython_pipeline(state)
        passes.add_pass_after(_OfferToCallers, NativeLowering)
        passes.finalize()
        return [passes]


_LEFT_OUT = ("_optimize_functions", "_optimize_final_module", "_finalize_dynamic_globals")

PIPELINE: dict[str, Any] = (
    {"pipeline_class": PartCompiler}
    if all(hasattr(JITCodeLibrary, name) for name in _LEFT_OUT)
    else {}
)
"""The option of `numba.njit` for such functions; none where numba's libraries are made otherwise,
so that parts are compiled as numba does it, which takes longer."""
