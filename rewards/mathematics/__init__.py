r"""Reading and comparing mathematical answers. Truths and answers go through the same steps:

    finding    finds the answer in a text
    markup     normalises Unicode and LaTeX markup, and splits the text into tokens
    grammar    parses tokens into a typed value (with expression, number and bracket grammars), as a whole or not at all
    units      what may follow a number: units with their size, percent, nouns
    values     the types
    compare    compares values by type; expressions that arithmetic cannot decide (equality) go to math-verify (pool, verify)

Nothing here evaluates text, raises on what a model writes (`Unreadable` does not leave the package) or takes long.
"""
