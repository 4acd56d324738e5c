"""Operations on rows, by name. Each module lists its own."""

from __future__ import annotations

from data_recipes.operations import (
    balance,
    balance_moments,
    decontaminate,
    dedup,
    diversify,
    documents,
    rlvr,
    text_filters,
)
from data_recipes.records import RowOperation, SetOperation
from data_recipes.teacher import (
    dense_captions,
    moment_questions,
    preferences,
    recaption,
    screen,
    traces,
    trajectories,
)

OPERATIONS: dict[str, RowOperation | SetOperation] = {
    name: operation
    for module in (
        *(dedup, decontaminate, text_filters, documents, diversify, balance, balance_moments, rlvr),
        *(traces, trajectories, recaption, dense_captions, moment_questions, screen, preferences),
    )
    for name, operation in module.OPERATIONS.items()
}
