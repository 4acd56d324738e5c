"""Official scoring rules as plain functions; each module names the code that it follows.

`extract(answer, record) -> prediction | None`: what a model's answer says; None where the rules find nothing in it.
`correct(prediction, record) -> score`: a number in [0, 1], or several by name. A prediction of None is scored by its rule, as
officially. Both take what a model wrote, so they never raise on it and run none of it.
"""
