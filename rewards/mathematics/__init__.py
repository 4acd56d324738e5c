r"""Reading and comparing mathematical answers; truths and answers go through the same steps.

    find      the answer in a text: one rule
    markup    one form for Unicode and LaTeX markup, and tokens
    grammar   tokens to a typed value, whole or not at all
    units     what stands behind a number: units with their size, percent, nouns
    values    the types
    compare   values by type; expressions that arithmetic cannot decide are left to math-verify

Nothing here evaluates text, raises on a model's text (but `Unreadable`, which `read` turns into None) or takes long.
"""
