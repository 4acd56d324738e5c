"""Verifiable rewards, plugin loading and the task router. Importing this package imports nothing heavy.

A reward is a plain function of one sample:

    f(completion: str, answer: dict, **row) -> float | None        # in [0, 1]; None = does not apply

`completion` is the text of the final answer (the CONCLUSION of a structured trace), `answer` the row's typed ground
truth, `row` its other columns and the options of the configuration. Whatever a model writes, a reward of this library
does not raise, hang or evaluate it. Only a broken *answer* (a data error) raises ValueError. `rewards.functions.builtins.BUILTINS`
maps the short names (`math`, `giou`, …) to the functions.

Three optional attributes of a reward function are conventions that other people's functions may use too:

    f.check_gold(answer: dict, row: dict) -> None   raises ValueError naming the field when the ground truth (or what is
                                                    needed to judge it, as an image size) cannot be used; called for every
                                                    row when data is loaded
    f.whole_text = True                             the function reads the whole completion (format, length, repetition),
                                                    not the conclusion alone
    f.many(completions, answers, rows) -> list      scores a batch at once, where that is faster (math: in parallel)
"""
