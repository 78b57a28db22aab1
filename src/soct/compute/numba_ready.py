"""Fills numba's registries when it is imported, which the first kernel of every process does otherwise.

For the one process that workers are forked from (`soct.pipeline.workers.executors`): 0.2 to 0.4 s per worker. It
compiles nothing and starts no thread. Nobody else imports it.
"""

from __future__ import annotations

from numba.core.registry import cpu_target

cpu_target.typing_context.refresh()
cpu_target.target_context.refresh()
