"""Operations on rows, by name. Each module lists its own."""

from __future__ import annotations

from data_recipes.operations import balance, decontaminate, dedup, rlvr, text_filters
from data_recipes.records import RowOperation, SetOperation
from data_recipes.teacher import recaption, traces, trajectories

OPERATIONS: dict[str, RowOperation | SetOperation] = {
    name: operation
    for module in (dedup, decontaminate, text_filters, balance, rlvr, traces, trajectories, recaption)
    for name, operation in module.OPERATIONS.items()
}
