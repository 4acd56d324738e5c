"""Operations on rows, by name. Each module lists its own."""

from __future__ import annotations

from data_recipes.operations import rlvr
from data_recipes.records import RowOperation, SetOperation
from data_recipes.teacher import traces

OPERATIONS: dict[str, RowOperation | SetOperation] = {
    name: operation for module in (rlvr, traces) for name, operation in module.OPERATIONS.items()
}
