"""Verifiable rewards, the router that picks them by task, and the loading and serving of plugins.

A reward is a plain function of one sample:

    f(completion: str, answer: dict, **row) -> float | None        # in [0, 1]; None = does not apply

`completion` is the text of the final answer (the CONCLUSION of a structured trace), `answer` the row's typed ground truth, and
`row` its other columns and the configured options. The rewards in `functions` never raise on, hang on or evaluate what a model
writes; only a broken *answer* (a data error) raises ValueError. `rewards.functions.builtins.BUILTINS` lists their short names.

Optional attributes of a reward function, built in or not:

    f.check_gold(answer: dict, row: dict) -> None   raises ValueError naming the field if the ground truth (or something
                                                    needed with it, such as an image size) cannot be used; called for
                                                    every row when data is loaded
    f.whole_text = True                             the function reads the whole completion, not just the conclusion
    f.many(completions, answers, rows) -> list      scores many samples at once, where that is faster
"""
