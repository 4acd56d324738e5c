"""Operations on rows, by name."""

from __future__ import annotations

from data_recipes.records import RowOperation, SetOperation

OPERATIONS: dict[str, RowOperation | SetOperation] = {}
